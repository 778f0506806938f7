package container

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/keeper"
)

// unknownExit is the exit code of a run whose end nobody saw.
const unknownExit = 255

// Exited is called by the keeper's connection when a process has ended and its
// output has been read. It implements keeper.Events and does not block.
func (s *Service) Exited(e keeper.Exit) {
	s.background.Go(func() {
		if !s.execEnded(e) {
			s.containerEnded(e)
		}
		s.acknowledge(e.ID)
	})
}

// acknowledge lets the keeper forget an exit. A keeper that is lost tells it
// again when it has been replaced.
func (s *Service) acknowledge(id string) {
	for {
		conn, err := s.keeperConn()
		if err == nil {
			if err := conn.Ack(context.Background(), id); err != nil {
				slog.Warn("acknowledge exit", "id", id, "err", err)
			}
			return
		}
		if s.isClosing() {
			return
		}
	}
}

// Detached tells that a client left its container by the detach keys.
func (s *Service) Detached(id string, _ uint64) {
	if c := s.index.Get(id); c != nil {
		s.publishEvent(c.View(), events.ActionDetach)
	}
}

// StdinClosed tells that a process is to see the end of its input: our
// duplicate of the writing end must go.
func (s *Service) StdinClosed(id string) {
	// Not here: a start holds the lock until the keeper's answer, which comes
	// over the connection that called us.
	s.background.Go(func() { s.closeStdin(id) })
}

func (s *Service) closeStdin(id string) {
	if s.execs.closeStdin(id) {
		return
	}
	c := s.index.Get(id)
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil && c.process.files.Stdin != nil {
		c.process.files.Stdin.Close()
		c.process.files.Stdin = nil
	}
}

// containerEnded takes note of the end of a container's first process.
func (s *Service) containerEnded(e keeper.Exit) {
	c := s.index.Get(e.ID)
	if c == nil {
		return
	}
	c.mu.Lock()
	p := c.process
	if p == nil || p.pid != e.Pid && p.pid != 0 {
		c.mu.Unlock()
		return
	}
	kills, err := p.cgroup.OOMKills()
	if err != nil {
		slog.Warn("read the group's OOM kills", "container", c.ID, "err", err)
	}
	oom := kills > 0
	failpoint.Hit("exit/noticed")
	if err := s.giveBack(c, p); err != nil {
		slog.Warn("clean up after exit", "container", c.ID, "err", err)
	}
	failpoint.Hit("exit/given-back")
	v := s.publishExit(c, e, oom)
	c.mu.Unlock()

	s.afterExit(c, v, p)
}

// publishExit stores the outcome and wakes who waits for it.
//
// Preconditions: c.mu is held.
func (s *Service) publishExit(c *Container, e keeper.Exit, oom bool) *View {
	code := exitCode(e)
	v := c.publish(func(v *View) {
		v.Status, v.Pid, v.Network = Exited, 0, nil
		v.Record = withRecord(v.Record, func(r *Record) {
			r.Last.StartedAt = v.Started
			r.Last.ExitCode, r.Last.FinishedAt, r.Last.OOMKilled = code, e.At.UTC(), oom
			if e.Unknown {
				r.Last.Error = "the exit status is not known: the process that waited for it was killed"
			}
		})
	})
	c.process = nil
	if oom {
		s.publishEvent(v, events.ActionOOM)
	}
	ran := int(e.At.Sub(v.Started) / time.Second)
	s.publishEvent(v, events.ActionDie, "exitCode", strconv.Itoa(code), "execDuration", strconv.Itoa(max(ran, 0)))
	c.turns.exited(Result{ExitCode: code})
	return v
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

// giveBack frees what others may be waiting for: ports and addresses. What
// nobody waits for is left to afterExit.
//
// Preconditions: c.mu is held.
func (s *Service) giveBack(c *Container, p *process) error {
	return errors.Join(s.networks.Release(context.Background(), c.ID), s.unmountShm(c.View()))
}

// recordExit makes the outcome durable and then removes the live record: who is
// killed before that finds the exit again at the keeper.
func (s *Service) recordExit(c *Container) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.View()
	if c.process != nil { // it has been started again; the live record is of that run
		return nil
	}
	if v.Status != Removing && s.index.Get(c.ID) != nil {
		if err := s.putRecord(v.Record); err != nil {
			return err
		}
	}
	return s.removeLive(c.ID)
}

func (s *Service) removeLive(id string) error {
	err := os.Remove(s.livePath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// afterExit removes the rest of the run, and the container if it removes
// itself.
func (s *Service) afterExit(c *Container, v *View, p *process) {
	if v.AutoRemove() {
		if err := errors.Join(s.remove(context.Background(), c), s.removeLive(c.ID)); err != nil {
			slog.Warn("remove after exit", "container", c.ID, "err", err)
		}
		s.endRuns(c, nil)
	} else {
		s.endRuns(c, nil)
		if err := s.recordExit(c); err != nil {
			slog.Error("record exit", "container", c.ID, "err", err)
		}
	}
	failpoint.Hit("exit/recorded")
	p.close()
	if err := p.cgroup.Remove(); err != nil {
		slog.Warn("remove cgroup", "container", c.ID, "err", err)
	}
	failpoint.Hit("exit/cgroup-removed")
}
