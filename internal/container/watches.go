package container

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/container/health"
	"github.com/tare-engine/tare/internal/container/spec"
)

// watches are kept over a run: its health, its time, and what it says.
type watches struct {
	forwards *forwards
	records  *records
	events   eventLog
	work     *work
	execs    *Execs
	checks   probeCounts
	stops    *stops
	service  userActions
}

// probeCounts count the probes of all containers' health.
type probeCounts struct{ all, failed atomic.Uint64 }

// counting is a probe that is counted.
func (n *probeCounts) counting(p health.Probe) health.Probe {
	return func(ctx context.Context) (int, string, error) {
		n.all.Add(1)
		code, out, err := p(ctx)
		if code != 0 || err != nil {
			n.failed.Add(1)
		}
		return code, out, err
	}
}

// Probes counts the probes of containers' health, and of these the failed ones.
func (s *Service) Probes() (all, failed uint64) {
	return s.watches.checks.all.Load(), s.watches.checks.failed.Load()
}

// userActions are done as if a user asked for them: by the Service.
type userActions interface {
	Stop(ctx context.Context, ref string, o api.StopOptions) error
	Restart(ctx context.Context, ref string, o api.StopOptions) error
}

// begin watches a container that runs.
//
// Preconditions: c.mu is held.
func (w *watches) begin(c *Container) {
	w.watchHealth(c)
	w.watchDeadline(c)
	w.forwards.begin(c.View())
}

// resume begins anew to watch a container that ran when the last engine ended.
func (w *watches) resume(c *Container) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil && c.process.fd != nil {
		w.begin(c)
	}
}

// endWatches ends what was begun for the run that is over.
//
// Preconditions: c.mu is held, c.process is set.
func (c *Container) endWatches() {
	if m := c.health.Load(); m != nil {
		m.Stop()
	}
	if d := c.process.deadline; d != nil {
		d.Stop()
	}
}

// watchDeadline ends the run when its time is over (--timeout). The time goes on
// while no engine is there.
//
// Preconditions: c.mu is held.
func (w *watches) watchDeadline(c *Container) {
	v, p := c.View(), c.process
	limit := spec.OwnOf(v.HostConfig).Timeout
	if limit == 0 {
		return
	}
	p.deadline = time.AfterFunc(time.Until(v.Started.Add(limit)), func() {
		w.work.runOpen(func() { w.expire(c, p) })
	})
}

// expire kills the container of process p, as Podman's --timeout does; what
// follows is the restart policy's.
func (w *watches) expire(c *Container, p *process) {
	slog.Info("a container's time is over", "container", c.ID)
	if err := w.stops.killRun(c, p); err != nil {
		slog.Error("end a container whose time is over", "container", c.ID, "err", err)
	}
}

// giveUp ends a run whose startup probe has failed too often, not here: it needs
// the lock. The restarter begins another, whatever the policy says. If the engine
// closes meanwhile, the next one goes on.
func (w *watches) giveUp(c *Container, p *process) {
	w.work.runOpen(func() {
		slog.Info("a container's startup probe has failed too often: it is restarted", "container", c.ID)
		ctx, cancel := w.work.untilClose()
		defer cancel()
		if err := w.stops.endRun(ctx, c, p); err != nil && ctx.Err() == nil {
			slog.Error("end a container whose startup probe has failed", "container", c.ID, "err", err)
		}
	})
}

// actOn does what is asked for an unhealthy container, not here: it needs the
// lock, and ends the probing.
func (w *watches) actOn(c *Container, p *process) {
	if spec.OwnOf(c.View().HostConfig).OnUnhealthy != "" {
		w.work.runOpen(func() { w.onUnhealthy(c, p) })
	}
}

// onUnhealthy does with the container of process p, which has become unhealthy,
// what its user has asked for (--health-on-failure).
func (w *watches) onUnhealthy(c *Container, p *process) {
	var err error
	action := spec.OwnOf(c.View().HostConfig).OnUnhealthy
	switch ctx := context.Background(); action {
	case "kill":
		err = w.stops.killRun(c, p) // not Kill: no user has stopped it, so its policy applies
	case "stop":
		err = w.service.Stop(ctx, c.ID, api.StopOptions{})
	case "restart":
		err = w.service.Restart(ctx, c.ID, api.StopOptions{})
	}
	if err != nil {
		slog.Warn("act on an unhealthy container", "container", c.ID, "action", action, "err", err)
	}
}
