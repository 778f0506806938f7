package server

import (
	"sync"
	"time"
)

// gate lets requests in. Who is about to replace or end the program closes it
// and waits for those inside.
type gate struct {
	mu     sync.Mutex
	shut   bool // +checklocks:mu
	inside sync.WaitGroup
}

// enter counts a request in, unless the gate is shut.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.shut {
		g.inside.Add(1)
	}
	return !g.shut
}

func (g *gate) leave() { g.inside.Done() }

// set shuts the gate or opens it again.
func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
}

// within reports whether f returns in time.
func within(d time.Duration, f func()) bool {
	done := make(chan struct{})
	go func() {
		f()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(d):
		return false
	}
}
