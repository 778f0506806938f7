package image

import (
	"context"
	"sync"

	"github.com/moby/moby/api/types/jsonstream"
)

// flights are the pulls under way. Who wants the same waits for the one that
// is under way and hears what it says.
type flights struct {
	mu  sync.Mutex
	all map[string]*flight
}

// flight is one pull, as those see it that wait for it.
type flight struct {
	key  string
	done chan struct{}

	mu      sync.Mutex
	waiting map[chan jsonstream.Message]struct{}
}

// unheard is how many messages a waiting pull may be behind; more are dropped,
// a slow client must not hold up the others.
const unheard = 256

// board begins a flight, or waits for the end of the one that is under way and
// passes on to out what that says. It returns at the end of ctx.
func (fs *flights) board(ctx context.Context, key string, out *reporter) (_ *flight, first bool, err error) {
	fs.mu.Lock()
	f := fs.all[key]
	if f == nil {
		if fs.all == nil {
			fs.all = map[string]*flight{}
		}
		f = &flight{key: key, done: make(chan struct{}), waiting: map[chan jsonstream.Message]struct{}{}}
		fs.all[key] = f
		fs.mu.Unlock()
		return f, true, nil
	}
	heard := make(chan jsonstream.Message, unheard)
	f.mu.Lock()
	f.waiting[heard] = struct{}{}
	f.mu.Unlock()
	fs.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.waiting, heard)
		f.mu.Unlock()
	}()
	for {
		select {
		case m := <-heard:
			out.say(m)
		case <-f.done:
			return nil, false, nil
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}

// land ends a flight.
func (fs *flights) land(f *flight) {
	fs.mu.Lock()
	delete(fs.all, f.key)
	fs.mu.Unlock()
	close(f.done)
}

// shared reports whether somebody waits.
func (f *flight) shared() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.waiting) > 0
}

// tell passes a message to those who wait.
func (f *flight) tell(m jsonstream.Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for heard := range f.waiting {
		select {
		case heard <- m:
		default:
		}
	}
}
