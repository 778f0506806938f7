package container

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/internal/keeper"
	kernel "github.com/tare-engine/tare/internal/linux/process"
)

// far hears what the keeper tells.
type far struct {
	*reunion
	s *Service
}

var _ farSide = (*far)(nil)

func (s *Service) farSide() *far {
	f := &far{s: s}
	f.reunion = &reunion{
		defaults: &s.cfg.Defaults, index: s.index, execs: s.execs, records: s.records, groups: s.groups, strays: &s.strays, work: s.work,
		giveBack: s.giveBack, gone: f.reportGone, heldPorts: s.networks.HeldPorts,
	}
	return f
}

// Exited is called when a process has ended and its output has been read. Like
// all of these it does not block.
func (f *far) Exited(e keeper.Exit) {
	s := f.s
	s.work.run(func() {
		if !s.execs.ended(e) && !s.exits.settle(s.exits.containerEnded(e)) {
			return
		}
		s.link.acknowledge(e.ID)
		if c := s.index.Get(e.ID); c != nil {
			c.clear()
		}
		s.strays.gone(e.ID)
	})
}

// Detached tells that a client left its container by the detach keys.
func (f *far) Detached(id string, _ uint64) {
	if c := f.index.Get(id); c != nil {
		f.s.events.publish(c.View(), events.ActionDetach)
	}
}

// StdinClosed tells that a process is to see the end of its input: our
// duplicate of the writing end must go.
func (f *far) StdinClosed(id string) {
	// Not here: a start holds the lock until the keeper's answer, which comes
	// over the connection that called us.
	f.work.run(func() {
		if f.execs.closeStdin(id) {
			return
		}
		if c := f.index.Get(id); c != nil {
			c.closeStdin()
		}
	})
}

// LogLost tells how many lines of a container's output are not in its log: the
// disk was full.
func (f *far) LogLost(id string, lines int64, reason string) {
	c := f.index.Get(id)
	if c == nil {
		return
	}
	f.work.run(func() { // for the lock, as above
		c.mu.Lock()
		defer c.mu.Unlock()
		if p := c.process; p != nil {
			if lines <= p.lost {
				return // told before
			}
			p.lost = lines
		}
		slog.Warn("lines of a container's output are not in its log", "container", id, "lines", lines, "reason", reason)
		f.s.events.publish(c.View(), actionLogLost, "lines", strconv.FormatInt(lines, 10), "reason", reason)
	})
}

// actionLogLost is an event that Docker has not: "lines" counts all that the
// run has lost so far.
const actionLogLost events.Action = "log_lost"

func (f *far) lostKeeper() { f.work.run(f.s.cells.drop) }

// giveBack frees what others may be waiting for when a run is over: ports and
// addresses. What nobody waits for is left to afterExit.
func (s *Service) giveBack(v *View) error {
	return errors.Join(s.networks.Release(context.Background(), v.ID), s.records.unmountShm(v))
}

// reportGone reports the end of a process of which the keeper knows neither that
// it runs nor how it ended. The kernel tells that if we held it.
func (f *far) reportGone(id string, p *process) {
	e := keeper.Exit{ID: id, Pid: p.pid, At: time.Now(), Unknown: true}
	if p.fd != nil {
		if ws, ok := kernel.Status(p.fd); ok {
			e.Status, e.Unknown = ws, false
		}
	}
	f.work.run(func() {
		if f.s.exits.settle(f.s.exits.containerEnded(e)) {
			if c := f.index.Get(id); c != nil {
				c.clear()
			}
		}
	})
}
