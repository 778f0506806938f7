package container

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"

	"github.com/moby/moby/api/types/events"
	api "github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/network"
)

// Publish changes which ports of a container are published, in this run and the next
// ones. Connections through those that stay are not disturbed.
func (cs *Connections) Publish(ctx context.Context, ref string, add, remove api.PortMap) error {
	return cs.with(ref, func(c *Container, v *View) error {
		mode := spec.NetworkMode(v.Config, v.HostConfig)
		if _, isPath := spec.NetworkPath(mode); isPath || mode.IsHost() || mode.IsContainer() || mode.IsNone() {
			return errdefs.New(errdefs.InvalidArgument, "container %s has the network mode %s: it has no ports to publish", v.Name, mode)
		}
		r, err := republished(v.Record, add, remove)
		if err != nil {
			return err
		}
		if !c.runs() {
			err = cs.keep(c, r)
		} else {
			err = cs.change(c, r, func(*os.File) error { return cs.republish(ctx, c, v.Record, r) })
		}
		if err == nil {
			cs.events.publish(c.View(), events.ActionUpdate)
		}
		return err
	})
}

// republish makes the ports of a running container those of another record.
func (cs *Connections) republish(ctx context.Context, c *Container, was, r *Record) error {
	now, before := *c.View(), *c.View()
	now.Record, before.Record = r, was
	taken, err := cs.retainPorts(&before, &now)
	if err == nil {
		err = cs.publishPorts(ctx, &now)
	}
	if err != nil { // with the numbers that they had, and what was opened
		_, again := cs.networks.Publish(context.Background(), c.ID, taken)
		err = errors.Join(err, again, cs.publishPorts(context.Background(), &before))
	}
	return errors.Join(err, cs.networks.FreeRest(c.ID))
}

// retainPorts takes back the published ports that are not asked for any more, and returns
// them.
func (lr *launcher) retainPorts(before, now *View) ([]network.Port, error) {
	var lists [2][]network.Port
	for i, v := range []*View{before, now} {
		var err error
		if lists[i], err = network.WantedPorts(v.HostConfig.PortBindings, v.Config.ExposedPorts, v.HostConfig.PublishAllPorts); err != nil {
			return nil, err
		}
	}
	return lr.networks.Retain(now.ID, lists[0], lists[1])
}

// republished is a record with other published ports.
func republished(r *Record, add, remove api.PortMap) (*Record, error) {
	host, config := *r.HostConfig, *r.Config
	host.PortBindings = maps.Clone(host.PortBindings)
	if host.PortBindings == nil {
		host.PortBindings = api.PortMap{}
	}
	for port, bindings := range remove {
		have := host.PortBindings[port]
		rest := slices.DeleteFunc(slices.Clone(have), func(b api.PortBinding) bool { return covered(b, bindings) })
		if len(rest) == len(have) {
			return nil, errdefs.New(errdefs.NotFound, "no port %s of container %s is published like that", port, r.Name)
		}
		if host.PortBindings[port] = rest; len(rest) == 0 {
			delete(host.PortBindings, port)
		}
	}
	config.ExposedPorts = maps.Clone(config.ExposedPorts)
	if config.ExposedPorts == nil {
		config.ExposedPorts = api.PortSet{}
	}
	for port, bindings := range add {
		for _, b := range bindings {
			if slices.Contains(host.PortBindings[port], b) && b.HostPort != "" {
				return nil, errdefs.New(errdefs.Conflict, "port %s of container %s is published like that already", port, r.Name)
			}
			host.PortBindings[port] = append(slices.Clone(host.PortBindings[port]), b)
		}
		config.ExposedPorts[port] = struct{}{}
	}
	if err := spec.ValidatePorts(&host, &config); err != nil {
		return nil, err
	}
	return withRecord(r, func(r *Record) { r.HostConfig, r.Config = &host, &config }), nil
}

// covered says that one of some bindings stands for b.
func covered(b api.PortBinding, by []api.PortBinding) bool {
	return len(by) == 0 || slices.ContainsFunc(by, func(o api.PortBinding) bool {
		return (o.HostPort == "" || o.HostPort == b.HostPort) && (!o.HostIP.IsValid() || o.HostIP == b.HostIP)
	})
}
