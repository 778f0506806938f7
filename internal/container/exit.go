package container

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/internal/container/index"
	"github.com/tare-engine/tare/internal/container/restart"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/keeper"
)

// unknownExit is the exit code of a run whose end nobody saw.
const unknownExit = 255

// exits lead a run from its end to where nothing is left of it:
//
//	noticed     the keeper tells, or we see it
//	given back  what others may wait for: ports, addresses
//	published   the outcome is in the view, waiters wake
//	settled     the outcome is durable, or the container is gone
//	cleared     nothing is left on the host: the next run may begin
//	(then the exit is acknowledged to the keeper)
type exits struct {
	forwards *forwards
	index    *index.Index[*Container]
	records  *records
	groups   *groups
	ooms     *ooms
	events   eventLog
	work     *work
	restarts *restarter
	removals *removals

	giveBack func(*View) error
}

// containerEnded takes note of the end of a container's first process. What it
// returns makes that durable; nil: there is nothing to be made so.
func (x *exits) containerEnded(e keeper.Exit) (settle func() error) {
	c := x.index.Get(e.ID)
	if c == nil {
		return nil
	}
	c.mu.Lock()
	p := c.process
	if p == nil || p.pid != e.Pid && p.pid != 0 {
		settled := c.settled
		c.mu.Unlock()
		return x.settledBefore(settled)
	}
	oom := x.outOfMemory(c, p)
	failpoint.Hit("exit/noticed")
	if mode := c.View().HostConfig.PidMode; mode != "" {
		// The first process is not its namespace's first: the kernel does not take
		// the others with it.
		if err := p.cgroup.Kill(); err != nil {
			slog.Warn("end the other processes of a container", "container", c.ID, "err", err)
		}
	}
	if err := x.giveBack(c.View()); err != nil {
		slog.Warn("clean up after exit", "container", c.ID, "err", err)
	}
	failpoint.Hit("exit/given-back")
	x.publishExit(c, e, oom)
	c.mu.Unlock()

	return x.afterExit(c, p)
}

// outOfMemory reports whether the kernel has killed a process of the run for want
// of memory, and ends watching that.
//
// Preconditions: c.mu is held.
func (x *exits) outOfMemory(c *Container, p *process) bool {
	seen := x.ooms.forget(p)
	kills, err := p.cgroup.OOMKills()
	switch {
	case err == nil:
		return kills > 0
	case !isScope(p.cgroup.Path()): // else systemd has removed it, with its counters
		slog.Warn("read the group's OOM kills", "container", c.ID, "err", err)
	}
	return seen
}

// settle makes durable what an exit changed; false: the engine closed before,
// and the exit stays at the keeper for the next one.
func (x *exits) settle(settle func() error) bool {
	return settle == nil || x.work.insist("record exit; it stays at the keeper", settle)
}

// settledBefore waits for what the first telling of an exit does: it may be at
// it when the exit is told again.
func (x *exits) settledBefore(settled chan struct{}) func() error {
	if settled == nil {
		return nil
	}
	return func() error {
		select {
		case <-settled:
			return nil
		case <-x.work.closing:
			return errors.New("the engine closes")
		}
	}
}

// publishExit stores the outcome and wakes who waits for it.
//
// Preconditions: c.mu is held.
func (x *exits) publishExit(c *Container, e keeper.Exit, oom bool) {
	if oom && !c.View().Last.OOMKilled { // else it was told when it happened
		x.ooms.tell(c)
	}
	code := exitCode(e)
	ran := max(e.At.Sub(c.View().Started), 0)
	status, givenUp := Exited, c.process.live.Startup.GivenUp
	if x.restarts.again(c, restart.End{ExitCode: code, Ran: ran, GivenUp: givenUp}) {
		status = Restarting
	}
	c.endWatches()
	x.forwards.ended(c.ID)
	v := c.publish(func(v *View) {
		v.Status, v.Pid, v.Ticks, v.Network, v.Health = status, 0, 0, nil, ""
		v.Record = withRecord(v.Record, func(r *Record) {
			r.Last.StartedAt, r.Last.Restarts = v.Started, c.restarts.row.Count
			r.Last.ExitCode, r.Last.FinishedAt, r.Last.GivenUp = code, e.At.UTC(), givenUp && status == Restarting
			if e.Unknown {
				r.Last.Error = "the exit status is not known: the process that waited for it was killed"
			}
		})
	})
	c.process, c.settled, c.cleared = nil, make(chan struct{}), make(chan struct{})
	x.events.publish(v, events.ActionDie, "exitCode", strconv.Itoa(code), "execDuration", strconv.Itoa(int(ran/time.Second)))
	c.turns.exited(Result{ExitCode: code})
}

func exitCode(e keeper.Exit) int {
	switch {
	case e.Unknown:
		return unknownExit
	case e.Status.Signaled():
		return 128 + int(e.Status.Signal())
	}
	return e.Status.ExitStatus()
}

// settleExit makes the outcome of a run durable, or takes the container away if
// it removes itself, and then removes the live record: who is killed before
// that finds the exit again at the keeper.
func (x *exits) settleExit(c *Container) error {
	c.awaitRemoval()
	if x.index.Get(c.ID) != nil && c.goes() && !c.View().Alive() {
		if err := x.removals.remove(context.Background(), c, true); err != nil {
			slog.Warn("remove after exit", "container", c.ID, "err", err)
			c.awaitRemoval() // it may be another's that was in progress
		}
	}
	return x.recordExit(c)
}

// awaitRemoval waits for the end of a removal that is in progress.
func (c *Container) awaitRemoval() {
	c.mu.Lock()
	removing := c.removing
	c.mu.Unlock()
	if removing != nil {
		<-removing
	}
}

// recordExit makes the outcome durable, unless the container is gone.
func (x *exits) recordExit(c *Container) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.View()
	if c.process != nil { // it has been started again; the live record is of that run
		return nil
	}
	there := x.index.Get(c.ID) != nil
	if there && v.Status == Removing {
		return fmt.Errorf("container %s: its removal is in progress", c.ID)
	}
	// A removal that failed may have taken the record before: the container is
	// garbage then, and must not come back.
	if there && (v.Status != Dead || !x.records.taken(v.Record)) {
		if err := x.records.put(v.Record); err != nil {
			return err
		}
	}
	return x.records.removeLive(c.ID)
}

// afterExit removes the rest of the run, and the container if it removes
// itself. It returns what makes the outcome durable if that has not been
// possible.
func (x *exits) afterExit(c *Container, p *process) (settle func() error) {
	removes := c.goes() // its client waits for the removal
	if !removes {
		c.endRuns(nil)
		x.clearGroup(c.ID, p)
	}
	c.mu.Lock()
	settled := c.settled
	c.mu.Unlock()
	try := func() error {
		err := x.settleExit(c)
		if err == nil {
			close(settled)
		}
		return err
	}
	if try() != nil {
		settle = try
	}
	c.endRuns(nil)
	failpoint.Hit("exit/recorded")
	if removes {
		x.clearGroup(c.ID, p)
	}
	return settle
}

// clearGroup gives back what is left of a process on the host.
func (x *exits) clearGroup(id string, p *process) {
	p.close()
	if err := errors.Join(p.remove(), x.groups.remove(id, p.cgroup)); err != nil {
		slog.Warn("remove what is left of a run", "container", id, "err", err)
	}
	failpoint.Hit("exit/cgroup-removed")
}

// clear lets the next run begin.
func (c *Container) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.cleared: // its end has been told twice
	default:
		if c.cleared != nil {
			close(c.cleared)
		}
	}
}

// awaitClear waits until the container's next run may begin, unless the engine
// closes.
func (c *Container) awaitClear(closing <-chan struct{}) error {
	c.mu.Lock()
	cleared := c.cleared
	c.mu.Unlock()
	if cleared == nil {
		return nil
	}
	select {
	case <-cleared:
		return nil
	case <-closing:
	case <-time.After(clearPatience):
	}
	return errdefs.New(errdefs.Unavailable, "the end of the last run of container %s is still being recorded; try again", c.ID)
}

// clearPatience is how long a start waits for that: a record takes a sync.
const clearPatience = 10 * time.Second
