// Package nursery keeps the processes that clone for the keeper. See package
// spawn for what a nursery is.
package nursery

import (
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/keeper/reaper"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// Pool has two nurseries, so that a start finds one while the other is being
// made again.
type Pool struct {
	region *spawn.Region
	reaper *reaper.Reaper
	log    *slog.Logger

	mu     sync.Mutex
	all    [2]*spawn.Nursery // nil: none, or being made; +checklocks:mu
	making [2]bool           // +checklocks:mu
	next   int               // +checklocks:mu
	shut   bool              // an upgrade ends them; +checklocks:mu
}

// New returns a pool without nurseries.
func New(region *spawn.Region, r *reaper.Reaper, log *slog.Logger) *Pool {
	return &Pool{region: region, reaper: r, log: log}
}

// Open makes the nurseries; from now on each is made again when it dies. The
// error is of one that could not be made: it is tried again until Close.
func (p *Pool) Open() error {
	p.mu.Lock()
	p.shut = false
	p.mu.Unlock()
	var errs []error
	for i := range p.all {
		if err := p.open(i); err != nil {
			errs = append(errs, err)
			go p.reopen(i)
		}
	}
	return errors.Join(errs...)
}

// open makes the i-th nursery, unless there is one, or there is to be none.
func (p *Pool) open(i int) error {
	p.mu.Lock()
	if p.shut || p.making[i] || p.all[i] != nil {
		p.mu.Unlock()
		return nil
	}
	p.making[i] = true
	p.mu.Unlock()
	booked := p.reaper.Cloning()
	defer booked()
	n, err := p.region.NewNursery()
	p.mu.Lock()
	p.making[i] = false
	if err == nil {
		p.all[i] = n
		if p.shut { // meanwhile
			err = n.Close()
		}
	}
	p.mu.Unlock()
	if n != nil {
		p.reaper.Book(n.Pid(), func(e reaper.End) { go p.died(i, n, e) })
	}
	return err
}

func (p *Pool) died(i int, n *spawn.Nursery, e reaper.End) {
	n.Free()
	p.mu.Lock()
	p.all[i] = nil
	shut := p.shut
	p.mu.Unlock()
	if !shut {
		p.log.Warn("nursery died", "pid", n.Pid(), "status", e.Status)
		p.reopen(i)
	}
}

// reopen makes the i-th nursery, however often that must be tried.
func (p *Pool) reopen(i int) {
	for p.open(i) != nil {
		time.Sleep(100 * time.Millisecond)
	}
}

// pick returns a living nursery, waiting for one if need be.
func (p *Pool) pick() *spawn.Nursery {
	for range 200 {
		p.mu.Lock()
		for range p.all {
			p.next = (p.next + 1) % len(p.all)
			if n := p.all[p.next]; n != nil {
				p.mu.Unlock()
				return n
			}
		}
		p.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// Get takes an arena.
func (p *Pool) Get() *spawn.Slab { return p.region.Get() }

// Clone has a nursery clone a child. A nursery that dies over it has either
// made no child, and another one tries, or the kernel has noted the pid.
func (p *Pool) Clone(s *spawn.Slab, o spawn.Options, fds []*os.File) (pid int, err error) {
	for begun := time.Now(); time.Since(begun) < 5*time.Second; {
		n := p.pick()
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

// Close ends the nurseries until the next Open, those that are being made as
// well. Their arenas are free when Gone reports true.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut = true
	for _, n := range p.all {
		if n != nil {
			n.Close()
		}
	}
}

// Gone reports whether all nurseries are reaped, and none is being made.
func (p *Pool) Gone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all == [2]*spawn.Nursery{} && p.making == [2]bool{}
}
