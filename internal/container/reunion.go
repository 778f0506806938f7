package container

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/tare-engine/tare/internal/container/index"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/keeper"
)

// reunion brings a keeper that we connect with and what we believe to run
// together:
//
//	we believe      the keeper has
//	running         the process        its streams are taken
//	running         its exit           that comes next
//	running         nothing            it gets our streams; gone: the end is reported
//	being started   the process        the start came about
//	being started   nothing            what it had acquired is given back
//	nothing         a process          it is ended; a parked one evicted
type reunion struct {
	defaults *Defaults
	index    *index.Index[*Container]
	execs    *Execs
	records  *records
	groups   *groups
	giveBack func(*View) error // what a run that is over holds and others wait for
	gone     func(id string, p *process)
	strays   *strays
	work     *work

	heldPorts func(id string) []*os.File // sockets that reserve a container's host ports
	resume    func(*View) error          // of a container's network, what is the engine's
}

// adopter is a keeper that is to have what we believe to run, and nothing else.
type adopter interface {
	Adopt(ctx context.Context, p keeper.Process, st keeper.Stdio) error
	Hold(ctx context.Context, id string, ports []*os.File) error
	Evict(ctx context.Context, id string) error
}

// reconcile compares what we believe to run with what the keeper has.
func (r *reunion) reconcile(ctx context.Context, conn adopter, procs []keeper.Process, exits []keeper.Exit) {
	ended := map[string]bool{}
	for _, e := range exits {
		ended[e.ID] = true
	}
	known := map[string]*keeper.Process{}
	for i := range procs {
		known[procs[i].ID] = &procs[i]
	}
	for _, c := range r.index.List() {
		p := known[c.ID]
		delete(known, c.ID)
		if err := r.settleStart(conn, c, p, ended[c.ID]); err != nil {
			slog.Error("settle a start that was cut off", "container", c.ID, "err", err)
		}
		if err := r.reunite(ctx, conn, c, p, ended[c.ID]); err != nil {
			slog.Error("adopt container", "container", c.ID, "err", err)
		}
	}
	for _, p := range known {
		if x := r.execOf(p); x != nil {
			if err := r.reuniteExec(ctx, conn, x, p); err != nil {
				slog.Error("adopt exec", "exec", x.ID, "err", err)
			}
			if x.losesClients(p) {
				if err := r.execs.Kill(x.ID, ""); err != nil {
					slog.Error("end an exec whose client was the last keeper's", "exec", x.ID, "err", err)
				}
			}
			continue
		}
		r.stray(conn, p)
	}
	r.execs.settle(ended)
}

// reuniteExec makes an exec and the keeper's process agree. A process of a dead
// keeper gets our streams: without a reader of its output it would be killed.
func (r *reunion) reuniteExec(ctx context.Context, conn adopter, x *Exec, p *keeper.Process) error {
	if !p.Orphan {
		x.adopt(p)
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.running, x.pid, x.ticks, x.begun = true, p.Pid, p.StartTicks, p.Started
	given := keeper.Process{ID: x.ID, Container: x.Container, Pid: p.Pid, StartTicks: p.StartTicks, Started: p.Started, Files: x.files}
	err := conn.Adopt(ctx, given, keeper.Stdio{TTY: x.Request.Tty, OpenStdin: x.Request.AttachStdin, StdinOnce: true})
	if errdefs.Is(err, errdefs.NotFound) { // it ended while no keeper was there
		r.work.run(func() {
			r.execs.ended(keeper.Exit{ID: x.ID, Container: x.Container, Pid: p.Pid, At: time.Now(), Unknown: true})
		})
		return nil
	}
	return err
}

// execOf is the exec of a process; one that an earlier version's engine has
// started, which kept no records of them, is booked again.
func (r *reunion) execOf(p *keeper.Process) *Exec {
	if x := r.execs.get(p.ID); x != nil {
		return x
	}
	c := r.index.Get(p.Container)
	if c == nil || !c.View().Alive() || p.Orphan {
		return nil
	}
	x := &Exec{ID: p.ID, Container: p.Container, started: true, done: newTurn()}
	r.execs.add(x)
	return x
}

// settleStart finds out what became of a start during which the engine was
// killed: the keeper has the process, or its exit, or it never came about.
func (r *reunion) settleStart(conn adopter, c *Container, p *keeper.Process, ended bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	ours := c.process
	if ours == nil || ours.pid != 0 || ended {
		return nil
	}
	if p == nil || p.Parked {
		return r.neverStarted(c, ours)
	}
	ours.pid, ours.startTicks, ours.fd = p.Pid, p.StartTicks, openProcess(p.Pid, p.StartTicks)
	ours.live.Pid, ours.live.StartTicks = p.Pid, p.StartTicks
	v := *c.View()
	v.Pid, v.Ticks, v.Record = p.Pid, p.StartTicks, withRecord(v.Record, ours.live.begin)
	c.adopt(&v)
	err := r.records.putLive(c.ID, ours.live)
	if v.Network != nil && len(v.Network.Records) > 0 {
		err = errors.Join(err, r.resume(&v))
	}
	return err
}

// neverStarted gives back what a start had acquired that was cut off.
//
// Preconditions: c.mu is held.
func (r *reunion) neverStarted(c *Container, p *process) error {
	c.process = nil
	status := Created
	if !c.View().Last.StartedAt.IsZero() {
		status = Exited
	}
	c.adopt(&View{Record: c.View().Record, Status: status, Started: c.View().Last.StartedAt})
	slog.Info("a start was cut off before the program ran", "container", c.ID)
	return errors.Join(r.giveBack(c.View()), p.cgroup.Kill(), p.remove(), r.groups.remove(c.ID, p.cgroup), r.records.removeLive(c.ID))
}

// reunite makes a container's state and the keeper's agree. p is nil if the
// keeper does not know the container; ended, if it is about to tell its exit.
func (r *reunion) reunite(ctx context.Context, conn adopter, c *Container, p *keeper.Process, ended bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	ours := c.process
	switch {
	case ours == nil && p == nil:
		return nil
	case ours == nil: // its start was never answered
		r.stray(conn, p)
		return nil
	case p == nil && ended:
		return nil
	case p != nil && p.Pid == ours.pid && !p.Orphan:
		ours.files.Close()
		ours.files = p.Files
		return r.holdPorts(ctx, conn, c.ID, p.Ports)
	}
	given := keeper.Process{ID: c.ID, Pid: ours.pid, StartTicks: ours.startTicks, Started: c.View().Started, Files: ours.files}
	// The clients were the old keeper's. Those of runs would wait for the end.
	r.work.run(func() { c.endRuns(nil) })
	err := conn.Adopt(ctx, given, r.defaults.stdio(c.View(), c.user()))
	if errdefs.Is(err, errdefs.NotFound) { // it ended while no keeper was there
		r.gone(c.ID, ours)
		return nil
	}
	return errors.Join(err, r.holdPorts(ctx, conn, c.ID, 0))
}

// holdPorts gives the keeper the sockets that reserve a container's host ports
// if it has not got as many: a new keeper has none, and an engine that was
// killed may not have come to the last of them.
func (r *reunion) holdPorts(ctx context.Context, conn adopter, id string, has int) error {
	ports := r.heldPorts(id)
	if len(ports) == has {
		return nil
	}
	err := conn.Hold(ctx, id, ports)
	if errdefs.Is(err, errdefs.NotFound) {
		return nil // it has ended meanwhile
	}
	return err
}

// stray ends a process that belongs to no container we know: its start was cut
// off before it was answered.
func (r *reunion) stray(conn adopter, p *keeper.Process) {
	if p.Parked {
		if err := conn.Evict(context.Background(), p.ID); err != nil {
			slog.Warn("evict the cell of an earlier engine", "id", p.ID, "err", err)
		}
		return
	}
	slog.Warn("end a process of a start that was cut off", "id", p.ID, "pid", p.Pid)
	r.strays.killed(p.ID)
	p.Files.Close()
	if proc, err := os.FindProcess(p.Pid); err == nil { // by pidfd
		if err := proc.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			slog.Error("end stray process", "pid", p.Pid, "err", err)
		}
		proc.Release()
	}
	// It may have entered its group after the start that failed removed it.
	if err := r.groups.removeStray(p.ID, r.groups.strayPath(p.ID)); err != nil {
		slog.Warn("remove the group of a stray process", "id", p.ID, "err", err)
	}
}
