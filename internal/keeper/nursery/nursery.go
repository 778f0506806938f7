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

	mu   sync.Mutex
	all  [2]*spawn.Nursery // nil: being made; +checklocks:mu
	next int               // +checklocks:mu
	shut bool              // an upgrade ends them; +checklocks:mu
}

// New returns a pool without nurseries.
func New(region *spawn.Region, r *reaper.Reaper, log *slog.Logger) *Pool {
	return &Pool{region: region, reaper: r, log: log}
}

// Open makes the nurseries; from now on each is made again when it dies.
func (p *Pool) Open() error {
	p.mu.Lock()
	p.shut = false
	p.mu.Unlock()
	for i := range p.all {
		if err := p.open(i); err != nil {
			return err
		}
	}
	return nil
}

// open makes the i-th nursery.
func (p *Pool) open(i int) error {
	booked := p.reaper.Cloning()
	defer booked()
	n, err := p.region.NewNursery()
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.all[i] = n
	p.mu.Unlock()
	p.reaper.Book(n.Pid(), func(e reaper.End) { go p.died(i, n, e) })
	return nil
}

func (p *Pool) died(i int, n *spawn.Nursery, e reaper.End) {
	n.Free()
	p.mu.Lock()
	p.all[i] = nil
	shut := p.shut
	p.mu.Unlock()
	if shut {
		return
	}
	p.log.Warn("nursery died", "pid", n.Pid(), "status", e.Status)
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

// Close ends the nurseries until the next Open. Their arenas are free when
// Gone reports true.
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

// Gone reports whether all nurseries are reaped.
func (p *Pool) Gone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all == [2]*spawn.Nursery{}
}
