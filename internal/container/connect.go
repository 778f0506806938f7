package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"

	api "github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/container/index"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/network"
	"github.com/tare-engine/tare/internal/network/etc"
)

// Connections puts containers into networks and takes them out, and publishes ports. Of a container
// that does not run only its record changes.
type Connections struct {
	*launcher
	index  *index.Index[*Container]
	events eventLog
}

// Connections returns what changes the networks of containers.
func (s *Service) Connections() *Connections {
	return &Connections{launcher: s.starts.launcher, index: s.index, events: s.events}
}

// Connect puts a container into one more network. Its ports are published by it
// if it becomes the way out. The change outlasts the run: the next start connects
// the container again.
func (cs *Connections) Connect(ctx context.Context, ref, networkRef string, settings *api.EndpointSettings) error {
	return cs.with(ref, func(c *Container, v *View) error {
		id, network, err := cs.networks.Find(networkRef)
		if err != nil {
			return err
		}
		if err := connectable(v, network); err != nil {
			return err
		}
		if err := spec.ValidateEndpoint(network, settings, v.HostConfig.NetworkMode); err != nil {
			return err
		}
		if settings == nil {
			settings = &api.EndpointSettings{}
		}
		r := cs.withNetworks(v.Record, func(all map[string]*api.EndpointSettings) { all[network] = settings })
		if !c.runs() {
			if cs.named(v.Record, id) != "" {
				return errdefs.New(errdefs.Forbidden, "endpoint with name %s already exists in network %s", v.Name, network)
			}
			if err := cs.networks.Check(networkRequest(r, network)); err != nil {
				return err
			}
			return cs.keep(c, r)
		}
		return cs.change(c, r, func(ns *os.File) error {
			if _, err := cs.networks.Connect(ctx, networkRequest(r, network), ns); err != nil {
				return err
			}
			if err := errors.Join(cs.note(c, r), cs.publishPorts(ctx, v)); err != nil {
				return errors.Join(err, cs.networks.Disconnect(c.ID, id, ns))
			}
			return nil
		})
	})
}

// Disconnect takes a container out of a network, in this run and the next ones.
// One that is left in no network has no way out and nothing published. One that
// does not run may be taken out of a network that is gone, without which it could
// not start.
func (cs *Connections) Disconnect(ref, networkRef string) error {
	return cs.with(ref, func(c *Container, v *View) error {
		runs := c.runs()
		id, network, err := cs.networks.Find(networkRef)
		name := cs.named(v.Record, id)
		if errdefs.Is(err, errdefs.NotFound) && !runs && slices.Contains(networksOf(v.Record), networkRef) {
			name, err = networkRef, nil
		}
		if err != nil {
			return err
		}
		if v.HostConfig.NetworkMode.IsHost() {
			return errHost()
		}
		if v.Config.NetworkDisabled {
			return errdefs.New(errdefs.Forbidden, "container %s is not connected to the network %s", c.ID, network)
		}
		r := cs.withNetworks(v.Record, func(all map[string]*api.EndpointSettings) { delete(all, name) })
		if runs {
			return cs.change(c, r, func(ns *os.File) error { return cs.leave(c, v, id, ns) })
		}
		if name == "" {
			return errdefs.New(errdefs.Forbidden, "container %s is not connected to the network %s", c.ID, network)
		}
		return cs.keep(c, r)
	})
}

// leave takes a running container out of a network. What its ports lead to is another
// network then, in which they may not have been published yet.
func (cs *Connections) leave(c *Container, v *View, networkID string, ns *os.File) error {
	if err := cs.networks.Disconnect(c.ID, networkID, ns); err != nil {
		return err
	}
	if len(cs.networks.Endpoints(c.ID)) == 0 {
		return nil
	}
	if err := cs.publishPorts(context.Background(), v); err != nil {
		slog.Warn("ports of a container are not published in the network by which it goes out now", "container", c.ID, "err", err)
	}
	return nil
}

// with finds a container and calls do with its lock held. One that is being removed
// is refused: its record must not come back.
func (cs *Connections) with(ref string, do func(*Container, *View) error) error {
	c, err := cs.index.Find(ref)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.View()
	if v.Status == Removing || v.Status == Dead {
		return errdefs.New(errdefs.Conflict, "Container %s is marked for removal and cannot be connected or disconnected to the network", v.ID)
	}
	return do(c, v)
}

// errHost is Docker's error of a container in the host's network.
func errHost() error {
	return errdefs.New(errdefs.Forbidden, "container cannot be disconnected from host network or connected to host network")
}

// connectable refuses a container that has no network of its own, and a network
// that containers have only alone.
func connectable(v *View, name string) error {
	mode := spec.NetworkMode(v.Config, v.HostConfig)
	path, isPath := spec.NetworkPath(mode)
	switch {
	case isPath:
		return errdefs.New(errdefs.InvalidArgument, "container %s is in the network namespace %s, which is not the engine's: it cannot be connected", v.Name, path)
	case mode.IsHost() || name == "host":
		return errHost()
	case mode.IsContainer():
		return errdefs.New(errdefs.InvalidArgument, "container sharing network namespace with another container or host cannot be connected to any other network")
	case mode.IsNone() || name == "none":
		return errdefs.New(errdefs.Forbidden, "container cannot be connected to multiple networks with one of the networks in private (none) mode")
	}
	return nil
}

// withNetworks is a record with other networks: those that follow from its mode
// are written down.
func (cs *Connections) withNetworks(r *Record, change func(map[string]*api.EndpointSettings)) *Record {
	all := map[string]*api.EndpointSettings{}
	if r.Networking == nil {
		all[mainNetwork(r)] = &api.EndpointSettings{}
	} else {
		maps.Copy(all, r.Networking.EndpointsConfig)
	}
	change(all)
	return withRecord(r, func(r *Record) { r.Networking = &api.NetworkingConfig{EndpointsConfig: all} })
}

// named is what a container's record calls a network, "" if it is not to be in it.
func (cs *Connections) named(r *Record, networkID string) string {
	for _, ref := range networksOf(r) {
		if id, _, err := cs.networks.Find(ref); err == nil && id == networkID {
			return ref
		}
	}
	return ""
}

// keep is write for a record that asks for other networks, or names in them: half of the
// start that was done ahead does not fit any more.
//
// Preconditions: c.mu is held.
func (cs *Connections) keep(c *Container, r *Record) error {
	if cell := cs.cells.take(c.ID); cell != nil {
		cs.cells.evict(cell)
	}
	return cs.write(c, r)
}

// write makes another record of a container durable, and shows it.
//
// Preconditions: c.mu is held.
func (cs *Connections) write(c *Container, r *Record) error {
	if err := cs.records.put(r); err != nil {
		return err
	}
	c.publish(func(v *View) { v.Record = r })
	return nil
}

// change changes the networks of a running container and notes what came of it. If do
// fails it has taken back what it did. A kill in between leaves the next engine two records
// that disagree: it goes by the live one, and the next start by the durable one.
//
// Preconditions: c.mu is held.
func (cs *Connections) change(c *Container, r *Record, do func(ns *os.File) error) error {
	ns, err := netns.OfProcess(c.process.pid)
	if errors.Is(err, fs.ErrNotExist) { // its end is about to be noted
		return errdefs.New(errdefs.Conflict, "container %s is not running", c.ID)
	}
	if err != nil {
		return fmt.Errorf("container %s: %w", c.ID, err)
	}
	defer ns.Close()
	was := c.View().Record
	if err := do(ns); err != nil {
		return errors.Join(err, cs.note(c, was))
	}
	if err := cs.networks.ServeNames(c.ID, addresses(c.View()), ns); err != nil {
		slog.Warn("names of its new network are not served to a container", "container", c.ID, "err", err)
	}
	failpoint.Hit("network/container-changed")
	if err := cs.note(c, r); err != nil {
		return err
	}
	cs.hold(c.ID)
	return cs.records.put(r)
}

// hold gives the keeper the sockets that a container has got in the network. Without
// them the next engine makes others.
func (cs *Connections) hold(id string) {
	conn, err := cs.link.now()
	if err == nil {
		err = conn.Hold(context.Background(), id, cs.networks.HeldSockets(id))
	}
	if err != nil && !errdefs.Is(err, errdefs.NotFound) {
		slog.Warn("the keeper does not hold a container's sockets", "container", id, "err", err)
	}
}

// note publishes the networks that a running container has now, and writes its
// live record and its files.
//
// Preconditions: c.mu is held.
func (cs *Connections) note(c *Container, r *Record) error {
	list := cs.networks.Endpoints(c.ID)
	now := c.View().Network.with(r, list)
	c.process.live.Network = now
	v := c.publish(func(v *View) { v.Record, v.Network = r, now })
	return errors.Join(cs.records.putLive(c.ID, c.process.live), cs.rewriteFiles(v, list))
}

// rewriteFiles writes /etc/hosts of a running container anew, and /etc/resolv.conf
// unless somebody else has changed it. It is done in place: they are mounted there.
func (cs *Connections) rewriteFiles(v *View, list []*network.Endpoint) error {
	files, err := cs.networkFiles(v, list)
	if err != nil {
		return err
	}
	errs := []error{os.WriteFile(cs.records.file(v.ID, "hosts"), files.Hosts, 0644)}
	resolv := cs.records.file(v.ID, "resolv.conf")
	if have, err := os.ReadFile(resolv); err == nil && etc.Ours(have) && !bytes.Equal(have, files.Resolv) {
		errs = append(errs, os.WriteFile(resolv, files.Resolv, 0644))
	}
	return errors.Join(errs...)
}
