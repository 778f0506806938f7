package container

import (
	"context"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
)

// The files of a running container may be served by a program in it, or by a host
// that does not answer. Who looks at them holds no lock, has a limited time, and
// leaves a thread behind for as long as there is no answer: only so many look at
// those of one container.
const (
	lookWait = 10 * time.Second
	maxLooks = 32
)

// look calls f, which looks at the files of a container. f may go on after it has
// returned.
func look[T any](ctx context.Context, c *Container, f func() (T, error)) (seen T, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lookWait, errdefs.New(errdefs.Unavailable, "the files of container %s do not answer within %v", c.ID, lookWait))
	defer cancel()
	type answer struct {
		seen T
		err  error
	}
	got := make(chan answer, 1)
	select {
	case c.looks <- struct{}{}:
	case <-ctx.Done():
		return seen, context.Cause(ctx)
	}
	go func() {
		defer func() { <-c.looks }()
		var a answer
		a.seen, a.err = f()
		got <- a
	}()
	select {
	case a := <-got:
		return a.seen, a.err
	case <-ctx.Done():
		return seen, context.Cause(ctx)
	}
}
