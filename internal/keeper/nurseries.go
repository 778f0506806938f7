package keeper

import (
	"errors"
	"os"
	"sync"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// nurseries clone for the keeper. There are two, so that a start finds one
// while the other is being made again.
type nurseries struct {
	mu   sync.Mutex
	all  [2]*spawn.Nursery // nil: being made; +checklocks:mu
	next int               // +checklocks:mu
	shut bool              // an upgrade ends them; +checklocks:mu
}

func (k *Keeper) openNurseries() error {
	for i := range k.nursery.all {
		if err := k.openNursery(i); err != nil {
			return err
		}
	}
	return nil
}

// openNursery makes the i-th nursery, and makes it again when it dies.
func (k *Keeper) openNursery(i int) error {
	k.cloning(1)
	defer k.cloning(-1)
	n, err := k.region.NewNursery()
	if err != nil {
		return err
	}
	k.nursery.mu.Lock()
	k.nursery.all[i] = n
	k.nursery.mu.Unlock()
	k.book(n.Pid(), func(e ended) { go k.nurseryDied(i, n, e) })
	return nil
}

func (k *Keeper) nurseryDied(i int, n *spawn.Nursery, e ended) {
	n.Free()
	k.nursery.mu.Lock()
	k.nursery.all[i] = nil
	shut := k.nursery.shut
	k.nursery.mu.Unlock()
	if shut {
		return
	}
	k.log.Warn("nursery died", "pid", n.Pid(), "status", e.status)
	for k.openNursery(i) != nil {
		time.Sleep(100 * time.Millisecond)
	}
}

// pick returns a living nursery, waiting for one if need be.
func (s *nurseries) pick() *spawn.Nursery {
	for range 200 {
		s.mu.Lock()
		for range s.all {
			s.next = (s.next + 1) % len(s.all)
			if n := s.all[s.next]; n != nil {
				s.mu.Unlock()
				return n
			}
		}
		s.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// clone has a nursery clone a child. A nursery that dies over it has either
// made no child, and another one tries, or the kernel has noted the pid.
func (k *Keeper) clone(s *spawn.Slab, o spawn.Options, fds []*os.File) (int, error) {
	for begun := time.Now(); time.Since(begun) < 5*time.Second; {
		n := k.nursery.pick()
		if n == nil {
			break
		}
		pid, err := n.Start(s, o, fds)
		if !errors.Is(err, spawn.ErrNurseryDied) {
			return pid, err
		}
		if pid := s.Pid(); pid > 0 {
			return pid, nil
		}
		time.Sleep(time.Millisecond) // until it is reaped it may be picked again
	}
	return 0, errdefs.New(errdefs.Unavailable, "no nursery stays alive")
}

// gone reports whether all nurseries are reaped.
func (s *nurseries) gone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all == [2]*spawn.Nursery{}
}

// reopen takes close back; the nurseries are to be made again.
func (s *nurseries) reopen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut = false
}

// close ends the nurseries for good.
func (s *nurseries) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut = true
	for _, n := range s.all {
		if n != nil {
			n.Close()
		}
	}
}
