// Package reaper is the only waiter for all children of the keeper, and tells
// of each end whoever has asked for it.
package reaper

import (
	"sync"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/linux/process"
)

// End says how and when a process ended.
type End struct {
	Status syscall.WaitStatus
	At     time.Time
}

// Reaper knows who hears of the end of which child. What it calls is called
// with its lock held: it must neither block nor call the Reaper.
type Reaper struct {
	paused sync.Mutex // held while no child may be reaped
	held   bool       // by Hold

	mu       sync.Mutex
	hears    map[int]func(End) // by pid; +checklocks:mu
	early    map[int]End       // ends of children not booked yet; +checklocks:mu
	inFlight int               // clones whose pid is not booked; +checklocks:mu
}

// New returns a reaper that does nothing before Run.
func New() *Reaper {
	return &Reaper{hears: map[int]func(End){}, early: map[int]End{}}
}

// Cloning says that a child is about to be cloned, whose end is kept until it
// is booked. done says that this has happened, or that there is no child.
func (r *Reaper) Cloning() (done func()) {
	r.count(1)
	return sync.OnceFunc(func() { r.count(-1) })
}

func (r *Reaper) count(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inFlight += n
	if r.inFlight == 0 {
		clear(r.early)
	}
}

// Book says who hears of the end of a child. It may have ended already.
func (r *Reaper) Book(pid int, f func(End)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.early[pid]; ok {
		delete(r.early, pid)
		f(e)
		return
	}
	r.hears[pid] = f
}

// Rebook lets f hear of the end instead of who has been booked. It reports
// false, and does nothing, if the child has ended.
func (r *Reaper) Rebook(pid int, f func(End)) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hears[pid] == nil {
		return false
	}
	r.hears[pid] = f
	return true
}

// Unbook lets nobody hear of the end of a process that is not our child.
func (r *Reaper) Unbook(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.hears, pid)
}

// HandOver lets f hear of an end that has been put into heard so far; if it is
// there already, f hears of it at once.
func (r *Reaper) HandOver(pid int, heard <-chan End, f func(End)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case e := <-heard:
		f(e)
	default:
		r.hears[pid] = f
	}
}

// Run reaps for ever. An ended child is seen first and taken second, so that
// an upgrade between the two loses nothing.
func (r *Reaper) Run() {
	for {
		pid, err := process.PeekExit()
		if err != nil { // no children: the nurseries are about to be made again
			time.Sleep(10 * time.Millisecond)
			continue
		}
		r.paused.Lock()
		ws, err := process.Reap(pid)
		if err == nil {
			r.over(pid, End{ws, time.Now()})
		}
		r.paused.Unlock()
	}
}

// Hold lets no child be reaped from its return on, or children again. One at a
// time may call it; it may be repeated.
func (r *Reaper) Hold(hold bool) {
	switch {
	case hold && !r.held:
		r.paused.Lock()
	case !hold && r.held:
		r.paused.Unlock()
	}
	r.held = hold
}

// over passes on the end of a child.
func (r *Reaper) over(pid int, e End) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.hears[pid]
	delete(r.hears, pid)
	switch {
	case f != nil:
		f(e)
	case r.inFlight > 0:
		r.early[pid] = e
	}
}
