package engine

import (
	"context"
	"maps"
	"os"
	"slices"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	own "github.com/tare-engine/tare/internal/container"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/dataroot"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
)

// containers takes the containers over. One may need another (its volumes, its network):
// they are tried until none comes any more.
func (m *moveIn) containers(ctx context.Context) error {
	ids, err := m.root.ContainerIDs()
	if err != nil {
		return err
	}
	left, names := ids, map[string]string{}
	for {
		failed := map[string]error{}
		for _, id := range left {
			if err := ctx.Err(); err != nil {
				return err
			}
			name, err := m.container(ctx, id)
			if err := m.one("container", name, func() error { return err }); err != nil {
				failed[id], names[id] = err, name
			}
		}
		if len(failed) == len(left) {
			for _, id := range left {
				m.refuse("container", names[id], failed[id])
			}
			return nil
		}
		left = slices.Sorted(maps.Keys(failed))
	}
}

// container takes one container over, and tells its name.
func (m *moveIn) container(ctx context.Context, id string) (name string, err error) {
	c, err := m.root.Container(id)
	if err != nil {
		return ident.Short(id), err
	}
	return c.Name, m.take(ctx, c)
}

func (m *moveIn) take(ctx context.Context, c *dataroot.Container) error {
	id := c.ID
	if v, err := m.e.containers.View(id); err == nil && v.ID == id {
		return errThere
	}
	if c.HostConfig.AutoRemove {
		return errdefs.New(errdefs.InvalidArgument, "it was to be removed when it ended (--rm)")
	}
	files, err := m.root.ContainerFiles(c)
	if err != nil {
		return err
	}
	defer files.Close()
	log, err := m.root.ContainerLog(id)
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range log {
			f.Close()
		}
	}()
	if m.dry {
		return nil
	}
	return m.adopt(ctx, c, files, log)
}

// adopt makes the container. Its configuration is what Docker made of the request then.
func (m *moveIn) adopt(ctx context.Context, c *dataroot.Container, files *os.File, log []*os.File) error {
	host := asRequested(c.HostConfig)
	if err := m.nameNetwork(host, c.Networks); err != nil {
		return err
	}
	if host.NetworkMode.IsContainer() { // its name is the other one's
		c.Config.Hostname, c.Config.Domainname = "", ""
	}
	req := container.CreateRequest{Config: c.Config, HostConfig: host, NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: requestedEndpoints(host, c)}}
	name := c.Config.Image
	want := own.Request{
		Name: c.Name, Config: req.Config, HostConfig: req.HostConfig, Networking: req.NetworkingConfig,
		Adopted: &own.Adopted{ID: c.ID, Created: c.Created, Stopped: c.Stopped, Volumes: c.Volumes, Upper: files, Log: log,
			Last: own.Outcome{StartedAt: c.StartedAt, FinishedAt: c.FinishedAt, ExitCode: c.ExitCode, OOMKilled: c.OOMKilled, Error: c.Error}},
	}
	if _, err := spec.Validate(want.Name, &req, spec.MountRules{DataRoot: m.e.cfg.DataRoot}); err != nil {
		return err
	}
	want.HostConfig = req.HostConfig
	var err error
	if want.HostConfig.Runtime, err = m.e.containers.Defaults().Runtimes.Resolve(want.HostConfig.Runtime); err != nil {
		return err
	}
	// The image is found by its ID, and fills nothing in: that was done then.
	kept := *c.Config
	kept.Image = c.Image
	want.Config = &kept
	if err := m.e.imageRoot(ctx, &want, nil); err != nil {
		return err
	}
	*want.Config = *c.Config
	want.Config.Image = name
	if want.Images, err = m.e.imageMounts(ctx, want.HostConfig); err != nil {
		return err
	}
	if err := spec.ValidateStartup(want.Config, want.HostConfig); err != nil {
		return err
	}
	_, err = m.e.containers.Create(ctx, want)
	return err
}

// asRequested takes away what Docker's engine adds of its own.
func asRequested(h *container.HostConfig) *container.HostConfig {
	switch h.Runtime {
	case "runc", "io.containerd.runc.v2", "io.containerd.runtime.v1.linux":
		h.Runtime = ""
	}
	if slices.Contains(h.MaskedPaths, "/proc/kcore") { // its defaults; ours hide these and more
		h.MaskedPaths = nil
	}
	if slices.Contains(h.ReadonlyPaths, "/proc/sysrq-trigger") {
		h.ReadonlyPaths = nil
	}
	return h
}

// nameNetwork writes networks by their names: those here have other IDs.
func (m *moveIn) nameNetwork(h *container.HostConfig, networks map[string]*network.EndpointSettings) error {
	if ident.Valid(string(h.NetworkMode)) {
		for name, e := range networks {
			if e != nil && e.NetworkID == string(h.NetworkMode) {
				h.NetworkMode = container.NetworkMode(name)
				return nil
			}
		}
		return errdefs.New(errdefs.InvalidArgument, "its network %s is none of those it is in", h.NetworkMode)
	}
	return nil
}

// requestedEndpoints are a container's networks as a client would ask for them.
func requestedEndpoints(h *container.HostConfig, c *dataroot.Container) map[string]*network.EndpointSettings {
	if !h.NetworkMode.IsUserDefined() && !h.NetworkMode.IsBridge() && !h.NetworkMode.IsDefault() {
		return nil
	}
	all := map[string]*network.EndpointSettings{}
	for name, e := range c.Networks {
		if e == nil {
			e = &network.EndpointSettings{}
		}
		n := &network.EndpointSettings{IPAMConfig: e.IPAMConfig, Links: e.Links, DriverOpts: e.DriverOpts, GwPriority: e.GwPriority}
		for _, alias := range e.Aliases {
			if alias != ident.Short(c.ID) && alias != c.Config.Hostname { // those it has anyway
				n.Aliases = append(n.Aliases, alias)
			}
		}
		all[name] = n
	}
	return all
}

// closeIf closes a file that may not be there.
func closeIf(f *os.File) error {
	if f == nil {
		return nil
	}
	return f.Close()
}
