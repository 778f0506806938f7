// Package tally remembers what it has taken long to count, such as the sizes of trees.
//
// A count is used again for a multiple of the time that it took: what is counted at once
// is always true, and counting what takes long takes a twentieth of the time at most,
// however often it is asked for. Everybody is told when it was counted.
//
//	size, at, err := t.Get(ctx, name, func() (int64, error) { return walk(dir) })
package tally

import (
	"context"
	"sync"
	"time"
)

// Of the time that a count took, it is used again for so many, and not longer than that.
const (
	times  = 20
	oldest = 10 * time.Minute
)

// Tally holds counts by key. The zero value is usable. Safe for concurrent use.
type Tally[T any] struct {
	mu     sync.Mutex
	counts map[string]*count[T]
}

// count is one, under way until done is closed; the rest is settled then.
type count[T any] struct {
	done  chan struct{}
	began time.Time
	took  time.Duration
	value T
	err   error
}

// Get returns what count counts for a key, or has lately, and the time of which that is.
// Who asks while it is being counted waits for the same count, as long as ctx lasts.
func (t *Tally[T]) Get(ctx context.Context, key string, count func() (T, error)) (T, time.Time, error) {
	c := t.current(key, count)
	select {
	case <-c.done:
		return c.value, c.began, c.err
	case <-ctx.Done():
		var none T
		return none, time.Time{}, ctx.Err()
	}
}

// Forget has the next Get of a key count anew, also if a count is under way.
func (t *Tally[T]) Forget(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.counts, key)
}

func (t *Tally[T]) current(key string, f func() (T, error)) *count[T] {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.counts[key]; c != nil && c.usable() {
		return c
	}
	if t.counts == nil {
		t.counts = map[string]*count[T]{}
	}
	c := &count[T]{done: make(chan struct{}), began: time.Now()}
	t.counts[key] = c
	go func() { // it ends with what it counts, and belongs to whoever asks
		c.value, c.err = f()
		c.took = time.Since(c.began)
		close(c.done)
		if c.err != nil {
			t.drop(key, c)
		}
	}()
	return c
}

// usable reports whether a count is under way, or young enough.
func (c *count[T]) usable() bool {
	select {
	case <-c.done:
		return c.err == nil && time.Since(c.began.Add(c.took)) < min(times*c.took, oldest)
	default:
		return true
	}
}

func (t *Tally[T]) drop(key string, c *count[T]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts[key] == c {
		delete(t.counts, key)
	}
}
