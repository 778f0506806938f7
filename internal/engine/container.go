package engine

import (
	"cmp"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/api"
	own "github.com/tare-engine/tare/internal/container"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/layer"
)

// ContainerCreate makes a container of an image, or of a host directory if
// o.Rootfs is set.
func (e *Engine) ContainerCreate(ctx context.Context, o api.CreateOptions, req container.CreateRequest) (container.CreateResponse, error) {
	return e.create(ctx, o, req, false)
}

// create is ContainerCreate; run says that the same request starts the container.
func (e *Engine) create(ctx context.Context, o api.CreateOptions, req container.CreateRequest, run bool) (container.CreateResponse, error) {
	want := own.Request{Run: run, Name: strings.TrimPrefix(o.Name, "/"), Replace: o.Replace, Config: req.Config, HostConfig: req.HostConfig, Networking: req.NetworkingConfig, ShallowBinds: o.ShallowBinds}
	if o.Name != "" && want.Name == "" {
		return container.CreateResponse{}, spec.BadName(o.Name)
	}
	if want.Replace && want.Name == "" {
		return container.CreateResponse{}, errdefs.New(errdefs.InvalidArgument, "replace: no name says which container is to be replaced")
	}
	if req.HostConfig == nil {
		req.HostConfig = &container.HostConfig{}
	}
	e.live.Load().Containers.Apply(req.HostConfig)
	warnings, err := spec.Validate(want.Name, &req, spec.MountRules{DataRoot: e.cfg.DataRoot, Shallow: o.ShallowBinds})
	if err != nil {
		return container.CreateResponse{}, err
	}
	want.HostConfig = req.HostConfig
	if want.HostConfig.Runtime, err = e.containers.Defaults().Runtimes.Resolve(want.HostConfig.Runtime); err != nil {
		return container.CreateResponse{}, err
	}
	if o.Rootfs != "" {
		err = hostRoot(&want, o.Rootfs)
	} else {
		err = e.imageRoot(ctx, &want, o.Platform)
	}
	if err != nil {
		return container.CreateResponse{}, err
	}
	if want.Images, err = e.imageMounts(ctx, want.HostConfig); err != nil {
		return container.CreateResponse{}, err
	}
	if o.Platform == nil {
		warnings = append(warnings, foreignPlatform(want.Platform)...)
	}
	if dir := want.Config.WorkingDir; dir != "" {
		want.Config.WorkingDir = filepath.Clean(dir)
	}
	if len(want.Config.Entrypoint) == 0 && len(want.Config.Cmd) == 0 {
		return container.CreateResponse{}, errdefs.New(errdefs.InvalidArgument, "no command specified")
	}
	if err := spec.ValidateStartup(want.Config, want.HostConfig); err != nil {
		return container.CreateResponse{}, err
	}
	spec.SetSystemd(want.Config, want.HostConfig)
	v, err := e.containers.Create(ctx, want)
	if err != nil {
		return container.CreateResponse{}, err
	}
	if warnings == nil {
		warnings = []string{}
	}
	return container.CreateResponse{ID: v.ID, Warnings: warnings}, nil
}

// imageMounts settles the images whose files a container is to have. One that is not
// there is InvalidArgument: clients take NotFound for the container's own.
func (e *Engine) imageMounts(ctx context.Context, h *container.HostConfig) ([]spec.Mount, error) {
	list, err := spec.WantedImages(h)
	if err != nil {
		return nil, err
	}
	for i := range list {
		m := &list[i]
		img, err := e.resolve(ctx, m.Name)
		if errdefs.Is(err, errdefs.NotFound) {
			err = errdefs.As(errdefs.InvalidArgument, err)
		}
		if err != nil {
			return nil, err
		}
		if img.Chain == "" {
			return nil, errdefs.New(errdefs.InvalidArgument, "image %s has no layers", m.Name)
		}
		m.Image, m.Chain = img.ID.String(), img.Chain
		e.images.Touch(img.ID)
	}
	return list, nil
}

// hostRoot makes a host directory the container's root.
func hostRoot(want *own.Request, dir string) error {
	if !filepath.IsAbs(dir) {
		return errdefs.New(errdefs.InvalidArgument, "invalid rootfs %q: the path of the root directory must be absolute", dir)
	}
	fi, err := os.Stat(dir)
	if err != nil {
		return errdefs.New(errdefs.InvalidArgument, "invalid rootfs: %w", err)
	}
	if !fi.IsDir() {
		return errdefs.New(errdefs.InvalidArgument, "invalid rootfs %q: not a directory", dir)
	}
	want.Rootfs = filepath.Clean(dir)
	return nil
}

// imageRoot resolves the image and lets its configuration fill what the
// request leaves open.
func (e *Engine) imageRoot(ctx context.Context, want *own.Request, platform *ocispec.Platform) error {
	if want.Config.Image == "" {
		return errdefs.New(errdefs.InvalidArgument, "no image specified: Config.Image is empty")
	}
	img, err := e.resolve(ctx, want.Config.Image)
	if platform != nil && !errdefs.Is(err, errdefs.NotFound) { // it may be another one than this machine's, which may be damaged
		img, err = e.images.ResolveToRun(ctx, want.Config.Image, *platform)
	}
	if err != nil {
		return err
	}
	if err := spec.ValidateHealth(img.Config.Config.Healthcheck); err != nil {
		return errdefs.New(errdefs.InvalidArgument, "image %s: %w", want.Config.Image, err)
	}
	want.Image, want.Chain, want.Platform, want.Manifest = img.ID.String(), img.Chain, img.Config.Platform, manifestOf(img)
	merge(want.Config, img)
	e.images.Touch(img.ID)
	return nil
}

// manifestOf describes an image's manifest as containers show it.
func manifestOf(img *image.Image) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: img.Manifest.MediaType, Digest: img.Manifest.Digest, Size: img.Manifest.Size}
}

// merge fills a container's configuration from its image, by Docker's rules.
func merge(c *container.Config, img *image.Image) {
	from := &img.Config.Config
	if c.User == "" {
		c.User = from.User
	}
	for p := range from.ExposedPorts {
		exposePort(c, p)
	}
	c.Env = mergeEnv(c.Env, from.Env)
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	for k, v := range from.Labels {
		if _, set := c.Labels[k]; !set {
			c.Labels[k] = v
		}
	}
	if len(c.Entrypoint) == 0 { // an entrypoint of the request drops the image's arguments
		if len(c.Cmd) == 0 {
			c.Cmd = from.Cmd
		}
		if c.Entrypoint == nil {
			c.Entrypoint = from.Entrypoint
		}
	}
	if len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" { // --entrypoint "" clears it
		c.Entrypoint = nil
	}
	if c.WorkingDir == "" {
		c.WorkingDir = from.WorkingDir
	}
	if len(c.Volumes) == 0 { // clients send an empty map
		c.Volumes = nil
	}
	for v := range from.Volumes {
		if c.Volumes == nil {
			c.Volumes = map[string]struct{}{}
		}
		c.Volumes[v] = struct{}{}
	}
	if c.StopSignal == "" {
		c.StopSignal = from.StopSignal
	}
	if len(c.Shell) == 0 {
		c.Shell = from.Shell
	}
	c.Healthcheck = mergeHealth(c.Healthcheck, from.Healthcheck)
}

// mergeHealth fills what a request leaves open of a health check.
func mergeHealth(own, image *container.HealthConfig) *container.HealthConfig {
	if own == nil || image == nil {
		return cmp.Or(own, image)
	}
	h := *own
	if len(h.Test) == 0 {
		h.Test = image.Test
	}
	h.Interval, h.Timeout = cmp.Or(h.Interval, image.Interval), cmp.Or(h.Timeout, image.Timeout)
	h.StartPeriod, h.StartInterval = cmp.Or(h.StartPeriod, image.StartPeriod), cmp.Or(h.StartInterval, image.StartInterval)
	h.Retries = cmp.Or(h.Retries, image.Retries)
	return &h
}

// exposePort adds a port as an image names it. One that is malformed is
// nothing that a container could use.
func exposePort(c *container.Config, name string) {
	port, err := network.ParsePort(name)
	if err != nil {
		return
	}
	if c.ExposedPorts == nil {
		c.ExposedPorts = network.PortSet{}
	}
	c.ExposedPorts[port] = struct{}{}
}

// mergeEnv adds the image's variables that the container does not set.
func mergeEnv(own, image []string) []string {
	set := map[string]bool{}
	for _, kv := range own {
		name, _, _ := strings.Cut(kv, "=")
		set[name] = true
	}
	for _, kv := range image {
		if name, _, _ := strings.Cut(kv, "="); !set[name] {
			own = append(own, kv)
		}
	}
	return own
}

// ContainerStart runs a container.
func (e *Engine) ContainerStart(ctx context.Context, ref string) error {
	e.useImage(ref)
	return e.containers.Start(ctx, ref)
}

// useImage notes that a container's image is used.
func (e *Engine) useImage(ref string) {
	if v, err := e.containers.View(ref); err == nil && v.Image != "" {
		e.images.Touch(image.ID(v.Image))
	}
}

// ContainerStop ends a run by the stop signal, then by SIGKILL.
func (e *Engine) ContainerStop(ctx context.Context, ref string, o api.StopOptions) error {
	return e.containers.Stop(ctx, ref, o)
}

// ContainerRestart stops and starts.
func (e *Engine) ContainerRestart(ctx context.Context, ref string, o api.StopOptions) error {
	e.useImage(ref)
	return e.containers.Restart(ctx, ref, o)
}

// ContainerKill sends a signal.
func (e *Engine) ContainerKill(ctx context.Context, ref, signal string) error {
	return e.containers.Kill(ctx, ref, signal)
}

// ContainerPause freezes a container.
func (e *Engine) ContainerPause(_ context.Context, ref string) error { return e.containers.Pause(ref) }

// ContainerUnpause thaws a container.
func (e *Engine) ContainerUnpause(_ context.Context, ref string) error {
	return e.containers.Unpause(ref)
}

// ContainerRename gives a container another name.
func (e *Engine) ContainerRename(_ context.Context, ref, name string) error {
	name = strings.TrimPrefix(name, "/")
	if err := spec.ValidateName(name); err != nil {
		return err
	}
	return e.containers.Rename(ref, name)
}

// ContainerResize sets the size of a container's terminal.
func (e *Engine) ContainerResize(ctx context.Context, ref string, rows, cols uint16) error {
	return e.containers.Resize(ctx, ref, rows, cols)
}

// ContainerRemove takes a container away.
func (e *Engine) ContainerRemove(ctx context.Context, ref string, o api.RemoveOptions) error {
	if o.Link {
		return e.containers.Connections().RemoveLink(ref)
	}
	remove := e.containers.Remove
	if o.Depend {
		remove = e.containers.RemoveDepending
	}
	return e.cfg.Reserve.Use(func() error { return remove(ctx, ref, own.Removal{Force: o.Force, Volumes: o.Volumes}) })
}

// ContainersPrune removes all containers that do not run and match.
func (e *Engine) ContainersPrune(ctx context.Context, f api.Filters) (container.PruneReport, error) {
	var report container.PruneReport
	match, err := pruneFilter(f, api.ContainerPruneFilters)
	if err != nil {
		return report, err
	}
	for _, v := range e.containers.List() {
		if v.Up() || v.Status == own.Removing || !match(v.Created, v.Config.Labels) {
			continue
		}
		rw, _, sizeErr := e.sizes(ctx, v)
		err := e.cfg.Reserve.Use(func() error { return e.containers.Remove(ctx, v.ID, own.Removal{}) })
		if err != nil {
			if errdefs.Is(err, errdefs.NotFound) || errdefs.Is(err, errdefs.Conflict) {
				continue // somebody else was faster
			}
			return report, err
		}
		report.ContainersDeleted = append(report.ContainersDeleted, v.ID)
		if sizeErr == nil {
			report.SpaceReclaimed += uint64(rw)
		}
	}
	return report, nil
}

// ContainerTop lists a container's processes.
func (e *Engine) ContainerTop(_ context.Context, ref, args string) (container.TopResponse, error) {
	return e.containers.Top(ref, args)
}

// ContainerChanges lists in what a container's files differ from its image's,
// sorted by path. Only its own layer is walked, if the driver stacks layers.
func (e *Engine) ContainerChanges(ctx context.Context, ref string) ([]container.FilesystemChange, error) {
	changes, err := e.containers.Changes(ctx, ref)
	if err != nil {
		return nil, err
	}
	kinds := map[layer.Kind]container.ChangeType{layer.Modified: container.ChangeModify, layer.Added: container.ChangeAdd, layer.Deleted: container.ChangeDelete}
	var list []container.FilesystemChange
	for _, c := range changes {
		list = append(list, container.FilesystemChange{Kind: kinds[c.Kind], Path: c.Path})
	}
	return list, nil
}

// ContainerWait registers a wait and returns how to go through with it.
func (e *Engine) ContainerWait(_ context.Context, ref string, cond container.WaitCondition) (func(context.Context) (container.WaitResponse, error), error) {
	wait, err := e.containers.Wait(ref, cond)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (container.WaitResponse, error) {
		r, err := wait(ctx)
		if err != nil {
			return container.WaitResponse{}, err
		}
		res := container.WaitResponse{StatusCode: int64(r.ExitCode)}
		if r.Error != "" {
			res.Error = &container.WaitExitError{Message: r.Error}
		}
		return res, nil
	}, nil
}

// ContainerAttach connects a client with a container's streams.
func (e *Engine) ContainerAttach(ctx context.Context, ref string, o api.AttachOptions, hijack own.Hijack) error {
	return e.containers.Attach(ctx, ref, o, hijack)
}

// ContainerLogs writes a container's log.
func (e *Engine) ContainerLogs(ctx context.Context, ref string, o api.LogsOptions, start func(tty bool) io.Writer) error {
	return e.containers.Logs(ctx, ref, o, start)
}

// ExecCreate registers a process for a running container.
func (e *Engine) ExecCreate(_ context.Context, ref string, req container.ExecCreateRequest) (string, error) {
	return e.containers.Execs().Create(ref, req)
}

// ExecStart runs it.
func (e *Engine) ExecStart(ctx context.Context, id string, req api.ExecStartRequest, hijack own.Hijack) error {
	return e.containers.Execs().Start(ctx, id, req, hijack)
}

// ExecInspect returns what is known of it.
func (e *Engine) ExecInspect(_ context.Context, id string) (container.ExecInspectResponse, error) {
	x, err := e.containers.Execs().Inspect(id)
	if err != nil {
		return container.ExecInspectResponse{}, err
	}
	res := container.ExecInspectResponse{
		ID: x.ID, Running: x.Running, ExitCode: x.ExitCode, ContainerID: x.Container, Pid: x.Pid,
		OpenStdin: x.Request.AttachStdin, OpenStdout: x.Request.AttachStdout, OpenStderr: x.Request.AttachStderr,
		CanRemove: x.ExitCode != nil, DetachKeys: []byte(x.Request.DetachKeys),
		ProcessConfig: &container.ExecProcessConfig{Tty: x.Request.Tty, User: x.Request.User, Privileged: &x.Request.Privileged},
	}
	if len(x.Request.Cmd) > 0 {
		res.ProcessConfig.Entrypoint, res.ProcessConfig.Arguments = x.Request.Cmd[0], x.Request.Cmd[1:]
	}
	return res, nil
}

// ExecList describes the execs of a container that have not ended.
func (e *Engine) ExecList(_ context.Context, ref string) ([]api.ExecSummary, error) {
	return e.containers.Execs().List(ref)
}

// ExecKill sends its process a signal.
func (e *Engine) ExecKill(_ context.Context, id, signal string) error {
	return e.containers.Execs().Kill(id, signal)
}

// ExecResize sets the size of its terminal.
func (e *Engine) ExecResize(ctx context.Context, id string, rows, cols uint16) error {
	return e.containers.Execs().Resize(ctx, id, rows, cols)
}

// pruneFilter makes the condition of a prune: labels, and an age.
func pruneFilter(f api.Filters, accepted []string) (func(created time.Time, labels map[string]string) bool, error) {
	if err := validate(f, accepted); err != nil {
		return nil, err
	}
	var until time.Time
	if values := f.Get("until"); len(values) > 1 {
		return nil, errdefs.New(errdefs.InvalidArgument, "more than one until filter specified")
	} else if len(values) == 1 {
		t, err := api.ParseTime(values[0], time.Now())
		if err != nil {
			return nil, errdefs.As(errdefs.InvalidArgument, err)
		}
		until = t
	}
	return func(created time.Time, labels map[string]string) bool {
		if !until.IsZero() && !created.Before(until) {
			return false
		}
		if f.Has("label") && !f.KV("label", labels) {
			return false
		}
		return !f.Has("label!") || !f.KV("label!", labels)
	}, nil
}

// ContainerPublish changes which ports of a container are published.
func (e *Engine) ContainerPublish(ctx context.Context, c api.PublishChange) error {
	return e.containers.Connections().Publish(ctx, c.Container, c.Add, c.Remove)
}

// ContainerOptions changes options of a container that Docker does not have.
func (e *Engine) ContainerOptions(_ context.Context, c api.OptionsChange) error {
	return e.containers.Connections().SetOptions(c.Container, c.Options)
}

// ContainerUpdate changes limits of a container.
func (e *Engine) ContainerUpdate(_ context.Context, ref string, c container.UpdateConfig) (container.UpdateResponse, error) {
	warnings, err := e.containers.Update(ref, c)
	if warnings == nil {
		warnings = []string{}
	}
	return container.UpdateResponse{Warnings: warnings}, err
}
