package container

import (
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
	exits  *exits
	link   *link
	cells  *cells
	events eventLog
}

var _ farSide = (*far)(nil)

func (s *Service) newFar() *far {
	f := &far{exits: s.exits, link: s.link, cells: s.cells, events: s.events}
	f.reunion = &reunion{
		defaults: &s.cfg.Defaults, index: s.index, execs: s.execs, records: s.records, groups: s.groups, strays: &s.strays, work: s.work,
		giveBack: s.exits.giveBack, gone: f.reportGone, heldPorts: s.networks.HeldSockets, resume: s.starts.launcher.resumeNames,
	}
	return f
}

// Exited is called when a process has ended and its output has been read. Like
// all of these it does not block.
func (f *far) Exited(e keeper.Exit) {
	f.work.run(func() {
		if !f.execs.ended(e) && !f.exits.settle(f.exits.containerEnded(e)) {
			return
		}
		f.link.acknowledge(e.ID)
		if c := f.index.Get(e.ID); c != nil {
			c.clear()
		}
		f.strays.gone(e.ID)
	})
}

// Detached tells that a client left its container by the detach keys.
func (f *far) Detached(id string, _ uint64) {
	if c := f.index.Get(id); c != nil {
		f.events.publish(c.View(), events.ActionDetach)
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
		f.events.publish(c.View(), actionLogLost, "lines", strconv.FormatInt(lines, 10), "reason", reason)
	})
}

// actionLogLost is an event that Docker has not: "lines" counts all that the
// run has lost so far.
const actionLogLost events.Action = "log_lost"

func (f *far) lostKeeper() { f.work.run(f.cells.drop) }

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
		if f.exits.settle(f.exits.containerEnded(e)) {
			if c := f.index.Get(id); c != nil {
				c.clear()
			}
		}
	})
}
