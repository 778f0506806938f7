package server

import (
	"sync"
	"time"
)

// gate lets requests in. Who is about to replace or end the program shuts it
// and waits for those inside.
type gate struct {
	mu     sync.Mutex
	inside int           // +checklocks:mu
	empty  chan struct{} // closed when nobody is inside any more; nil: nobody asks; +checklocks:mu
	opened chan struct{} // closed when it opens again; nil: it is open; +checklocks:mu
}

// enter counts a request in. While the gate is shut it waits.
func (g *gate) enter() {
	for {
		opened := g.pass()
		if opened == nil {
			return
		}
		<-opened
	}
}

// pass counts a request in, unless the gate is shut: then it returns what is
// closed when it opens.
func (g *gate) pass() (shut <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened == nil {
		g.inside++
	}
	return g.opened
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.inside == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// shut lets nobody in until open.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
}

// open undoes shut.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
}

// emptied reports whether nobody is inside within that time. One at a time may
// ask.
func (g *gate) emptied(patience time.Duration) bool {
	g.mu.Lock()
	if g.inside == 0 {
		g.mu.Unlock()
		return true
	}
	empty := make(chan struct{})
	g.empty = empty
	g.mu.Unlock()
	select {
	case <-empty:
		return true
	case <-time.After(patience):
		return false
	}
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

// comesTrue asks again and again, and reports whether it came true in time.
func comesTrue(d time.Duration, f func() bool) bool {
	for end := time.Now().Add(d); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
