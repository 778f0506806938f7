package build

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
)

// uploads are archives that wait for their builds, and builds for their archives: two
// requests of a client, whichever is first.
type uploads struct {
	mu sync.Mutex
	// +checklocks:mu
	places map[string]*place // by the build's ID
}

// place is where the two meet.
type place struct {
	come  chan io.ReadCloser
	users int // guarded by uploads.mu
}

// meeting is how long one waits for the other.
const meeting = 5 * time.Second

func (u *uploads) enter(id string) *place {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.places == nil {
		u.places = map[string]*place{}
	}
	p := u.places[id]
	if p == nil {
		p = &place{come: make(chan io.ReadCloser)}
		u.places[id] = p
	}
	p.users++
	return p
}

func (u *uploads) leave(id string, p *place) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if p.users--; p.users == 0 {
		delete(u.places, id)
	}
}

// Offer gives the build with an ID its context, and returns when the build needs it no
// more.
func (s *Service) Offer(ctx context.Context, id string, archive io.Reader) error {
	p := s.uploads.enter(id)
	defer s.uploads.leave(id, p)
	given := &offered{Reader: archive, done: make(chan struct{})}
	select {
	case p.come <- given:
	case <-time.After(meeting):
		return errdefs.New(errdefs.InvalidArgument, "no build has asked for the context of the build %q", id)
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-given.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (u *uploads) take(ctx context.Context, id string) (io.ReadCloser, error) {
	p := u.enter(id)
	defer u.leave(id, p)
	select {
	case archive := <-p.come:
		return archive, nil
	case <-time.After(meeting):
		return nil, errdefs.New(errdefs.InvalidArgument, "the context of the build %q has not come", id)
	case <-ctx.Done():
		return nil, fmt.Errorf("the context of the build: %w", ctx.Err())
	}
}

// offered is an archive that is given away until it is closed.
type offered struct {
	io.Reader
	once sync.Once
	done chan struct{}
}

// Read reads while the archive is the build's.
func (o *offered) Read(p []byte) (int, error) {
	select {
	case <-o.done:
		return 0, io.ErrClosedPipe
	default:
		return o.Reader.Read(p)
	}
}

// Close gives it back.
func (o *offered) Close() error {
	o.once.Do(func() { close(o.done) })
	return nil
}
