package build

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	controlapi "github.com/moby/buildkit/api/services/control"
	bkclient "github.com/moby/buildkit/client"
	"google.golang.org/grpc"
)

// limiter keeps the cache in its bounds: after each build, and before the next one begins.
// BuildKit by itself looks once a minute, in which many builds can be.
type limiter struct {
	worker *builderWorker
	policy []bkclient.PruneInfo
	ctx    context.Context // until close
	cancel context.CancelFunc

	mu sync.Mutex
	// +checklocks:mu
	done chan struct{} // closed when it has looked; nil: it does not
	// +checklocks:mu
	again bool // a build has ended meanwhile
}

func newLimiter(w *builderWorker, policy []bkclient.PruneInfo) *limiter {
	l := &limiter{worker: w, policy: policy}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// around is called for each request of BuildKit's API.
func (l *limiter) around(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if info.FullMethod != controlapi.Control_Solve_FullMethodName || len(l.policy) == 0 {
		return handle(ctx, req)
	}
	if err := l.wait(ctx); err != nil {
		return nil, err
	}
	defer l.look()
	return handle(ctx, req)
}

// wait returns when the cache is in its bounds, or in use.
func (l *limiter) wait(ctx context.Context) error {
	l.mu.Lock()
	done := l.done
	l.mu.Unlock()
	if done == nil {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// look has the cache brought into its bounds, beside what else goes on.
func (l *limiter) look() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return
	}
	if l.done != nil {
		l.again = true
		return
	}
	l.done = make(chan struct{})
	go l.run()
}

func (l *limiter) run() {
	for {
		if err := l.prune(); err != nil && l.ctx.Err() == nil {
			slog.Warn("the build cache is not kept in its bounds", "err", err.Error())
		}
		l.mu.Lock()
		if !l.again || l.ctx.Err() != nil {
			close(l.done)
			l.done = nil
			l.mu.Unlock()
			return
		}
		l.again = false
		l.mu.Unlock()
	}
}

// prune removes what is out of bounds and not in use.
func (l *limiter) prune() error {
	told := make(chan bkclient.UsageInfo)
	counted := make(chan int)
	go func() { // until told is closed
		n := 0
		for range told {
			n++
		}
		counted <- n
	}()
	err := l.worker.Prune(l.ctx, told, l.policy...)
	close(told)
	if <-counted > 0 {
		err = errors.Join(err, l.worker.GarbageCollect(l.ctx))
	}
	return err
}

// close ends it.
func (l *limiter) close() {
	l.cancel()
	_ = l.wait(context.Background()) // which is not cancelled
}
