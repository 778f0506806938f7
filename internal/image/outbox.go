package image

import (
	"slices"
	"sync"

	"github.com/moby/moby/api/types/jsonstream"
)

// outbox passes messages on to a client that may be slow, or have stopped
// reading: who puts one in never waits. What a layer has to count is replaced by
// what it counts next, so that there are a few messages for each layer at most.
type outbox struct {
	out  func(jsonstream.Message)
	more chan struct{} // there are messages; closed at the end
	done chan struct{} // closed when all are out

	mu   sync.Mutex
	list []jsonstream.Message // +checklocks:mu
}

// newOutbox begins to pass on. It is closed by its maker.
func newOutbox(out func(jsonstream.Message)) *outbox {
	b := &outbox{out: out, more: make(chan struct{}, 1), done: make(chan struct{})}
	go b.run()
	return b
}

func (b *outbox) put(m jsonstream.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := b.lastOf(m.ID); i >= 0 && counting(m) && counting(b.list[i]) {
		b.list[i] = m
		return
	}
	b.list = append(b.list, m)
	select {
	case b.more <- struct{}{}:
	default:
	}
}

// lastOf finds the last message about something, -1 if there is none.
//
// Preconditions: b.mu is held.
func (b *outbox) lastOf(id string) int {
	for i, m := range slices.Backward(b.list) {
		if m.ID == id {
			return i
		}
	}
	return -1
}

func counting(m jsonstream.Message) bool { return m.Progress != nil && m.Progress.Total > 0 }

func (b *outbox) run() {
	defer close(b.done)
	for open := true; open; {
		_, open = <-b.more
		for m, ok := b.next(); ok; m, ok = b.next() {
			b.out(m)
		}
	}
}

func (b *outbox) next() (m jsonstream.Message, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.list) == 0 {
		return m, false
	}
	m, b.list = b.list[0], b.list[1:]
	return m, true
}

// close waits until all is out. Nothing is put in any more.
func (b *outbox) close() {
	close(b.more)
	<-b.done
}
