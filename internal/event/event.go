// Package event tells whoever listens what happened to the engine's objects.
//
// The log is a ring of the newest messages. A listener is a position in that
// ring, so one that does not read costs nothing; if it falls behind by a whole
// ring it is cut off with ErrSlow rather than being given a gap.
//
// A log that has a directory (Open) writes each message there too, so that who
// asks for the past gets it across ends of the engine. The directory is to be in
// memory (tmpfs): a write never waits for a disk.
package event

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/events"
)

// size is how many messages are kept for listeners and for --since: Docker
// keeps 256, which a single compose project outruns.
const size = 4096

// ErrSlow ends a listener that fell behind by more messages than are kept.
var ErrSlow = errors.New("events: the client reads too slowly and was cut off")

// Log is the engine's list of events. Safe for concurrent use.
type Log struct {
	mu   sync.Mutex
	ring [size]events.Message
	next uint64        // sequence number of the next message
	wake chan struct{} // closed, and replaced, when a message comes
	now  func() time.Time
	file *file // nil: kept by this process only

	listeners atomic.Int64
}

// NewLog returns an empty log.
func NewLog() *Log {
	return &Log{wake: make(chan struct{}), now: time.Now}
}

// Publish stamps the message with the time and hands it to all listeners. It
// never blocks.
func (l *Log) Publish(typ events.Type, action events.Action, id string, attrs map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.add(events.Message{
		Type: typ, Action: action, Actor: events.Actor{ID: id, Attributes: attrs},
		Scope: "local", Time: now.Unix(), TimeNano: now.UnixNano(),
	})
	if l.file != nil {
		l.file.append(&l.ring[(l.next-1)%size])
	}
	close(l.wake)
	l.wake = make(chan struct{})
}

// add puts a message into the ring.
//
// Preconditions: l.mu is held.
func (l *Log) add(m events.Message) {
	l.ring[l.next%size] = m
	l.next++
}

// Counts says how many messages there have been, those that Open found too, and how
// many listeners there are.
func (l *Log) Counts() (messages uint64, listeners int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next, l.listeners.Load()
}

// Follow calls emit for each kept message since a time (zero: only new ones),
// then for each new one, until a time (zero: for ever), the end of ctx or an
// error of emit. ready, if not nil, is called once the position is fixed.
func (l *Log) Follow(ctx context.Context, since, until time.Time, ready func(), emit func(events.Message) error) error {
	l.listeners.Add(1)
	defer l.listeners.Add(-1)
	at := l.start(since)
	if ready != nil {
		ready()
	}
	var end <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		end = t.C
	}
	for {
		batch, next, wake, err := l.after(at)
		if err != nil {
			return err
		}
		at = next
		for _, m := range batch {
			if !until.IsZero() && m.TimeNano > until.UnixNano() {
				return nil
			}
			if err := emit(m); err != nil {
				return err
			}
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-end:
			return nil
		case <-wake:
		}
	}
}

// start returns the position of the oldest kept message not before since.
func (l *Log) start(since time.Time) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.next
	if since.IsZero() {
		return at
	}
	for at > 0 && l.next-at < size && l.ring[(at-1)%size].TimeNano >= since.UnixNano() {
		at--
	}
	return at
}

// after returns up to 64 messages from a position on.
func (l *Log) after(at uint64) (batch []events.Message, next uint64, wake <-chan struct{}, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next-at > size {
		return nil, at, nil, ErrSlow
	}
	for at < l.next && len(batch) < 64 {
		batch = append(batch, l.ring[at%size])
		at++
	}
	return batch, at, l.wake, nil
}
