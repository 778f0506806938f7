package container

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/container/index"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/linux/spawn"
	"github.com/tare-engine/tare/internal/network"
	"github.com/tare-engine/tare/internal/runtime"
	"github.com/tare-engine/tare/internal/runtime/external"
	"github.com/tare-engine/tare/internal/undo"
)

// launcher starts the processes of containers: it brings together what a run
// needs of the host, and has the keeper execute the program.
type launcher struct {
	defaults *Defaults
	bootID   string
	index    *index.Index[*Container] // of those whose namespaces are joined
	records  *records
	views    *views
	networks *network.Service
	volumes  *volumes
	ids      *ids
	groups   *groups
	home     external.Home
	cells    *cells
	link     *link
	links    *links
	places   places
}

func (s *Service) newLauncher() *launcher {
	return &launcher{
		defaults: &s.cfg.Defaults, bootID: s.cfg.BootID, index: s.index, records: s.records, views: s.views, networks: s.networks, volumes: s.volumes,
		ids: s.ids, groups: s.groups, home: s.groups.home, cells: s.cells, link: s.link, links: s.links, places: s.places,
	}
}

// giveBack frees what others may be waiting for when a run is over: ports and
// addresses. What nobody waits for is left to afterExit.
func (lr *launcher) giveBack(v *View) error {
	return errors.Join(lr.networks.Release(context.Background(), v.ID), lr.records.unmountShm(v), lr.volumes.unmount(v))
}

// launch is one start on its way: what it has acquired so far.
type launch struct {
	*launcher
	view    *View
	cell    *cell    // half of the start, done ahead; nil: none, or it is used up
	root    *os.File // detached mount
	net     *attachment
	donors  []donor    // whose namespaces it joins
	userns  *os.File   // of those whose namespaces it joins, or made ahead for another runtime; nil: its child makes its own, or it has none
	netns   *os.File   // made ahead with userns; nil: there is another one, or its child makes it
	joined  []*os.File // further namespaces of others, for another runtime
	spec    *specs.Spec
	start   *ready
	process *process
	birth   *birth // of a container with ids of its own
	live    live
}

// launch acquires what a run needs and has the keeper start it. After an error
// everything is given back.
//
// Preconditions: c.mu is held.
func (lr *launcher) launch(ctx context.Context, c *Container) (_ *launch, err error) {
	leave, err := lr.places.take(context.WithoutCancel(ctx))
	if err != nil {
		return nil, err
	}
	defer leave()
	var u undo.Stack
	defer u.Run(&err)
	l := &launch{launcher: lr, view: c.View(), cell: lr.cells.take(c.ID), live: live{Restarts: c.restarts.row.Count}}
	network := make(chan error, 1)
	go func() { network <- l.attachNetwork(ctx) }()
	err = l.mountRoot(ctx)
	err = l.there(errors.Join(err, <-network))
	u.Add(func() error { return l.release(ctx) })
	if err != nil {
		return nil, err
	}
	defer l.closeRoot()
	defer l.closeNamespaces()
	defer l.volumes.endParts(l.view)
	failpoint.Hit("start/network-and-root")

	if err := l.there(errors.Join(l.writeFiles(), l.makeSpec(ctx))); err != nil {
		return nil, err
	}
	err = l.prepare(ctx)
	defer l.birth.close()
	defer l.start.giveUp()
	if err := l.there(err); err != nil { // what was opened is theirs
		return nil, err
	}
	if err := l.announce(); err != nil {
		return nil, err
	}
	u.Add(func() error { return lr.records.removeLive(c.ID) })
	failpoint.Hit("start/announced")
	if err := l.run(ctx, c); err != nil {
		return nil, err
	}
	u.Add(l.abort)
	failpoint.Hit("start/running")
	if err := lr.records.putLive(c.ID, l.live); err != nil {
		return nil, err
	}
	failpoint.Hit("start/live-recorded")
	if err := l.remember(); err != nil {
		return nil, err
	}
	failpoint.Hit("start/remembered")
	return l, nil
}

// remember makes durable that a container has run which the next boot may have to
// start: what else says so lies on tmpfs.
func (l *launch) remember() error {
	if l.view.HostConfig.RestartPolicy.IsNone() {
		return nil
	}
	return l.records.put(withRecord(l.view.Record, l.live.begin))
}

// announce writes the live record without a process. If we are killed before we
// know the process, the next engine takes it over as the container's: by then
// its client may have been told how it ended. Nothing that the program writes is older.
func (l *launch) announce() error {
	l.live.BootID, l.live.StartedAt = l.bootID, time.Now().UTC()
	l.live.Network, l.live.User = l.net.view, l.spec.Process.User
	return l.records.putLive(l.view.ID, l.live)
}

func (l *launch) mountRoot(ctx context.Context) (err error) {
	l.root, err = l.views.mountRoot(ctx, l.view)
	return err
}

func (l *launch) closeRoot() {
	if l.root != nil {
		l.root.Close()
	}
}

// prepare makes the control groups and the plan: the second half of one if the
// container has a cell that fits, else a whole one.
func (l *launch) prepare(ctx context.Context) error {
	if l.cell != nil {
		err := l.wakeCell(l.cell)
		if err == nil {
			return nil
		}
		slog.Debug("a cell does not fit", "container", l.view.ID, "why", err)
		l.process = nil
		if err := l.evictCell(ctx); err != nil {
			return err
		}
	}
	if isExternal(l.view.Record) {
		return l.prepareExternal()
	}
	if err := l.makeCgroup(); err != nil {
		return err
	}
	failpoint.Hit("start/cgroup-made")
	c := l.config()
	c.CgroupFD = l.process.cgroup.FD()
	var err error
	if l.view.IDs != nil || !l.process.cgroup.Begun() {
		if l.birth, err = newBirth(l); err != nil {
			return err
		}
		c.Waiting = l.birth.waiting()
	}
	if l.start, err = l.birth.ready(l.told(runtime.NewStart(c))); err != nil {
		l.birth.close()
	}
	return err
}

// told says at level debug what the first process does.
func (l *launch) told(s *runtime.Start, err error) (*runtime.Start, error) {
	if err == nil {
		slog.Debug("the first process does", "container", l.view.ID, "steps", spawn.Outline{Plan: s.Plan})
	}
	return s, err
}

// makeCgroup makes the container's groups with their limits.
func (l *launch) makeCgroup() error {
	g, err := l.groups.make(l.view.Record, l.spec.Linux.Resources)
	if err != nil {
		return err
	}
	l.process = &process{cgroup: g}
	l.live.Cgroup = g.Path()
	return nil
}

// config is what the runtime needs to know. The groups have been made.
func (l *launch) config() runtime.Config {
	size := l.view.HostConfig.ConsoleSize
	c := runtime.Config{
		ID: l.view.ID, Spec: l.spec, Root: l.root, NetNS: l.net.netns(),
		CgroupProcs: l.process.cgroup.ProcsPaths(), Rows: uint16(size[0]), Cols: uint16(size[1]), InUserNS: l.userns != nil,
	}
	return c
}

// run sends the plan to the keeper and waits until the program is executed.
func (l *launch) run(ctx context.Context, c *Container) error {
	conn, err := l.link.now()
	if err != nil {
		return err
	}
	ends := liveEnds(c.waiting)
	c.waiting = nil
	defer closeEnds(ends)
	start := conn.Start
	if l.cell != nil {
		start, l.cell = conn.Wake, nil
	}
	how := l.start.plan
	how.ID, how.Stdio, how.Clients, how.Ports = c.ID, l.defaults.stdio(l.view, l.spec.Process.User), clients(ends), l.networks.HeldSockets(c.ID)
	if l.process.external == nil {
		how.UserNS = l.userns
	}
	p, err := l.birth.attend(&how, func() (*keeper.Process, error) { return start(ctx, how) })
	if err != nil {
		return l.there(l.explain(err))
	}
	if err := l.net.started(); err != nil {
		slog.Warn("close the network namespace", "container", c.ID, "err", err)
	}
	l.started(p)
	return nil
}

// explain is what clients read of the keeper's error.
func (l *launch) explain(err error) error {
	told := l.start.explain(err)
	if told == err {
		return fmt.Errorf("start container %s: %w", l.view.ID, err)
	}
	return told
}

// started takes note of the running process.
func (l *launch) started(p *keeper.Process) {
	fd := openProcess(p.Pid, p.StartTicks) // it may have ended already
	l.process.pid, l.process.startTicks, l.process.fd, l.process.files = p.Pid, p.StartTicks, fd, p.Files
	l.process.user = l.spec.Process.User
	if l.net.shared == nil {
		l.net.view.SandboxKey = "/proc/" + strconv.Itoa(p.Pid) + "/ns/net" // as nsenter wants it
	}
	l.live.Pid, l.live.StartTicks = p.Pid, p.StartTicks
}

// abort ends a program that was started but could not be recorded.
func (l *launch) abort() error {
	defer l.process.close()
	return l.process.signal(syscall.SIGKILL)
}

// release gives back what a failed launch holds of the host.
func (l *launch) release(ctx context.Context) error {
	var err error
	switch {
	case l.cell != nil:
		err = l.evictCell(ctx)
	case l.process != nil: // with a child, if the keeper was killed before it answered
		err = errors.Join(l.process.cgroup.Kill(), l.process.remove(), l.groups.remove(l.view.ID, l.process.cgroup))
	}
	return errors.Join(err, l.releaseNetwork(ctx), l.records.unmountShm(l.view), l.volumes.unmount(l.view))
}
