package container

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// work is what goes on beside the answers: clean-up, exits, restarts. An engine
// that closes waits for what is under way and lets nothing new begin that could
// as well be done by the next engine.
type work struct {
	mu      sync.Mutex
	closing chan struct{} // closed when the engine begins to close
	all     sync.WaitGroup
}

func newWork() *work { return &work{closing: make(chan struct{})} }

// run does f in the background, whatever the engine does.
func (w *work) run(f func()) { w.all.Go(f) }

// runOpen does f in the background unless the engine closes, and reports whether
// it does.
func (w *work) runOpen(f func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closes() {
		return false
	}
	w.all.Go(f)
	return true
}

// close tells all that waits that the engine closes.
func (w *work) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.closing)
}

// untilClose is a context that ends when the engine begins to close, at the
// latest when the caller cancels it.
func (w *work) untilClose() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case <-w.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// later does clean-up of a container beside the answer. Its error is logged:
// nobody waits.
func (w *work) later(what string, v *View, f func(context.Context) error) {
	w.run(func() {
		if err := f(context.Background()); err != nil {
			slog.Warn(what, "container", v.ID, "err", err)
		}
	})
}

// wait returns when nothing is under way any more.
func (w *work) wait() { w.all.Wait() }

func (w *work) closes() bool {
	select {
	case <-w.closing:
		return true
	default:
		return false
	}
}

// pause sleeps; false: not to the end, because the engine closes.
func (w *work) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-w.closing:
		return false
	case <-t.C:
		return true
	}
}

// insist calls settle until what it is to make durable is so; a disk may be
// full for a while. It gives up, and returns false, when the engine closes.
func (w *work) insist(what string, settle func() error) bool {
	for delay := settleDelay; ; delay = min(2*delay, settleDelayMax) {
		err := settle()
		if err == nil {
			return true
		}
		slog.Error(what, "err", err)
		if !w.pause(delay) {
			return false
		}
	}
}

const (
	settleDelay    = 100 * time.Millisecond
	settleDelayMax = 10 * time.Second
)
