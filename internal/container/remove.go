package container

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/internal/container/index"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/logs"
)

// RemoveDepending is Remove of a container and of all that require it, which go
// first.
func (s *Service) RemoveDepending(ctx context.Context, ref string, o Removal) error {
	c, err := s.index.Find(ref)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if err := s.removals.removeDependants(ctx, c.ID, o); err != nil {
		return err
	}
	return s.Remove(ctx, c.ID, o)
}

// Removal says how a container is removed.
type Removal struct {
	Force   bool // it is killed if it runs
	Volumes bool // its anonymous volumes go too; those of one that removes itself always do
}

// Remove takes a container away. A running one is refused unless Force is set;
// then it is killed first. One that others require is refused, too; by force it
// goes, and the others cannot be started any more.
func (s *Service) Remove(ctx context.Context, ref string, o Removal) error {
	return s.removals.onRequest(ctx, ref, o)
}

// removals take containers away: their ends if that is forced, their layers and
// records.
type removals struct {
	index   *index.Index[*Container]
	records *records
	layers  *layer.Service
	volumes *volumes
	ids     *ids
	execs   *Execs
	stops   *stops
	events  eventLog
	work    *work
	links   *links

	followers *logs.Followers
	departed  *departed
	places    places
	forwards  *forwards
}

// onRequest is Remove.
func (r *removals) onRequest(ctx context.Context, ref string, o Removal) error {
	c, err := r.index.Find(ref)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if !o.Force {
		if d := r.dependants(c.ID); len(d) > 0 {
			return errRequired(c.View(), d)
		}
	}
	if o.Force {
		c.mu.Lock()
		c.endRestarts()
		c.restarts.stopped = true // no start comes between its end and its removal
		c.mu.Unlock()
	}
	v := c.View()
	if v.Up() {
		if !o.Force {
			return errRunning(v)
		}
		_, removal := c.turns.next()
		if _, err := r.stops.killNow(ctx, c); err != nil {
			return fmt.Errorf("cannot remove container %q: could not kill: %w", "/"+v.Name, err)
		}
		if c.goes() { // its end removes it
			if gone, err := waitFor(ctx, removal, killWait); gone || err != nil {
				return err
			}
		}
	}
	return r.remove(ctx, c, o.Volumes)
}

func errRunning(v *View) error {
	what := "stop the container before removing or force remove"
	if v.Status == Paused {
		what = "unpause and then " + what
	}
	return errdefs.New(errdefs.Conflict, "cannot remove container %q: container is %s: %s", "/"+v.Name, v.Status, what)
}

// remove takes away a container that does not run, and its anonymous volumes if that
// is asked for or it removes itself.
func (r *removals) remove(ctx context.Context, c *Container, volumes bool) error {
	c.mu.Lock()
	v := c.View()
	switch {
	case v.Status == Removing:
		c.mu.Unlock()
		return errdefs.New(errdefs.Conflict, "removal of container %s is already in progress", v.ID)
	case v.Up():
		c.mu.Unlock()
		return errRunning(v)
	}
	c.publish(func(v *View) { v.Status = Removing })
	c.removing = make(chan struct{})
	defer close(c.removing)
	closeEnds(c.waiting)
	c.waiting = nil
	c.mu.Unlock()

	failpoint.Hit("rm/marked")
	r.forwards.arrive(c.ID)
	if err := r.takeAway(ctx, c.View(), volumes || v.AutoRemove()); err != nil {
		c.mu.Lock()
		c.publish(func(v *View) { v.Status = Dead })
		c.mu.Unlock()
		return fmt.Errorf("remove container %s: %w", v.ID, err)
	}
	if v.AutoRemove() { // before it cannot be found any more
		r.departed.add(v.ID, Result{ExitCode: v.Last.ExitCode})
	}
	r.index.Remove(c)
	r.links.drop(c.ID)
	r.ids.give(v.IDs)
	r.execs.forget(c.ID)
	r.events.publish(v, events.ActionDestroy)
	c.turns.removed(Result{ExitCode: v.Last.ExitCode})
	return nil
}

// takeAway removes what the container has on disk: the record first, so that
// the rest is garbage from then on and goes at the next start at the latest.
func (r *removals) takeAway(ctx context.Context, v *View, volumes bool) error {
	leave, err := r.places.take(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	defer leave()
	if err := r.volumes.goes(v, volumes); err != nil {
		return err
	}
	if err := r.records.remove(v.Record); err != nil {
		return err
	}
	failpoint.Hit("rm/record-removed")
	if err := r.records.sync(v.Record); err != nil {
		return err
	}
	failpoint.Hit("rm/record-synced")
	r.volumes.gone(v, volumes)
	if v.Rootfs != "" {
		r.work.later("remove directory", v, func(context.Context) error { return r.removeDir(v.ID) })
		return nil
	}
	if err := r.layers.Remove(ctx, v.ID); err != nil {
		return err
	}
	failpoint.Hit("rm/layer-removed")
	r.work.later("remove directory", v, func(context.Context) error { return r.removeDir(v.ID) })
	return nil
}

// removeDir removes a container's directory. Who reads its log goes on.
func (r *removals) removeDir(id string) error {
	r.forwards.depart(id)
	return errors.Join(r.followers.Hold(r.records.logDir(id)), os.RemoveAll(r.records.dir(id)))
}
