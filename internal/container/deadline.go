package container

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/container/spec"
)

// watchDeadline ends the run when its time is over (--timeout). The time goes on
// while no engine is there.
//
// Preconditions: c.mu is held.
func (s *Service) watchDeadline(c *Container) {
	v, p := c.View(), c.process
	limit := spec.OwnOf(v.HostConfig).Timeout
	if limit == 0 {
		return
	}
	p.deadline = time.AfterFunc(time.Until(v.Started.Add(limit)), func() {
		s.work.runOpen(func() { s.expire(c, p) })
	})
}

// expire kills the container of process p, as Podman's --timeout does; what
// follows is the restart policy's.
func (s *Service) expire(c *Container, p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != p {
		return
	}
	slog.Info("a container's time is over", "container", c.ID)
	if err := s.deliver(c, syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		slog.Error("end a container whose time is over", "container", c.ID, "err", err)
	}
}

// endDeadline forgets the limit of a run that is over.
//
// Preconditions: c.mu is held, c.process is set.
func (c *Container) endDeadline() {
	if d := c.process.deadline; d != nil {
		d.Stop()
	}
}

// onUnhealthy does with the container of process p, which has become unhealthy,
// what its user has asked for (--health-on-failure).
func (s *Service) onUnhealthy(c *Container, p *process) {
	action := spec.OwnOf(c.View().HostConfig).OnUnhealthy
	c.mu.Lock()
	same := c.process == p
	c.mu.Unlock()
	if !same {
		return
	}
	var err error
	switch ctx := context.Background(); action {
	case "kill":
		err = s.signal(c, syscall.SIGKILL) // not Kill: no user has stopped it, so its policy applies
	case "stop":
		err = s.Stop(ctx, c.ID, api.StopOptions{})
	case "restart":
		err = s.Restart(ctx, c.ID, api.StopOptions{})
	}
	if err != nil {
		slog.Warn("act on an unhealthy container", "container", c.ID, "action", action, "err", err)
	}
}
