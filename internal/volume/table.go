package volume

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/tare-engine/tare/internal/errdefs"
)

// entry is one volume. Whoever changes it holds mu from the decision until it is on
// disk; readers take the view. It is in the table before it is made, and no more
// when it is gone.
type entry struct {
	name string
	view atomic.Pointer[View] // nil: it is being made

	mu       sync.Mutex
	gone     bool            // whoever waited for mu looks for the name again
	users    []string        // containers that have acquired it, in that order; several times if they have it several times
	mounters map[string]bool // containers that have it mounted
	tied     bool            // the file "for" is there
	going    bool            // its container takes it along

	unmounting chan struct{} // closed when the plugin knows of all ends; nil: it does
}

func newEntry(name string) *entry { return &entry{name: name, mounters: map[string]bool{}} }

// lock takes e.mu; false, with e.mu free: the volume has gone meanwhile.
func (e *entry) lock() bool {
	e.mu.Lock()
	if e.gone {
		e.mu.Unlock()
		return false
	}
	return true
}

// publish stores a view, with the users that there are.
//
// Preconditions: e.mu is held, or nobody else has e yet.
func (e *entry) publish(v *View) {
	v.Users = slices.Compact(slices.Sorted(slices.Values(e.users)))
	e.view.Store(v)
}

// changed stores the view with the users that there are now.
//
// Preconditions: e.mu is held.
func (e *entry) changed() {
	v := *e.view.Load()
	e.publish(&v)
}

// Who holds a volume takes the lock of another one only in these ways, so that no two
// wait for each other: add never waits, and holdMade, for who holds a new entry, waits
// for none that is new.

// find returns the volume of a name, being made or not; nil: there is none. Its lock is
// not taken.
func (s *Service) find(name string) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.volumes[name]
}

// hold returns the volume with its lock taken, or NotFound.
func (s *Service) hold(name string) (*entry, error) {
	for {
		e := s.find(name)
		if e == nil {
			return nil, missing(name)
		}
		if e.lock() {
			return e, nil
		}
	}
}

// holdMade is hold for who holds an entry of add: one that is being made is not there,
// as its maker may be waiting for ours.
func (s *Service) holdMade(name string) (*entry, error) {
	for {
		e := s.find(name)
		if e == nil || e.view.Load() == nil {
			return nil, missing(name)
		}
		if e.lock() {
			return e, nil
		}
	}
}

// holdOrAdd returns the volume of a name with its lock taken; if there is none, an
// empty entry.
func (s *Service) holdOrAdd(name string) (_ *entry, added bool) {
	for {
		if e, err := s.hold(name); err == nil {
			return e, false
		}
		if e, err := s.add(name); err == nil {
			return e, true
		}
	}
}

// add puts an entry for a new volume into the table, with its lock taken. A name that
// is taken, also by one that is being made, is Conflict. It never waits, so that who
// holds another volume may call it.
func (s *Service) add(name string) (*entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.volumes[name] != nil {
		return nil, errdefs.New(errdefs.Conflict, "there is a volume %s already", name)
	}
	e := newEntry(name)
	e.mu.Lock()
	s.volumes[name] = e
	return e, nil
}

// forget takes a volume out of the table.
//
// Preconditions: e.mu is held.
func (s *Service) forget(e *entry) {
	e.gone = true
	s.sizes.Forget(e.name)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.volumes, e.name)
}
