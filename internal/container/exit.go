package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/internal/container/restart"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/keeper"
)

// unknownExit is the exit code of a run whose end nobody saw.
const unknownExit = 255

// Exited is called by the keeper's connection when a process has ended and its
// output has been read. It implements keeper.Events and does not block.
func (s *Service) Exited(e keeper.Exit) {
	s.background.Go(func() {
		if !s.execEnded(e) && !s.insist(s.containerEnded(e)) {
			return
		}
		s.acknowledge(e.ID)
		s.strays.gone(e.ID)
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

// insist calls settle until what an exit changes is durable; a disk may be full
// for a while. It gives up, and returns false, when the engine closes: the exit
// stays at the keeper for the next one.
func (s *Service) insist(settle func() error) bool {
	for delay := settleDelay; settle != nil; delay = min(2*delay, settleDelayMax) {
		err := settle()
		if err == nil {
			break
		}
		slog.Error("record exit; it stays at the keeper", "err", err)
		if !s.pause(delay) {
			return false
		}
	}
	return true
}

const (
	settleDelay    = 100 * time.Millisecond
	settleDelayMax = 10 * time.Second
)

// pause sleeps; false: not to the end, because the engine closes.
func (s *Service) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-s.closing:
		return false
	case <-t.C:
		return true
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

// containerEnded takes note of the end of a container's first process. What it
// returns makes that durable; nil: there is nothing to be made so.
func (s *Service) containerEnded(e keeper.Exit) (settle func() error) {
	c := s.index.Get(e.ID)
	if c == nil {
		return nil
	}
	c.mu.Lock()
	p := c.process
	if p == nil || p.pid != e.Pid && p.pid != 0 {
		settled := c.settled
		c.mu.Unlock()
		return s.settledBefore(settled)
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
	s.publishExit(c, e, oom)
	c.mu.Unlock()

	return s.afterExit(c, p)
}

// settledBefore waits for what the first telling of an exit does: it may be at
// it when the exit is told again.
func (s *Service) settledBefore(settled chan struct{}) func() error {
	if settled == nil {
		return nil
	}
	return func() error {
		select {
		case <-settled:
			return nil
		case <-s.closing:
			return errors.New("the engine closes")
		}
	}
}

// publishExit stores the outcome and wakes who waits for it.
//
// Preconditions: c.mu is held.
func (s *Service) publishExit(c *Container, e keeper.Exit, oom bool) {
	code := exitCode(e)
	ran := max(e.At.Sub(c.View().Started), 0)
	status := Exited
	if s.again(c, restart.End{ExitCode: code, Ran: ran}) {
		status = Restarting
	}
	v := c.publish(func(v *View) {
		v.Status, v.Pid, v.Network = status, 0, nil
		v.Record = withRecord(v.Record, func(r *Record) {
			r.Last.StartedAt, r.Last.Restarts = v.Started, c.restarts.row.Count
			r.Last.ExitCode, r.Last.FinishedAt, r.Last.OOMKilled = code, e.At.UTC(), oom
			if e.Unknown {
				r.Last.Error = "the exit status is not known: the process that waited for it was killed"
			}
		})
	})
	c.process, c.settled = nil, make(chan struct{})
	if oom {
		s.publishEvent(v, events.ActionOOM)
	}
	s.publishEvent(v, events.ActionDie, "exitCode", strconv.Itoa(code), "execDuration", strconv.Itoa(int(ran/time.Second)))
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

// giveBack frees what others may be waiting for: ports and addresses. What
// nobody waits for is left to afterExit.
//
// Preconditions: c.mu is held.
func (s *Service) giveBack(c *Container, p *process) error {
	return errors.Join(s.networks.Release(context.Background(), c.ID), s.unmountShm(c.View()))
}

// settleExit makes the outcome of a run durable, or takes the container away if
// it removes itself, and then removes the live record: who is killed before
// that finds the exit again at the keeper.
func (s *Service) settleExit(c *Container) error {
	c.awaitRemoval()
	if s.index.Get(c.ID) != nil && c.View().AutoRemove() && !c.View().Alive() {
		if err := s.remove(context.Background(), c); err != nil {
			slog.Warn("remove after exit", "container", c.ID, "err", err)
			c.awaitRemoval() // it may be another's that was in progress
		}
	}
	return s.recordExit(c)
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
func (s *Service) recordExit(c *Container) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.View()
	if c.process != nil { // it has been started again; the live record is of that run
		return nil
	}
	there := s.index.Get(c.ID) != nil
	if there && v.Status == Removing {
		return fmt.Errorf("container %s: its removal is in progress", c.ID)
	}
	if there && !s.recordTaken(v) {
		if err := s.putRecord(v.Record); err != nil {
			return err
		}
	}
	return s.removeLive(c.ID)
}

// recordTaken reports whether a removal that failed took the record before: the
// container is garbage then, and must not come back.
func (s *Service) recordTaken(v *View) bool {
	if v.Status != Dead {
		return false
	}
	_, err := os.Lstat(s.recordPath(v.Record))
	return errors.Is(err, fs.ErrNotExist)
}

func (s *Service) removeLive(id string) error {
	err := os.Remove(s.livePath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// afterExit removes the rest of the run, and the container if it removes
// itself. It returns what makes the outcome durable if that has not been
// possible.
func (s *Service) afterExit(c *Container, p *process) (settle func() error) {
	if !c.View().AutoRemove() { // else the client waits for the removal
		s.endRuns(c, nil)
	}
	c.mu.Lock()
	settled := c.settled
	c.mu.Unlock()
	try := func() error {
		err := s.settleExit(c)
		if err == nil {
			close(settled)
		}
		return err
	}
	if try() != nil {
		settle = try
	}
	s.endRuns(c, nil)
	failpoint.Hit("exit/recorded")
	p.close()
	if err := p.cgroup.Remove(); err != nil {
		slog.Warn("remove cgroup", "container", c.ID, "err", err)
	}
	failpoint.Hit("exit/cgroup-removed")
	return settle
}
