package server

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// connTable knows the open connections. One that was hijacked leaves it: it is
// the engine's, which has limits of its own for attached clients.
type connTable struct {
	mu   sync.Mutex
	open int
	idle map[net.Conn]time.Time // kept for the next request, and since when
}

// note is called when a connection's state changes.
func (t *connTable) note(c net.Conn, state http.ConnState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.idle, c)
	switch state {
	case http.StateNew:
		t.open++
	case http.StateIdle:
		if t.idle == nil {
			t.idle = map[net.Conn]time.Time{}
		}
		t.idle[c] = time.Now()
	case http.StateClosed, http.StateHijacked:
		t.open--
	}
}

func (t *connTable) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open
}

// dropIdle closes the connection that has been idle for longest and reports
// whether there was one: whoever has a request goes before those who may have
// one later.
func (t *connTable) dropIdle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	var oldest net.Conn
	for c, since := range t.idle {
		if oldest == nil || since.Before(t.idle[oldest]) {
			oldest = c
		}
	}
	if oldest == nil {
		return false
	}
	delete(t.idle, oldest)
	_ = oldest.Close() // its goroutine notices and takes it off the count
	return true
}
