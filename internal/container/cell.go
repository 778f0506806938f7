package container

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
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
	id    string
	group *cgroup.Group
	plan  *runtime.Cell
	endAt time.Time // when a claimed cell is given up
}

const (
	cellsAhead  = 3                      // how many are kept ready
	cellClaim   = 2 * time.Second        // how long a created container's cell waits for its start
	cellsIdle   = time.Minute            // without a start the pool is emptied
	cellsPause  = 500 * time.Microsecond // between looks for a quiet moment
	cellsUrgent = 100 * time.Millisecond // how long the refill waits for one
)

// cells is the pool. Its loop makes and gives up cells; nobody waits for it.
type cells struct {
	s        *Service
	starting atomic.Int32 // starts under way: the loop keeps out of their way
	wake     chan struct{}

	mu      sync.Mutex
	ready   []*cell
	claimed map[string]*cell // by container ID
	used    time.Time        // of the last start that a cell would have fitted
	off     bool
}

func newCells(s *Service) *cells {
	return &cells{s: s, wake: make(chan struct{}, 1), claimed: map[string]*cell{}}
}

// fitsCell reports whether a container may be what cells are made for. Only
// what is cheap to see is looked at; NewWake compares the rest.
func fitsCell(req *Request) bool {
	h, c := req.HostConfig, req.Config
	return !h.Privileged && (h.NetworkMode.IsDefault() || h.NetworkMode.IsBridge()) && h.PidMode == "" && h.UTSMode == "" &&
		h.IpcMode == container.IPCModePrivate && h.CgroupnsMode == container.CgroupnsModePrivate && h.CgroupParent == "" &&
		h.UsernsMode == "" && len(h.CapAdd)+len(h.CapDrop)+len(h.Devices)+len(h.Sysctls)+len(h.SecurityOpt) == 0 &&
		c.Hostname == "" && c.Domainname == "" && h.OomScoreAdj == 0 && !asksMAC(req)
}

func asksMAC(req *Request) bool {
	if req.Networking == nil {
		return false
	}
	for _, ep := range req.Networking.EndpointsConfig {
		if ep != nil && len(ep.MacAddress) > 0 {
			return true
		}
	}
	return false
}

// newID returns the ID for a new container: that of a ready cell if one fits.
func (p *cells) newID(req *Request) string {
	if !fitsCell(req) {
		return ident.New()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used = time.Now()
	defer p.poke()
	if len(p.ready) == 0 {
		return ident.New()
	}
	c := p.ready[0]
	p.ready = p.ready[1:]
	c.endAt = time.Now().Add(cellClaim)
	p.claimed[c.id] = c
	return c.id
}

// take returns the container's cell, nil if it has none. It is the caller's.
func (p *cells) take(id string) *cell {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.claimed[id]
	delete(p.claimed, id)
	return c
}

// poke lets the loop look at the pool.
func (p *cells) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run keeps the pool filled while containers are started, and empties it when
// none were for a while, and at the end.
func (p *cells) run(ctx context.Context) {
	tick := time.NewTicker(cellClaim)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			p.empty()
			return
		case <-p.wake:
		case <-tick.C:
		}
		for _, c := range p.stale() {
			p.s.evict(c)
		}
		for ctx.Err() == nil && p.wanted() {
			p.quiet(ctx)
			c, err := p.s.makeCell(ctx)
			if err != nil {
				slog.Debug("make a cell", "err", err)
				break
			}
			p.add(c)
		}
	}
}

// wanted reports whether the pool should have one more cell.
func (p *cells) wanted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.off && len(p.ready) < cellsAhead && time.Since(p.used) < cellsIdle
}

func (p *cells) add(c *cell) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready = append(p.ready, c)
}

// quiet waits for a moment without starts, but not for long.
func (p *cells) quiet(ctx context.Context) {
	for end := time.Now().Add(cellsUrgent); p.starting.Load() > 0 && time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(cellsPause)
	}
}

// stale takes the cells out that are to be given up: claimed ones whose start
// did not come, and all if there are no starts at all.
func (p *cells) stale() []*cell {
	p.mu.Lock()
	defer p.mu.Unlock()
	var old []*cell
	for id, c := range p.claimed {
		if time.Now().After(c.endAt) {
			old = append(old, c)
			delete(p.claimed, id)
		}
	}
	if time.Since(p.used) > cellsIdle {
		old = append(old, p.ready...)
		p.ready = nil
	}
	return old
}

// empty gives all cells up and makes no more.
func (p *cells) empty() {
	p.mu.Lock()
	p.off = true
	all := p.ready
	p.ready = nil
	for id, c := range p.claimed {
		all = append(all, c)
		delete(p.claimed, id)
	}
	p.mu.Unlock()
	for _, c := range all {
		p.s.evict(c)
	}
}

// drop forgets all cells: their children ended with the keeper that had them.
func (p *cells) drop() {
	p.mu.Lock()
	all := p.ready
	p.ready = nil
	for id, c := range p.claimed {
		all = append(all, c)
		delete(p.claimed, id)
	}
	p.mu.Unlock()
	for _, c := range all {
		p.s.abandon(c)
	}
}

// makeCell does the first half of a start for a container to come.
func (s *Service) makeCell(ctx context.Context) (_ *cell, err error) {
	var u undo.Stack
	defer u.Run(&err)
	conn, err := s.link.wait()
	if err != nil {
		return nil, err
	}
	c := &cell{id: ident.New()}
	in, err := s.cellSpec(c.id)
	if err != nil {
		return nil, err
	}
	defer in.Root.Close()
	made, err := spec.Of(in)
	if err != nil {
		return nil, err
	}
	ep, err := s.networks.Reserve(ctx, network.Request{ContainerID: c.id, Network: "bridge"})
	if err != nil {
		return nil, err
	}
	u.Add(func() error { return s.networks.Release(context.WithoutCancel(ctx), c.id) })
	failpoint.Hit("cell/network-reserved")
	if c.group, err = cgroup.Create(in.CgroupPath, made.Linux.Resources); err != nil {
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

// cellSpec is the input for the spec of a container with nothing special.
func (s *Service) cellSpec(id string) (spec.Input, error) {
	root, err := os.Open(s.cfg.ExecRoot + "/containers") // users are looked up there: there are none
	if err != nil {
		return spec.Input{}, err
	}
	req := &container.CreateRequest{Config: &container.Config{Cmd: []string{"/"}, Hostname: ident.Short(id)}, HostConfig: &container.HostConfig{}}
	if _, err := spec.Validate("", req); err != nil {
		root.Close()
		return spec.Input{}, err
	}
	return spec.Input{ID: id, Config: req.Config, HostConfig: req.HostConfig, Root: root, CgroupPath: s.cfg.Cgroup + "/" + id}, nil
}

// evict ends a cell's child and gives back what it held.
func (s *Service) evict(c *cell) {
	var err error
	if conn, cerr := s.link.wait(); cerr == nil {
		err = conn.Evict(context.Background(), c.id)
	}
	if err != nil {
		slog.Debug("evict a cell", "id", c.id, "err", err)
	}
	s.abandon(c)
}

// abandon gives back what a cell held whose child is gone.
func (s *Service) abandon(c *cell) {
	if err := errors.Join(s.networks.Release(context.Background(), c.id), c.group.Kill(), c.group.Remove()); err != nil {
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
	l.start, err = runtime.NewWake(l.config(), c.plan)
	return err
}

// evictCell ends the child of a cell that does not fit, or is not needed.
func (l *launch) evictCell(ctx context.Context) error {
	conn, err := l.s.link.now()
	if err != nil {
		return err
	}
	return conn.Evict(ctx, l.cell.id)
}

// removeCellGroup removes the cell's groups; the network stays the container's.
func (l *launch) removeCellGroup() error {
	g := l.cell.group
	l.cell = nil
	return g.Remove()
}
