package container

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/tare-engine/tare/internal/container/index"
	"github.com/tare-engine/tare/internal/container/restart"
	"github.com/tare-engine/tare/internal/errdefs"
)

// atOnce is how many containers are started at the same time after a boot.
const atOnce = 8

// restarts is a container's present row of restarts. It is guarded by the
// container's mu.
type restarts struct {
	row     restart.Row
	stopped bool        // a user has asked for the end of this run
	timer   *time.Timer // set while the status is Restarting
}

// restarter starts containers again, as their policies say.
type restarter struct {
	index   *index.Index[*Container]
	records *records
	link    *link
	work    *work
	starts  *starts
}

// again decides what follows the end of a run: true if the container waits for
// its next start from now on.
//
// Preconditions: c.mu is held.
func (r *restarter) again(c *Container, end restart.End) bool {
	end.Stopped = c.restarts.stopped
	delay, ok := c.restarts.row.Next(c.View().HostConfig.RestartPolicy, end)
	if !ok || r.work.closes() {
		return false
	}
	c.restarts.timer = time.AfterFunc(delay, func() {
		r.work.runOpen(func() { r.startAgain(c) })
	})
	return true
}

// startAgain starts a container whose wait is over. A start that fails is tried
// again as the policy says: what it needs (a disk, a device) may come late.
func (r *restarter) startAgain(c *Container) {
	_, err := r.link.wait()
	if err == nil {
		err = c.awaitClear(r.work.closing)
	}
	if v := c.View(); err == nil && v.Status == Restarting {
		err = r.starts.require(context.Background(), v)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.View().Status != Restarting || r.index.Get(c.ID) == nil {
		return
	}
	c.restarts.timer = nil
	if err != nil {
		slog.Warn("restart container", "container", c.ID, "err", err)
	} else if err = r.starts.start(context.Background(), c); err == nil {
		return
	}
	status := Exited
	if r.again(c, restart.End{Failed: true, GivenUp: c.View().Last.GivenUp}) {
		status = Restarting
	}
	c.publish(func(v *View) {
		v.Status = status
		v.Record = withRecord(v.Record, func(rec *Record) { rec.Last.Restarts = c.restarts.row.Count })
	})
	c.turns.exited(Result{ExitCode: c.View().Last.ExitCode, Error: err.Error()}) // it was up until now
}

// endRestarts makes an end of a container's wait for its next start. It returns
// false if the container does not wait.
//
// Preconditions: c.mu is held.
func (c *Container) endRestarts() bool {
	if c.View().Status != Restarting {
		return false
	}
	if c.restarts.timer != nil {
		c.restarts.timer.Stop()
		c.restarts.timer = nil
	}
	c.publish(func(v *View) { v.Status = Exited })
	c.turns.exited(Result{ExitCode: c.View().Last.ExitCode})
	return true
}

// markStopped notes that a user wants no more runs of the container, durably:
// the next boot asks.
//
// Preconditions: c.mu is held.
func (r *restarter) markStopped(c *Container) error {
	c.restarts.stopped = true
	v := c.View()
	if v.HostConfig.RestartPolicy.IsNone() && !v.Last.GivenUp || v.Stopped {
		return nil
	}
	rec := withRecord(v.Record, func(rec *Record) { rec.Stopped = true })
	c.publish(func(v *View) { v.Record = rec })
	return r.records.put(rec)
}

// unmarkStopped takes that back, durably too: a container that a user starts
// again is started at the boots to come.
//
// Preconditions: c.mu is held.
func (r *restarter) unmarkStopped(c *Container) error {
	v := c.View()
	if !v.Stopped {
		return nil
	}
	rec := withRecord(v.Record, func(rec *Record) { rec.Stopped = false })
	if err := r.records.put(rec); err != nil {
		return err
	}
	c.publish(func(v *View) { v.Record = rec })
	return nil
}

// startWanted starts the containers whose policy wants them up after a boot, a
// few at a time, in the background: a slow one holds up neither the API nor
// the others, but for those that require it.
func (r *restarter) startWanted() {
	var wanted []*Container
	for _, c := range slices.Backward(r.index.List()) { // the oldest first
		c.mu.Lock()
		v := c.View()
		if v.Status == Exited && wantedAtBoot(v) {
			c.publish(func(v *View) { v.Status = Restarting })
			wanted = append(wanted, c)
		}
		c.mu.Unlock()
	}
	if len(wanted) == 0 {
		return
	}
	r.work.runOpen(func() {
		var all sync.WaitGroup
		slots := make(chan struct{}, atOnce)
		tried := make(map[string]chan struct{}, len(wanted)) // closed after the first attempt
		for _, c := range wanted {
			tried[c.ID] = make(chan struct{})
		}
		for _, c := range wanted {
			all.Go(func() {
				defer close(tried[c.ID])
				r.awaitRequired(c.View(), tried, map[string]bool{})
				slots <- struct{}{} // not before: who waits for others must not keep them from it
				if !r.work.closes() {
					r.startAgain(c)
				}
				<-slots
			})
		}
		all.Wait()
	})
}

// awaitRequired waits for the first attempts at the containers that v requires,
// itself or through others.
func (r *restarter) awaitRequired(v *View, tried map[string]chan struct{}, seen map[string]bool) {
	for _, id := range v.Requires {
		if seen[id] {
			continue
		}
		seen[id] = true
		if t := tried[id]; t != nil { // it waits for what it requires
			<-t
		} else if c := r.index.Get(id); c != nil {
			r.awaitRequired(c.View(), tried, seen)
		}
	}
}

// wantedAtBoot reports whether a container that does not run is to be started with
// the engine.
func wantedAtBoot(v *View) bool {
	return v.Last.GivenUp && !v.Stopped || restart.AtBoot(v.HostConfig.RestartPolicy, v.Last.ExitCode, v.Last.Restarts, v.Stopped)
}

// errRestarting is Docker's text for what needs a process, while there is none.
func errRestarting(v *View) error {
	return errdefs.New(errdefs.Conflict, "Container %s is restarting, wait until the container is running", v.ID)
}
