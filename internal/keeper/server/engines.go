package server

import (
	"log/slog"
	"sync"
	"time"

	"github.com/tare-engine/tare/internal/keeper/wire"
)

// engines knows which engine is connected: one at a time, and the newest wins.
type engines struct {
	log *slog.Logger

	mu      sync.Mutex
	session *session                // the engine; nil: none; +checklocks:mu
	last    *session                // the engine that is or was; +checklocks:mu
	losses  map[string]wire.LossDoc // told to each engine; +checklocks:mu
}

// current returns the connected engine, nil if there is none.
func (e *engines) current() *session {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.session
}

// replace makes s the engine and sends the one before away.
func (e *engines) replace(s *session) {
	e.mu.Lock()
	old := e.session
	e.session, s.before, e.last = s, e.last, s
	for _, d := range e.losses {
		s.queue(wire.OpLogLost, d)
	}
	e.mu.Unlock()
	e.log.Info("engine connected", "engine", s.engine)
	if old != nil {
		old.close()
	}
}

// resume makes s the engine, which has been that of an earlier program.
func (e *engines) resume(s *session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.session, e.last = s, s
}

// goneWait is how long the end of a connection may take to be noticed.
const goneWait = time.Second

// stays reports whether an engine is connected and does not leave just now.
func (e *engines) stays() bool {
	s := e.current()
	if s == nil {
		return false
	}
	select {
	case <-s.gone:
		return false
	case <-time.After(goneWait):
		return true
	}
}

// settle waits until no request of the last engine is being served, if it has
// gone.
func (e *engines) settle() {
	e.mu.Lock()
	last := e.last
	e.mu.Unlock()
	if last == nil {
		return
	}
	select {
	case <-last.gone:
		within(upgradeWait, last.requests.Wait)
	case <-time.After(goneWait):
	}
}

func (e *engines) leave(s *session) {
	s.close()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.session == s {
		e.session = nil
	}
}

// tell sends an event to the engine, if there is one. Whatever matters is told
// again when the next one asks for the list.
func (e *engines) tell(o wire.Op, doc any) {
	if s := e.current(); s != nil {
		s.queue(o, doc)
	}
}

// Detached implements stream.Events.
func (e *engines) Detached(id string, client uint64) {
	e.tell(wire.OpDetached, wire.IDDoc{ID: id, Client: client})
}

// StdinClosed implements stream.Events.
func (e *engines) StdinClosed(id string) { e.tell(wire.OpStdinClosed, wire.IDDoc{ID: id}) }

// streamEvents are told to the engine, but for those that the keeper acts on.
type streamEvents struct {
	*engines
	children *children
}

// Abandoned implements stream.Events: no engine is needed for it.
func (e streamEvents) Abandoned(id string) { e.children.kill(id) }

// LogLost implements stream.Events. It is told to the next engine too.
func (e *engines) LogLost(id string, lines int64, reason string) {
	d := wire.LossDoc{ID: id, Lines: lines, Reason: reason}
	e.log.Warn("lines of output are not in the log", "process", id, "lines", lines, "reason", reason)
	e.mu.Lock()
	e.losses[id] = d
	e.mu.Unlock()
	e.tell(wire.OpLogLost, d)
}

// forget drops what would be told of a process.
func (e *engines) forget(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.losses, id)
}
