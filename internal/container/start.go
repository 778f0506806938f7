package container

import (
	"context"
	"errors"
	"log/slog"

	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/internal/container/index"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/runtime"
)

// Start runs the container's program. It returns when the program has been
// executed, or NotModified if the container runs already.
func (s *Service) Start(ctx context.Context, ref string) error {
	return s.starts.onRequest(ctx, ref)
}

// starts lead a container from where its start is asked for to where it runs:
//
//	required   what it requires runs
//	launched   its program has been executed (launch.go), or why not is in its view
//	published  it runs, in the view too
//	watched    memory, time, health
type starts struct {
	launcher *launcher
	index    *index.Index[*Container]
	records  *records
	link     *link
	cells    *cells
	events   eventLog
	work     *work
	ooms     *ooms
	watches  *watches
	restarts *restarter
	removals *removals
}

// onRequest is Start.
func (s *starts) onRequest(ctx context.Context, ref string) error {
	c, err := s.index.Find(ref)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if _, err := s.link.wait(); err != nil {
		return err
	}
	if err := c.awaitClear(s.work.closing); err != nil {
		return err
	}
	var missing error // what the container requires
	if v := c.View(); !v.Up() {
		missing = s.require(ctx, v)
	}
	s.cells.starting.Add(1)
	c.mu.Lock()
	switch v := c.View(); {
	case v.Status == Restarting:
		err = errdefs.New(errdefs.NotModified, "container %s is already running", v.ID)
	case missing != nil && (v.Status == Created || v.Status == Exited):
		err = missing
		s.failed(c, err)
	default:
		if !v.Alive() { // else a stop under way must remain the end
			c.restarts = restarts{}
		}
		err = s.start(ctx, c)
	}
	c.mu.Unlock()
	s.cells.starting.Add(-1)
	if err != nil && !errdefs.Is(err, errdefs.NotModified) && c.View().AutoRemove() {
		err = errors.Join(err, s.removals.remove(ctx, c, true))
	}
	return err
}

// start begins a run, for a user or the restarter.
//
// Preconditions: c.mu is held.
func (s *starts) start(ctx context.Context, c *Container) error {
	v := c.View()
	switch v.Status {
	case Running:
		return errdefs.New(errdefs.NotModified, "container %s is already running", v.ID)
	case Paused:
		return errdefs.New(errdefs.Conflict, "cannot start a paused container, try unpause instead")
	case Removing, Dead:
		return errdefs.New(errdefs.Conflict, "container is marked for removal and cannot be started")
	}
	if err := s.restarts.unmarkStopped(c); err != nil {
		return err
	}
	l, err := s.launcher.launch(ctx, c)
	if err != nil {
		s.failed(c, err)
		return err
	}
	c.process = l.process
	c.process.live = l.live
	c.health.Store(nil)
	v = c.publish(func(v *View) {
		v.Status, v.Pid, v.Ticks, v.Started, v.Network = Running, l.live.Pid, l.live.StartTicks, l.live.StartedAt, l.live.Network
		v.Record = withRecord(v.Record, l.live.begin)
	})
	s.events.publish(v, events.ActionStart)
	s.watches.begin(c)
	if len(s.launcher.links.of(c.ID)) > 0 {
		s.work.later("tell who is linked to it of a container's address", v, func(context.Context) error { return s.launcher.relink(c.ID) })
	}
	if v.HostConfig.Memory != 0 {
		s.work.run(func() { s.ooms.watch(c) })
	}
	return nil
}

// failed records why a start did not come about. Who waits for the next end of a
// run goes on waiting, as with Docker: this was none.
//
// Preconditions: c.mu is held.
func (s *starts) failed(c *Container, cause error) {
	code := 128
	var se *runtime.StartError
	if errors.As(cause, &se) {
		code = se.Code
	}
	v := c.publish(func(v *View) {
		v.Record = withRecord(v.Record, func(r *Record) {
			r.Last.ExitCode, r.Last.Error = code, cause.Error()
		})
	})
	slog.Warn("a container could not be started", "container", c.ID, "name", v.Name, "code", code, "err", cause)
	closeEnds(c.waiting)
	c.waiting = nil
	s.work.later("record failed start", v, func(context.Context) error { return s.saveRecord(c) })
}

// saveRecord writes the container's newest record, unless it is gone.
func (s *starts) saveRecord(c *Container) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.View()
	if v.Status == Removing || s.index.Get(c.ID) == nil {
		return nil
	}
	return s.records.put(v.Record)
}
