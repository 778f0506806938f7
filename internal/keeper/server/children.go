package server

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/keeper/reaper"
	"github.com/tare-engine/tare/internal/keeper/wire"
)

// children is the list of all processes, and of the exits that no engine has
// acknowledged. An ID is in one of both at most.
//
// Lock order: children, reaper.
type children struct {
	mu      sync.Mutex
	byID    map[string]*child    // +checklocks:mu
	exits   map[string]wire.Exit // +checklocks:mu
	seconds map[string]*seconds  // by container; +checklocks:mu
	emptied chan struct{}        // tells, once for many times, that the last process has gone
}

// seconds are the second halves of one container that have not begun.
type seconds struct {
	slots chan struct{} // one for each
	users int           // who has a slot, or waits for one; +checklocks:children.mu
}

func newChildren() *children {
	return &children{byID: map[string]*child{}, exits: map[string]wire.Exit{}, seconds: map[string]*seconds{}, emptied: make(chan struct{}, 1)}
}

// claim enters a child.
func (l *children) claim(c *child) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := c.process.ID
	if l.byID[id] != nil {
		return errdefs.New(errdefs.Conflict, "process %s is there already", id)
	}
	if _, ok := l.exits[id]; ok {
		return errdefs.New(errdefs.Conflict, "the exit of process %s is not acknowledged", id)
	}
	l.byID[id] = c
	return nil
}

// forget takes a child that never ran off the list.
func (l *children) forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.freePorts(id)
	delete(l.byID, id)
	l.tellEmptied()
}

// tellEmptied tells who waits for it that no process runs any more.
//
// Preconditions: l.mu is held.
func (l *children) tellEmptied() {
	if l.running() != "" {
		return
	}
	select {
	case l.emptied <- struct{}{}:
	default:
	}
}

// running is a process that runs, "" if none does.
//
// Preconditions: l.mu is held.
func (l *children) running() string {
	for id, c := range l.byID {
		if c.state != parked {
			return id
		}
	}
	return ""
}

// get returns a child, nil if there is none.
func (l *children) get(id string) *child {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byID[id]
}

// kill sends a process SIGKILL, if it is still there.
func (l *children) kill(id string) {
	if c := l.get(id); c != nil {
		c.kill()
	}
}

// all returns the children in no order.
func (l *children) all() []*child {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]*child, 0, len(l.byID))
	for _, c := range l.byID {
		out = append(out, c)
	}
	return out
}

// become changes the state of a child.
func (l *children) become(c *child, s state) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.state = s
}

// unpark takes a parked child for a wake or an eviction: its end is the
// caller's from now on.
func (l *children) unpark(id string, r *reaper.Reaper) (*child, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.byID[id]
	if c == nil || c.state != parked || !r.Rebook(c.process.Pid, c.hears()) {
		return nil, errdefs.New(errdefs.NotFound, "no parked process %s", id)
	}
	c.state = starting
	return c, nil
}

// ended puts an exit in the place of its child, whose host ports are free then:
// the engine frees its own when it hears of the exit, and the next container
// may want them at once.
func (l *children) ended(x wire.Exit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.freePorts(x.ID)
	delete(l.byID, x.ID)
	l.exits[x.ID] = x
	l.tellEmptied()
}

// restore enters exits that an earlier program has recorded.
func (l *children) restore(exits map[string]wire.Exit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, x := range exits {
		l.exits[id] = x
	}
}

// hasExit reports whether an exit is not acknowledged.
func (l *children) hasExit(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.exits[id]
	return ok
}

func (l *children) forgetExit(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.exits, id)
}

// whenIdle calls f, with the lock held, if no process runs.
func (l *children) whenIdle(f func()) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id := l.running(); id != "" {
		return errdefs.New(errdefs.Conflict, "process %s is running", id)
	}
	f()
	return nil
}

// enterSecond waits for room for a second half in a container, but not longer than
// one may take. leave gives it back.
func (l *children) enterSecond(container string, longest time.Duration) (leave func(), err error) {
	s := l.useSeconds(container)
	select {
	case s.slots <- struct{}{}:
		return func() {
			<-s.slots
			l.unuseSeconds(container, s)
		}, nil
	case <-time.After(longest):
		l.unuseSeconds(container, s)
		return nil, errdefs.New(errdefs.Unavailable, "%d processes of the container have not begun yet", maxSeconds)
	}
}

func (l *children) useSeconds(container string) *seconds {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.seconds[container]
	if s == nil {
		s = &seconds{slots: make(chan struct{}, maxSeconds)}
		l.seconds[container] = s
	}
	s.users++
	return s
}

func (l *children) unuseSeconds(container string, s *seconds) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.users--; s.users == 0 {
		delete(l.seconds, container)
	}
}

// item is a line of the list.
type item struct {
	id      string
	process *wire.Process
	exit    *wire.Exit
}

// listed returns what is behind the ID after, in the order of IDs.
func (l *children) listed(after string) []item {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []item
	for id, c := range l.byID {
		if id > after && c.state != starting {
			p := c.process
			p.Parked, p.Orphan, p.Ports = c.state == parked, c.state == orphaned, len(c.ports)
			out = append(out, item{id: id, process: &p})
		}
	}
	for id, x := range l.exits {
		if id > after {
			out = append(out, item{id: id, exit: &x})
		}
	}
	slices.SortFunc(out, func(a, b item) int { return strings.Compare(a.id, b.id) })
	return out
}
