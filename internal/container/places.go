package container

import (
	"context"
	goruntime "runtime"
	"sync"
	"time"
)

// places bound how many containers are made, started and removed at once. All of it keeps
// processors busy: with a thousand clients at work, whoever only wants to look would stand
// in line behind each of them.
type places chan struct{}

// newPlaces gives as many as keep the processors busy while some wait for the disk.
func newPlaces() places { return make(places, 3*goruntime.GOMAXPROCS(0)) }

// holdTime is how long a place is held at most. Whoever needs longer waits for something,
// such as a plugin, and holds up nobody meanwhile.
const holdTime = 200 * time.Millisecond

// take waits for a place, in the order of those who ask. It is free again after leave, which
// may be called when the time is over.
func (p places) take(ctx context.Context) (leave func(), err error) {
	select {
	case p <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	free := sync.OnceFunc(func() { <-p })
	over := time.AfterFunc(holdTime, free)
	return func() { over.Stop(); free() }, nil
}
