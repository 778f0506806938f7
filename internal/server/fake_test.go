package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

// fake is an engine with one container "c1", without a terminal, and one image
// "img". It writes down what it was asked for.
type fake struct {
	mu      sync.Mutex
	calls   []string
	created container.CreateRequest
	stop    api.StopOptions
	logs    api.LogsOptions
	filters api.Filters
	run     api.RunRequest
	rootfs  string
	window  [2]uint16

	waitGo chan struct{} // closed: the container exits
	tty    bool
	panics bool
	flood  int          // events at once
	ended  atomic.Int32 // floods that a client's leaving cut short
}

var _ Backend = (*fake)(nil)

const fakeID = "1111111111111111111111111111111111111111111111111111111111111111"

func (f *fake) call(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, what)
}

func (f *fake) find(what, ref string) error {
	f.call(what + " " + ref)
	if ref != "c1" && ref != fakeID {
		return errdefs.New(errdefs.NotFound, "No such container: %s", ref)
	}
	return nil
}

func (f *fake) ContainerCreate(_ context.Context, o api.CreateOptions, req container.CreateRequest) (container.CreateResponse, error) {
	f.created, f.rootfs = req, o.Rootfs
	if req.Image == "gone" || req.Image == "nope" {
		return container.CreateResponse{}, errdefs.New(errdefs.NotFound, "No such image: gone:latest")
	}
	return container.CreateResponse{ID: fakeID}, nil
}

func (f *fake) ContainerStart(_ context.Context, ref string) error {
	if ref == "started" {
		return errdefs.New(errdefs.NotModified, "container already started")
	}
	return f.find("start", ref)
}

func (f *fake) ContainerStop(_ context.Context, ref string, o api.StopOptions) error {
	f.stop = o
	return f.find("stop", ref)
}

func (f *fake) ContainerRestart(_ context.Context, ref string, o api.StopOptions) error {
	f.stop = o
	return f.find("restart", ref)
}

func (f *fake) ContainerKill(_ context.Context, ref, signal string) error {
	return f.find("kill "+signal, ref)
}
func (f *fake) ContainerPause(_ context.Context, ref string) error { return f.find("pause", ref) }
func (f *fake) ContainerUnpause(_ context.Context, ref string) error {
	return errdefs.New(errdefs.Conflict, "Container %s is not paused", ref)
}

func (f *fake) ContainerRename(_ context.Context, ref, name string) error {
	return f.find("rename "+name, ref)
}

func (f *fake) ContainerResize(_ context.Context, ref string, rows, cols uint16) error {
	f.window = [2]uint16{rows, cols}
	return f.find("resize", ref)
}

func (f *fake) ContainerUpdate(_ context.Context, ref string, c container.UpdateConfig) (container.UpdateResponse, error) {
	return container.UpdateResponse{}, f.find("update", ref)
}

func (f *fake) ContainerRemove(_ context.Context, ref string, o api.RemoveOptions) error {
	return f.find("remove", ref)
}

func (f *fake) ContainersPrune(_ context.Context, fl api.Filters) (container.PruneReport, error) {
	f.filters = fl
	return container.PruneReport{ContainersDeleted: []string{fakeID}, SpaceReclaimed: 7}, fl.Validate(api.ContainerPruneFilters)
}

func (f *fake) ContainerInspect(_ context.Context, ref string, size bool) (container.InspectResponse, error) {
	if f.panics {
		panic("a bug")
	}
	umask := uint32(0o27)
	return container.InspectResponse{
		ID: fakeID, Name: "/c1", Created: "2026-01-01T00:00:00Z", Path: "/bin/true", Args: []string{}, Driver: "overlay", Platform: "linux",
		State:      &container.State{Status: container.StateRunning, Running: true, Pid: 4, StartedAt: "2026-01-01T00:00:01Z", FinishedAt: "0001-01-01T00:00:00Z"},
		HostConfig: &container.HostConfig{NetworkMode: "bridge", Umask: &umask},
		Config:     &container.Config{Image: "img", Cmd: []string{"/bin/true"}, Tty: f.tty},
		NetworkSettings: &container.NetworkSettings{
			Ports: network.PortMap{network.MustParsePort("80/tcp"): []network.PortBinding{{HostIP: netip.MustParseAddr("0.0.0.0"), HostPort: "8080"}}},
			Networks: map[string]*network.EndpointSettings{
				"bridge": {IPAddress: netip.MustParseAddr("172.17.0.2"), IPPrefixLen: 16, Gateway: netip.MustParseAddr("172.17.0.1"), MacAddress: network.HardwareAddr{2, 0, 0, 0, 0, 1}},
				"own":    {Aliases: []string{"web"}},
			},
		},
		ImageManifestDescriptor: &ocispec.Descriptor{Size: 1},
	}, f.find("inspect", ref)
}

func (f *fake) ContainerList(_ context.Context, o api.ListOptions) ([]container.Summary, error) {
	if o.Size {
		o.Counted(time.Unix(1e9, 5).In(time.FixedZone("", 3600)))
	}
	f.filters = o.Filters
	if err := o.Filters.Validate(api.ContainerFilters); err != nil {
		return nil, err
	}
	if o.Limit == 99 {
		return nil, nil
	}
	return []container.Summary{{
		ID: fakeID, Names: []string{"/c1"}, Image: "img", Command: "/bin/true", Created: time.Now().Unix() - 60, State: container.StateRunning, Status: "Up About a minute",
		Ports:  []container.PortSummary{{IP: netip.MustParseAddr("0.0.0.0"), PrivatePort: 80, PublicPort: 8080, Type: "tcp"}},
		Labels: map[string]string{"a": "b"}, NetworkSettings: &container.NetworkSettingsSummary{}, Mounts: []container.MountPoint{},
		Health: &container.HealthSummary{Status: container.Healthy}, ImageManifestDescriptor: &ocispec.Descriptor{Size: 1},
	}}, nil
}

func (f *fake) ContainerTop(_ context.Context, ref, args string) (container.TopResponse, error) {
	return container.TopResponse{Titles: []string{"PID", "CMD"}, Processes: [][]string{{"4", "/bin/true"}}}, f.find("top "+args, ref)
}

func (f *fake) ContainerChanges(_ context.Context, ref string) ([]container.FilesystemChange, error) {
	if ref == "c2" {
		return nil, nil
	}
	return []container.FilesystemChange{{Kind: container.ChangeAdd, Path: "/a"}}, f.find("changes", ref)
}

func (f *fake) ContainerStats(_ context.Context, ref string, pair bool) (*container.StatsResponse, error) {
	return &container.StatsResponse{Name: "/c1", OSType: "linux"}, f.find(fmt.Sprintf("stats %v", pair), ref)
}

func (f *fake) ContainerStatsStream(_ context.Context, ref string, emit func(*container.StatsResponse) error) error {
	if err := f.find("stats stream", ref); err != nil {
		return err
	}
	for n := range 2 {
		if err := emit(&container.StatsResponse{Name: "/c1", NumProcs: uint32(n)}); err != nil {
			return err
		}
	}
	return nil
}

func (f *fake) StatsStream(_ context.Context, emit func([]*container.StatsResponse) error) error {
	return emit([]*container.StatsResponse{{Name: "/c1"}, {Name: "/c2"}})
}

func (f *fake) ContainerWait(_ context.Context, ref string, cond container.WaitCondition) (func(context.Context) (container.WaitResponse, error), error) {
	return func(ctx context.Context) (container.WaitResponse, error) {
		select {
		case <-f.waitGo:
			return container.WaitResponse{StatusCode: 3}, nil
		case <-ctx.Done():
			return container.WaitResponse{}, ctx.Err()
		}
	}, f.find("wait "+string(cond), ref)
}

func (f *fake) ContainerLogs(ctx context.Context, ref string, o api.LogsOptions, start func(bool) io.Writer) error {
	f.logs = o
	if err := f.find("logs", ref); err != nil {
		return err
	}
	w := start(f.tty)
	if f.tty {
		_, _ = io.WriteString(w, "raw\r\n")
		return nil
	}
	_, _ = api.NewFrameWriter(w, api.Stdout).Write([]byte("out\n"))
	_, _ = api.NewFrameWriter(w, api.Stderr).Write([]byte("err\n"))
	if o.Tail == "1" {
		return errdefs.New(errdefs.Internal, "the log is damaged")
	}
	if o.Follow {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (f *fake) ContainerAttach(_ context.Context, ref string, o api.AttachOptions, hijack Hijack) error {
	if err := f.find("attach", ref); err != nil {
		return err
	}
	c, buffered, err := hijack(f.tty)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	return f.echo(c, buffered)
}

// echo writes what it reads as stdout, to the end.
func (f *fake) echo(c net.Conn, buffered []byte) error {
	in := io.MultiReader(strings.NewReader(string(buffered)), c)
	w := io.Writer(api.NewFrameWriter(c, api.Stdout))
	if f.tty {
		w = c
	}
	_, err := io.Copy(w, in)
	return err
}

func (f *fake) ExecCreate(_ context.Context, ref string, req container.ExecCreateRequest) (string, error) {
	return "e1", f.find("exec "+strings.Join(req.Cmd, " "), ref)
}

func (f *fake) ExecStart(_ context.Context, id string, req api.ExecStartRequest, hijack Hijack) error {
	if id != "e1" {
		return errdefs.New(errdefs.NotFound, "No such exec instance: %s", id)
	}
	if req.Detach {
		return nil
	}
	c, buffered, err := hijack(req.Tty)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	return f.echo(c, buffered)
}

func (f *fake) ExecInspect(_ context.Context, id string) (container.ExecInspectResponse, error) {
	code := 0
	return container.ExecInspectResponse{ID: id, ExitCode: &code, ContainerID: fakeID, ProcessConfig: &container.ExecProcessConfig{}}, nil
}

func (f *fake) ExecList(context.Context, string) ([]api.ExecSummary, error) { return nil, nil }
func (f *fake) ExecKill(context.Context, string, string) error              { return nil }

func (f *fake) ExecResize(_ context.Context, id string, rows, cols uint16) error {
	f.window = [2]uint16{rows, cols}
	return nil
}

func (f *fake) ContainerRun(_ context.Context, req api.RunRequest, hijack Hijack, _ func(error) error) error {
	f.run = req
	if req.Create.Image == "gone" {
		return errdefs.New(errdefs.NotFound, "No such image: gone:latest")
	}
	c, _, err := hijack(false)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	code := 5
	_ = api.WriteRunStatus(c, api.RunStatus{ID: fakeID})
	_, _ = api.NewFrameWriter(c, api.Stdout).Write([]byte("hello\n"))
	return api.WriteRunStatus(c, api.RunStatus{ID: fakeID, ExitCode: &code})
}

func (f *fake) ImageLoad(_ context.Context, r io.Reader, quiet bool, platforms []ocispec.Platform, out func(jsonstream.Message)) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if string(b) == "bad" {
		return errdefs.New(errdefs.InvalidArgument, "archive: not a tar")
	}
	for _, p := range platforms {
		f.call("load " + p.Architecture)
	}
	out(jsonstream.Message{Stream: "Loaded image: img:latest\n"})
	return nil
}

func (f *fake) ImageList(_ context.Context, o api.ImageListOptions) ([]api.ImageSummary, error) {
	f.filters = o.Filters
	return []api.ImageSummary{{Summary: image.Summary{ID: "sha256:" + fakeID, Created: 1, Size: 42, SharedSize: -1, Containers: 1, Descriptor: &ocispec.Descriptor{}, Manifests: fakeManifests(o.Manifests)}}}, nil
}

// fakePlatforms refuses all that is not amd64, as the engine does in its words.
func fakePlatforms(wanted []ocispec.Platform) error {
	for _, p := range wanted {
		if p.Architecture != "amd64" {
			return errdefs.New(errdefs.NotFound, "not for %s", p.Architecture)
		}
	}
	return nil
}

func (f *fake) ImageInspect(_ context.Context, ref string, o api.ImageInspectOptions) (api.ImageInspect, error) {
	if err := fakePlatforms(o.Platforms); err != nil {
		return api.ImageInspect{}, err
	}
	if ref != "img" && ref != "host.example/a/img:1" {
		return api.ImageInspect{}, errdefs.New(errdefs.NotFound, "No such image: %s", ref)
	}
	return api.ImageInspect{InspectResponse: image.InspectResponse{ID: "sha256:" + fakeID, Os: "linux", Architecture: "amd64", Size: 42, Config: &dockerspec.DockerOCIImageConfig{}, Descriptor: &ocispec.Descriptor{}, Manifests: fakeManifests(o.Manifests)}}, nil
}

func fakeManifests(asked bool) []image.ManifestSummary {
	if !asked {
		return nil
	}
	return []image.ManifestSummary{{Kind: image.ManifestKindImage, Available: true}}
}

func (f *fake) ImageHistory(_ context.Context, _ string, platforms []ocispec.Platform) ([]image.HistoryResponseItem, error) {
	return nil, fakePlatforms(platforms)
}

func (f *fake) ImageTag(_ context.Context, ref, repo, tag string) error {
	f.call("tag " + ref + " " + repo + " " + tag)
	return nil
}

func (f *fake) ImageAttestations(_ context.Context, ref string, o api.ImageAttestationsOptions) ([]image.AttestationStatement, error) {
	f.call(fmt.Sprintf("attestations %d %q %v", len(o.Platforms), o.Types, o.Statement))
	raw := json.RawMessage(`{"a":1}`)
	if ref != "img" {
		return nil, errdefs.New(errdefs.NotFound, "No such image: %s", ref)
	}
	return []image.AttestationStatement{{PredicateType: strings.Join(o.Types, "+"), Statement: &raw}}, nil
}

func (f *fake) ImageRemove(_ context.Context, ref string, o api.ImageRemoveOptions) ([]image.DeleteResponse, error) {
	if err := fakePlatforms(o.Platforms); err != nil {
		return nil, err
	}
	f.call("rmi " + ref)
	return []image.DeleteResponse{{Untagged: ref}}, nil
}

func (f *fake) ImageDiff(_ context.Context, from, to string, emit func(api.ImageDiffMessage) error) error {
	if to == "nosuch" {
		return errdefs.New(errdefs.NotFound, "No such image: nosuch")
	}
	return emit(api.ImageDiffMessage{Total: &api.ImageDiffTotal{Added: 1}})
}

func (f *fake) ImageLayers(context.Context) ([]api.ImageLayers, error) { return nil, nil }

func (f *fake) ContainerLayers(_ context.Context, ref string) ([]api.ContainerBranch, error) {
	return []api.ContainerBranch{{Dir: "/d", Perm: "rw", Part: "container"}}, gone(ref)
}

func (f *fake) AddContainerLayer(_ context.Context, c api.BranchChange) error {
	f.call(fmt.Sprintf("add layer %+v", c))
	return gone(c.Container)
}

func (f *fake) ModifyContainerLayer(_ context.Context, c api.BranchChange) error {
	f.call(fmt.Sprintf("mod layer %+v", c))
	return gone(c.Container)
}

func (f *fake) RemoveContainerLayer(_ context.Context, ref, image, dir string) error {
	f.call(fmt.Sprintf("del layer %q %q %q", ref, image, dir))
	return gone(ref)
}

func (f *fake) ImageMount(_ context.Context, r api.ImageMountRequest) (api.ImageMount, error) {
	f.call("mount " + r.Image + " " + r.Target)
	return api.ImageMount{ID: "i", Name: r.Image, Path: "/m"}, nil
}

func (f *fake) ImageMounts(context.Context) ([]api.ImageMount, error) { return nil, nil }

func (f *fake) ImageUnmount(_ context.Context, name string, force bool) ([]api.ImageMount, error) {
	f.call(fmt.Sprintf("unmount %q %v", name, force))
	return nil, nil
}

func (f *fake) ImagePin(_ context.Context, ref string) error {
	f.call("pin " + ref)
	return nil
}

func (f *fake) ImageUnpin(_ context.Context, ref string) error {
	f.call("unpin " + ref)
	return nil
}

func (f *fake) ImageVerify(_ context.Context, r api.ImageVerifyRequest, emit func(api.ImageVerifyMessage) error) error {
	if slices.Contains(r.Images, "nosuch") {
		return errdefs.New(errdefs.NotFound, "No such image: nosuch")
	}
	for _, ref := range r.Images {
		if err := emit(api.ImageVerifyMessage{Image: &api.ImageVerified{ID: ref, Names: []string{}}}); err != nil {
			return err
		}
	}
	if slices.Contains(r.Images, "fails") {
		return errdefs.New(errdefs.Internal, "disk on fire")
	}
	return nil
}

func (f *fake) ImageImportEngine(_ context.Context, r api.ImageImportEngineRequest, out func(jsonstream.Message)) error {
	if r.Dir == "" {
		return errdefs.New(errdefs.InvalidArgument, "the path must be absolute")
	}
	for _, ref := range r.Images {
		out(jsonstream.Message{Stream: "Imported image: " + ref + "\n"})
	}
	return errdefs.New(errdefs.InvalidArgument, "the rest was not imported")
}

func (f *fake) ImageRepair(ctx context.Context, r api.ImageVerifyRequest, emit func(api.ImageVerifyMessage) error) error {
	f.call("repair " + strings.Join(r.Images, " "))
	return f.ImageVerify(ctx, r, emit)
}

func (f *fake) ImagesPrune(_ context.Context, fl api.Filters) (image.PruneReport, error) {
	return image.PruneReport{}, nil
}

func (f *fake) Info(context.Context) (system.Info, error) {
	return system.Info{ID: "E", Containers: 1, OSType: "linux", ServerVersion: "0.1", RegistryConfig: &registry.ServiceConfig{}, NRI: &system.NRIInfo{}, ContainerdCommit: system.Commit{ID: "x"}}, nil
}

func (f *fake) Version(context.Context) (system.VersionResponse, error) {
	return system.VersionResponse{
		Version: "0.1", APIVersion: "1.56", MinAPIVersion: "1.24", Os: "linux", Arch: "amd64",
		Components: []system.ComponentVersion{{Name: "Engine", Version: "0.1", Details: map[string]string{"ApiVersion": "1.56", "MinAPIVersion": "1.24", "Os": "linux", "Arch": "amd64"}}},
	}, nil
}

func (f *fake) DiskUsage(context.Context, api.DiskUsageOptions) (system.DiskUsage, error) {
	u := system.DiskUsage{ImageUsage: &image.DiskUsage{TotalSize: 42, TotalCount: 1, Items: []image.Summary{{ID: "i", Size: 42, Containers: 3}}}, BuildCacheUsage: &build.DiskUsage{}}
	return u, nil
}

func (f *fake) Events(ctx context.Context, since, until time.Time, fl api.Filters, emit func(events.Message) error) error {
	m := events.Message{Type: "container", Action: "start", Actor: events.Actor{ID: fakeID, Attributes: map[string]string{"image": "img", "name": "c1"}}, Scope: "local", Time: 1, TimeNano: 1e9}
	for range max(1, f.flood) {
		if err := emit(m); err != nil {
			f.ended.Add(1)
			return err
		}
	}
	if until.IsZero() {
		<-ctx.Done()
	}
	return ctx.Err()
}

func (f *fake) NetworkList(context.Context, api.Filters) ([]network.Summary, error) {
	return []network.Summary{{Network: network.Network{Name: "bridge", ID: fakeID, Driver: "bridge", Scope: "local"}}}, nil
}

func (f *fake) NetworkInspect(_ context.Context, ref, _ string) (network.Inspect, error) {
	if ref != "bridge" {
		return network.Inspect{}, errdefs.New(errdefs.NotFound, "network %s not found", ref)
	}
	return network.Inspect{Network: network.Network{Name: "bridge"}}, nil
}

func (f *fake) NetworkCreate(_ context.Context, r network.CreateRequest) (network.CreateResponse, error) {
	if r.Name == "taken" {
		return network.CreateResponse{}, errdefs.New(errdefs.Conflict, "network with name taken already exists")
	}
	return network.CreateResponse{ID: "made-" + r.Name}, nil
}

func (f *fake) NetworkRemove(_ context.Context, ref string) error {
	if ref == "bridge" {
		return errdefs.New(errdefs.Forbidden, "bridge is a pre-defined network and cannot be removed")
	}
	return nil
}

func (f *fake) ContainerPublish(_ context.Context, c api.PublishChange) error {
	if c.Container == "gone" || len(c.Add)+len(c.Remove) == 0 {
		return errdefs.New(errdefs.NotFound, "No such container: gone")
	}
	return nil
}

// gone is the error of a container that is not there.
func gone(ref string) error {
	if ref == "gone" {
		return errdefs.New(errdefs.NotFound, "No such container: gone")
	}
	return nil
}

func (f *fake) ContainerOptions(_ context.Context, c api.OptionsChange) error {
	if err := gone(c.Container); err != nil {
		return err
	}
	if c.Options["tare.net-rate-in"] != "1mbit" {
		return errdefs.New(errdefs.InvalidArgument, "options %v", c.Options)
	}
	return nil
}

func (f *fake) NetworkConnect(_ context.Context, ref string, r network.ConnectRequest) error {
	if r.Container == "gone" {
		return errdefs.New(errdefs.NotFound, "No such container: gone")
	}
	return nil
}

func (f *fake) NetworkDisconnect(_ context.Context, ref string, r network.DisconnectRequest) error {
	if r.Container == "out" {
		return errdefs.New(errdefs.Forbidden, "container out is not connected to network %s", ref)
	}
	return nil
}

func (f *fake) NetworkExplain(_ context.Context, o api.NetworkExplainOptions) (api.NetworkExplanation, error) {
	return api.NetworkExplanation{From: o.From, To: o.To, Proto: o.Port, Verdict: api.VerdictBlocked}, nil
}

func (f *fake) NetworksPrune(context.Context, api.Filters) (network.PruneReport, error) {
	return network.PruneReport{}, nil
}

func (f *fake) VolumeList(context.Context, api.Filters) (volume.ListResponse, error) {
	return volume.ListResponse{}, nil
}

func (f *fake) VolumeCreate(_ context.Context, r volume.CreateRequest) (volume.Volume, error) {
	return volume.Volume{Name: r.Name, Driver: "local", Scope: "local", Labels: r.Labels, Options: r.DriverOpts}, nil
}

func (f *fake) VolumeInspect(_ context.Context, name string) (volume.Volume, error) {
	if name == "gone" || name == "nope" {
		return volume.Volume{}, errdefs.New(errdefs.NotFound, "get %s: no such volume", name)
	}
	return volume.Volume{Name: name, Driver: "local", Scope: "local"}, nil
}

func (f *fake) VolumeRemove(_ context.Context, name string, force bool) error {
	if name == "used" && !force {
		return errdefs.New(errdefs.Conflict, "remove %s: volume is in use - [c]", name)
	}
	return nil
}

func (f *fake) VolumeClone(_ context.Context, r api.VolumeCloneRequest) (volume.Volume, error) {
	return volume.Volume{Name: r.Name, Mountpoint: r.Source}, nil
}

func (f *fake) VolumeRename(_ context.Context, r api.VolumeRenameRequest) (volume.Volume, error) {
	return volume.Volume{Name: r.Name, Mountpoint: r.Source}, nil
}

func (f *fake) VolumeExport(_ context.Context, name string, out io.Writer) error {
	if name == "gone" {
		return errdefs.New(errdefs.NotFound, "get %s: no such volume", name)
	}
	_, err := io.WriteString(out, "files of "+name)
	return err
}

func (f *fake) VolumeImport(_ context.Context, name string, files io.Reader, replace bool) (volume.Volume, error) {
	b, err := io.ReadAll(files)
	if !replace {
		return volume.Volume{}, errdefs.New(errdefs.Conflict, "volume %s is not empty", name)
	}
	return volume.Volume{Name: name, Mountpoint: string(b)}, err
}

func (f *fake) VolumePath(_ context.Context, name, path string) (container.PathStat, error) {
	if name == "gone" {
		return container.PathStat{}, errdefs.New(errdefs.NotFound, "get %s: no such volume", name)
	}
	return container.PathStat{Name: path, Size: 3}, nil
}

func (f *fake) VolumeFiles(ctx context.Context, name, path string, told func(container.PathStat) (io.Writer, error)) error {
	st, err := f.VolumePath(ctx, name, path)
	if err != nil {
		return err
	}
	out, err := told(st)
	if err == nil {
		_, err = io.WriteString(out, "archive of "+path)
	}
	return err
}

func (f *fake) VolumeExtract(_ context.Context, name, path string, in io.Reader, keepKinds bool) error {
	b, err := io.ReadAll(in)
	f.call(fmt.Sprintf("volume extract %s %s %s %v", name, path, b, keepKinds))
	return err
}

func (f *fake) VolumeSnapshot(_ context.Context, r api.VolumeSnapshotRequest) (api.VolumeSnapshot, error) {
	return api.VolumeSnapshot{Volume: r.Volume, Name: r.Snapshot}, nil
}

func (f *fake) VolumeSnapshots(_ context.Context, name string) ([]api.VolumeSnapshot, error) {
	return []api.VolumeSnapshot{{Volume: name, Name: "s"}}, nil
}

func (f *fake) VolumeSnapshotRemove(_ context.Context, name, snapshot string) error {
	return errdefs.New(errdefs.NotFound, "volume %s has no snapshot %s", name, snapshot)
}

func (f *fake) VolumeRollback(_ context.Context, r api.VolumeSnapshotRequest) error {
	return errdefs.New(errdefs.Conflict, "volume %s is in use", r.Volume)
}

func (f *fake) VolumeUsage(_ context.Context, names []string) ([]api.VolumeUsage, error) {
	return []api.VolumeUsage{{Name: strings.Join(names, "+"), Size: 5}}, nil
}

func (f *fake) VolumeReplace(_ context.Context, r api.VolumeReplaceRequest) error {
	return errdefs.New(errdefs.Conflict, "volume %s: replace %s by %s", r.Volume, r.Old, r.New)
}

func (f *fake) VolumeResize(_ context.Context, r api.VolumeResizeRequest) error {
	return errdefs.New(errdefs.Conflict, "volume %s: %d", r.Volume, r.Size)
}

func (f *fake) VolumeUnlock(_ context.Context, name string, key []byte) error {
	if string(key) != "secret" {
		return errdefs.New(errdefs.Forbidden, "unlock volume %s: the key is wrong", name)
	}
	return nil
}

func (f *fake) VolumeLock(_ context.Context, name string) error {
	return errdefs.New(errdefs.Conflict, "volume %s is in use", name)
}

func (f *fake) VolumesPrune(_ context.Context, fl api.Filters) (volume.PruneReport, error) {
	f.filters = fl
	return volume.PruneReport{}, nil
}

func (f *fake) BuildReady(context.Context) error { return nil }

func (f *fake) BuildGRPC(_ context.Context, conn net.Conn) error { return f.sendBack(conn) }

func (f *fake) BuildSession(_ context.Context, conn net.Conn, _ http.Header) error {
	return f.sendBack(conn)
}

// sendBack sends back what it reads, until the client leaves.
func (f *fake) sendBack(conn net.Conn) error {
	defer conn.Close()
	_, err := io.Copy(conn, conn)
	return err
}

func (f *fake) BuildPrune(_ context.Context, o api.BuildPruneOptions) (build.CachePruneReport, error) {
	f.filters = o.Filters
	return build.CachePruneReport{CachesDeleted: []string{}}, nil
}

func (f *fake) ImageBuild(_ context.Context, req api.BuildRequest, archive io.Reader, out func(jsonstream.Message)) error {
	b, err := io.ReadAll(archive)
	if err != nil {
		return err
	}
	f.call(fmt.Sprint("build ", req, " ", len(b)))
	out(jsonstream.Message{Stream: "Successfully built 1234\n"})
	return nil
}

func (f *fake) BuildCancel(id string) error {
	f.call("cancel " + id)
	return nil
}

// newServer serves f on a unix socket and returns its path.
func newServer(t testing.TB, f *fake) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, f, Config{Version: "0.1", Log: slog.New(slog.DiscardHandler)})
	return path
}

func serve(t testing.TB, l net.Listener, f *fake, c Config) *Server {
	t.Helper()
	s := New(f, c)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s
}

func unixClient(t testing.TB, path string) *http.Client {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

var discard = slog.New(slog.DiscardHandler)

// noDeadline is a ResponseWriter for functions that only read.
type noDeadline struct{ http.ResponseWriter }

func (f *fake) ImagePull(_ context.Context, o api.PullOptions, out func(jsonstream.Message)) error {
	f.call(fmt.Sprintf("pull %s %s %+v %+v", o.Repo, o.Tag, o.Platform, o.Auth))
	if strings.HasSuffix(o.Repo, "private") {
		return errdefs.New(errdefs.Unauthorized, "no basic auth credentials")
	}
	if strings.HasSuffix(o.Repo, "nope") {
		return errdefs.New(errdefs.NotFound, "pull access denied for nope")
	}
	if o.Repo == "missing" {
		return errdefs.New(errdefs.NotFound, "manifest for missing not found")
	}
	out(jsonstream.Message{ID: o.Tag, Status: "Pulling from " + o.Repo})
	if o.Repo == "broken" {
		return errdefs.New(errdefs.InvalidArgument, "the layer is broken")
	}
	return nil
}

func (f *fake) ImageSearch(_ context.Context, o api.SearchOptions) ([]registry.SearchResult, error) {
	f.call(fmt.Sprintf("search %s %d", o.Term, o.Limit))
	return nil, nil
}

func (f *fake) RegistryLogin(_ context.Context, a registry.AuthConfig) (registry.AuthResponse, error) {
	f.call("login " + a.ServerAddress)
	if a.Password != "right" {
		return registry.AuthResponse{}, errdefs.New(errdefs.Unauthorized, "unauthorized: incorrect username or password")
	}
	return registry.AuthResponse{Status: "Login Succeeded"}, nil
}

func (f *fake) DistributionInspect(_ context.Context, name string, _ *registry.AuthConfig) (registry.DistributionInspect, error) {
	f.call("distribution " + name)
	return registry.DistributionInspect{Platforms: []ocispec.Platform{}}, nil
}

func (f *fake) ImagePush(_ context.Context, o api.PushOptions, out func(jsonstream.Message)) error {
	f.call(fmt.Sprintf("push %s %s %+v", o.Repo, o.Tag, o.Platform))
	if strings.HasSuffix(o.Repo, "nope") {
		return errdefs.New(errdefs.NotFound, "An image does not exist locally with the tag: nope")
	}
	out(jsonstream.Message{Status: "The push refers to repository [" + o.Repo + "]"})
	return nil
}

func (f *fake) RegistryManifest(_ context.Context, o api.ManifestOptions) (api.RegistryManifest, error) {
	f.call(fmt.Sprintf("manifest %s insecure=%v platform=%v members=%v auth=%v", o.Ref, o.Insecure, o.Platform, o.Members, o.Auth != nil))
	if o.Ref == "nope" {
		return api.RegistryManifest{}, errdefs.New(errdefs.NotFound, "no such manifest: nope")
	}
	return api.RegistryManifest{Ref: o.Ref, Raw: []byte("{}")}, nil
}

func (f *fake) ManifestPush(_ context.Context, o api.ManifestPush, auth *registry.AuthConfig, out func(jsonstream.Message)) error {
	f.call(fmt.Sprintf("push manifest %s insecure=%v auth=%v", o.Index.Ref, o.Insecure, auth != nil))
	if o.Index.Ref == "nope" {
		return errdefs.New(errdefs.Unauthorized, "no basic auth credentials")
	}
	out(jsonstream.Message{Status: "sha256:" + fakeID})
	return nil
}

func (f *fake) ContainerCommit(_ context.Context, o api.CommitOptions) (string, error) {
	f.call(fmt.Sprintf("commit repo=%s tag=%s comment=%s author=%s changes=%q pause=%v config=%v", o.Repo, o.Tag, o.Comment, o.Author, o.Changes, o.Pause, o.Config != nil))
	return "sha256:" + fakeID, f.find("commit", o.Container)
}

func (f *fake) ContainerPath(_ context.Context, ref, path string) (container.PathStat, error) {
	return container.PathStat{Name: path, Size: 3}, f.find("path "+path, ref)
}

func (f *fake) ContainerArchive(ctx context.Context, ref, path string, told func(container.PathStat) (io.Writer, error)) error {
	st, err := f.ContainerPath(ctx, ref, path)
	if err != nil {
		return err
	}
	out, err := told(st)
	if err == nil {
		_, err = io.WriteString(out, "archive of "+path)
	}
	return err
}

func (f *fake) ContainerExtract(_ context.Context, ref, path string, in io.Reader, keepKinds, asUser bool) error {
	b, err := io.ReadAll(in)
	f.call(fmt.Sprintf("extract %s %s %s %v %v", ref, path, b, keepKinds, asUser))
	return err
}

func (f *fake) ContainerExport(_ context.Context, ref string, out io.Writer) error {
	if err := f.find("export", ref); err != nil {
		return err
	}
	files := "files"
	if f.panics {
		files = strings.Repeat(files, archiveBuffer) // some of it is on its way
	}
	if _, err := io.WriteString(out, files); err != nil {
		return err
	}
	if f.panics {
		return errors.New("cut off")
	}
	return nil
}

func (f *fake) ImageImport(_ context.Context, o api.ImportOptions, in io.Reader, out func(jsonstream.Message)) error {
	b, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	f.call(fmt.Sprintf("import %s %s repo=%s tag=%s message=%s changes=%q platform=%v", o.Source, b, o.Repo, o.Tag, o.Message, o.Changes, o.Platform))
	if string(b) == "bad" {
		return errdefs.New(errdefs.InvalidArgument, "archive: not a tar")
	}
	out(jsonstream.Message{Status: "sha256:" + fakeID})
	return nil
}

func (f *fake) ImageBlobs(_ context.Context, refs []string, platforms []ocispec.Platform) ([]api.ImageBlobs, error) {
	f.call(fmt.Sprintf("blobs %q %d", refs, len(platforms)))
	return []api.ImageBlobs{{ID: "a", Names: refs, Manifest: "b", Layers: []api.LayerBlob{}}}, nil
}

func (f *fake) ImageMissing(_ context.Context, r api.ImageMissingRequest) (api.ImageMissing, error) {
	if r.Layers[0].Size < 0 {
		return api.ImageMissing{}, errdefs.New(errdefs.InvalidArgument, "a size below zero")
	}
	return api.ImageMissing{Missing: []string{r.Layers[0].Digest}}, nil
}

func (f *fake) ImageSave(ctx context.Context, r api.ImageSaveRequest) (func(context.Context, io.Writer) error, error) {
	f.call(fmt.Sprintf("save %q %d since=%q without=%q", r.Images, len(r.Platforms), r.Since, r.Without))
	for _, ref := range r.Images {
		if _, err := f.ImageInspect(ctx, ref, api.ImageInspectOptions{}); err != nil {
			return nil, err
		}
	}
	return func(_ context.Context, out io.Writer) error {
		_, err := io.WriteString(out, "archive")
		return err
	}, nil
}

func (f *fake) ImportEngine(_ context.Context, r api.ImportEngineRequest, out func(jsonstream.Message)) error {
	return f.ImageImportEngine(context.Background(), api.ImageImportEngineRequest{Dir: r.Dir}, out)
}
