package container

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/linux/cgroup"
	"github.com/tare-engine/tare/internal/network"
	"github.com/tare-engine/tare/internal/runtime"
	"github.com/tare-engine/tare/internal/undo"
)

// A cell is half a start, done ahead: a parked child that bears the ID of a
// container to come, in its namespaces, network and control groups. Create
// hands the ID out; a start soon after sends the child on with the rest of its
// plan. A container that turns out to need something else is started cold, by
// the same code. What cells buy is latency: the kernel's work is the same.
type cell struct {
	id      string
	network string // ID of the network that it is in
	group   *cgroup.Group
	plan    *runtime.Cell
	endAt   time.Time // when a claimed cell is given up
}

// make does the first half of a start for a container to come, in a network.
func (p *cells) make(ctx context.Context, net string) (_ *cell, err error) {
	var u undo.Stack
	defer u.Run(&err)
	conn, err := p.link.wait()
	if err != nil {
		return nil, err
	}
	c := &cell{id: ident.New(), network: net}
	in, err := p.spec(c.id)
	if err != nil {
		return nil, err
	}
	defer in.Root.Close()
	made, err := spec.Of(in)
	if err != nil {
		return nil, err
	}
	ep, err := p.networks.Reserve(ctx, network.Request{ContainerID: c.id, Network: net})
	if err != nil {
		return nil, err
	}
	u.Add(func() error { return p.networks.Release(context.WithoutCancel(ctx), c.id) })
	failpoint.Hit("cell/network-reserved")
	if c.group, err = cgroup.Parent(p.cgroup).Create(c.id, made.Linux.Resources); err != nil {
		return nil, err
	}
	u.Add(func() error { return errors.Join(c.group.Kill(), c.group.Remove()) })
	failpoint.Hit("cell/cgroup-made")
	c.plan, err = runtime.NewCell(runtime.Config{ID: c.id, Spec: made, NetNS: ep.NetNS, CgroupProcs: c.group.ProcsPaths()})
	if err != nil {
		return nil, err
	}
	defer c.plan.Close()
	// A stop waits for the keeper's answer: a child that is on its way could not
	// be taken back.
	_, err = conn.Park(context.WithoutCancel(ctx), keeper.Start{ID: c.id, Flags: c.plan.Flags, CgroupFD: c.plan.CgroupFD, Plan: c.plan.Image, FDs: c.plan.FDs})
	failpoint.Hit("cell/parked")
	return c, err
}

// spec is the input for the spec of a container with nothing special.
func (p *cells) spec(id string) (spec.Input, error) {
	root, err := os.Open(p.records.volatile()) // users are looked up there: there are none
	if err != nil {
		return spec.Input{}, err
	}
	req := &container.CreateRequest{Config: &container.Config{Cmd: []string{"/"}, Hostname: ident.Short(id)}, HostConfig: &container.HostConfig{}}
	if _, err := spec.Validate("", req, spec.MountRules{}); err != nil {
		root.Close()
		return spec.Input{}, err
	}
	return spec.Input{ID: id, Config: req.Config, HostConfig: req.HostConfig, Root: root, CgroupPath: p.cgroup + "/" + id}, nil
}

func (p *cells) evictAll(list []*cell) {
	for _, c := range list {
		p.evict(c)
	}
}

// evict ends a cell's child and gives back what it held. While the keeper is being
// replaced nobody waits for it, as a start may wait for us: the group is killed.
func (p *cells) evict(c *cell) {
	var err error
	if conn, cerr := p.link.now(); cerr == nil {
		err = conn.Evict(context.Background(), c.id)
	}
	if err != nil {
		slog.Debug("evict a cell", "id", c.id, "err", err)
	}
	p.abandon(c)
}

// abandon gives back what a cell held whose child is gone.
func (p *cells) abandon(c *cell) {
	defer p.gone(c.id)
	if err := errors.Join(p.networks.Release(context.Background(), c.id), c.group.Kill(), c.group.Remove()); err != nil {
		slog.Warn("give up a cell", "id", c.id, "err", err)
	}
}

// wakeCell sends the cell's child on as the container of this launch. It
// returns runtime.ErrNoFit if the container is not what the cell was made for.
func (l *launch) wakeCell(c *cell) (err error) {
	if err := c.group.Update(l.spec.Linux.Resources); err != nil {
		return fmt.Errorf("%w: %w", runtime.ErrNoFit, err)
	}
	l.process = &process{cgroup: c.group}
	l.live.Cgroup = c.group.Path()
	l.start, err = readyStart(l.told(runtime.NewWake(l.config(), c.plan)))
	return err
}

// evictCell gives up a cell that does not fit, or is not needed: its child and its
// groups. The network stays the container's.
func (l *launch) evictCell(ctx context.Context) error {
	conn, err := l.link.now()
	if err == nil {
		err = conn.Evict(ctx, l.cell.id)
	}
	g := l.cell.group
	l.cell = nil
	return errors.Join(err, g.Remove())
}
