package engine

import (
	"context"
	"runtime"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	own "github.com/tare-engine/tare/internal/container"
	"github.com/tare-engine/tare/internal/container/spec"
	networks "github.com/tare-engine/tare/internal/network"
)

// ContainerInspect returns all that is known of a container.
func (e *Engine) ContainerInspect(ctx context.Context, ref string, size bool) (container.InspectResponse, error) {
	v, err := e.containers.View(ref)
	if err != nil {
		return container.InspectResponse{}, err
	}
	args := v.Args
	if args == nil {
		args = []string{}
	}
	c := container.InspectResponse{
		ID: v.ID, Created: stamp(v.Created), Path: v.Path, Args: args, State: e.state(v), Image: v.Image,
		ResolvConfPath: e.containers.FilePath(v.ID, "resolv.conf"), HostnamePath: e.containers.FilePath(v.ID, "hostname"),
		HostsPath: e.containers.FilePath(v.ID, "hosts"), Name: "/" + v.Name, RestartCount: v.Last.Restarts,
		Driver: e.layers.Driver(), Platform: platformOS(v), HostConfig: hostConfig(v), Config: v.Config,
		GraphDriver: &storage.DriverData{Name: e.layers.Driver(), Data: e.driverData(ctx, v)},
		Mounts:      e.containers.Mounts(v), NetworkSettings: networkSettings(v), ImageManifestDescriptor: imageManifest(v),
	}
	if !v.Last.StartedAt.IsZero() { // Docker too settles it at the start
		c.AppArmorProfile = spec.AppArmorProfile(v.HostConfig, e.containers.Defaults().AppArmorName())
	}
	if v.HostConfig.LogConfig.Type == "json-file" {
		c.LogPath = e.containers.LogPath(v.ID)
	}
	if ids := e.containers.Execs().Of(v.ID); len(ids) > 0 {
		c.ExecIDs = ids
	}
	if size {
		rw, root, err := e.sizes(ctx, v)
		if err != nil {
			return c, err
		}
		c.SizeRw, c.SizeRootFs = &rw, &root
	}
	return c, nil
}

// imageManifest is the manifest that a container was made by, with its platform.
func imageManifest(v *own.View) *ocispec.Descriptor {
	if v.Manifest.Digest == "" {
		return nil
	}
	d := v.Manifest
	d.Platform = &v.Platform
	return &d
}

func platformOS(v *own.View) string {
	if v.Platform.OS != "" {
		return v.Platform.OS
	}
	return runtime.GOOS
}

// stamp renders a time as Docker does; the zero time is year 1.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func (e *Engine) state(v *own.View) *container.State {
	s := &container.State{
		Status: container.ContainerState(v.Status), Running: v.Up(), Paused: v.Status == own.Paused, Restarting: v.Status == own.Restarting,
		OOMKilled: v.Last.OOMKilled, Dead: v.Status == own.Dead, Pid: v.Pid, ExitCode: v.Last.ExitCode,
		Error: v.Last.Error, StartedAt: stamp(v.Last.StartedAt), FinishedAt: stamp(v.Last.FinishedAt),
		Health: e.containers.Health(v.ID),
	}
	return s
}

// endpoints returns the container's places in networks, by network name; of a
// container that does not run, what was asked for.
func endpoints(v *own.View) map[string]*network.EndpointSettings {
	if v.Config.NetworkDisabled {
		return map[string]*network.EndpointSettings{}
	}
	if v.Network != nil {
		return v.Network.Endpoints
	}
	m := map[string]*network.EndpointSettings{}
	if v.Networking != nil {
		for name, ep := range v.Networking.EndpointsConfig {
			m[name] = ep
		}
	}
	mode := string(v.HostConfig.NetworkMode)
	if v.Networking == nil && !strings.HasPrefix(mode, "container:") && mode != "" {
		if mode == "default" {
			mode = "bridge"
		}
		m[mode] = &network.EndpointSettings{}
	}
	return m
}

// ports returns the ports of a running container: the published ones with
// their bindings, the exposed ones without. As with Docker there are none where a bridge
// is not what it is reached by.
func ports(v *own.View) network.PortMap {
	m := network.PortMap{}
	if v.Network == nil || !v.Network.Bridged() {
		return m
	}
	for p := range v.Config.ExposedPorts {
		m[p] = nil
	}
	for p, b := range v.Network.Ports {
		m[p] = b
	}
	return m
}

func networkSettings(v *own.View) *container.NetworkSettings {
	s := &container.NetworkSettings{Ports: ports(v), Networks: endpoints(v)}
	if v.Network != nil {
		s.SandboxID, s.SandboxKey = v.Network.SandboxID, v.Network.SandboxKey
	}
	return s
}

// driverData says where the container's root lies.
func (e *Engine) driverData(ctx context.Context, v *own.View) map[string]string {
	if v.Rootfs != "" {
		return map[string]string{"Rootfs": v.Rootfs}
	}
	return e.layers.Data(ctx, v.ID)
}

// hostConfig is a container's, its links in the form in which Docker shows them:
// /LINKED:/NAME/ALIAS.
func hostConfig(v *own.View) *container.HostConfig {
	if len(v.HostConfig.Links) == 0 {
		return v.HostConfig
	}
	h := *v.HostConfig
	h.Links = make([]string, len(v.HostConfig.Links))
	for i, link := range v.HostConfig.Links {
		target, alias := networks.SplitLink(link)
		h.Links[i] = "/" + target + ":/" + v.Name + "/" + alias
	}
	return &h
}
