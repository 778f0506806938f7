package firewall

import (
	"context"
	"time"

	"github.com/tare-engine/tare/internal/linux/nft"
)

// Restoring waits for a burst of changes to end, and does not fight a program
// that keeps changing the table more than once a second.
const (
	settle  = 100 * time.Millisecond
	between = time.Second
)

// Watch restores the table whenever somebody else has changed it, until the
// context ends.
func (f *Firewall) Watch(ctx context.Context) {
	follow(ctx, f.watch, f.restore)
}

// follow does something after each burst of changes, until the context ends, which closes
// the watch.
func follow(ctx context.Context, w *nft.Watch, do func()) {
	stop := context.AfterFunc(ctx, func() { w.Close() })
	defer stop()
	for w.Next() == nil {
		if !sleep(ctx, settle) {
			return
		}
		if w.Drain() != nil { // closed
			return
		}
		do()
		if !sleep(ctx, between) {
			return
		}
	}
}

func (f *Firewall) restore() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.applied {
		return
	}
	if err := f.apply(); err != nil {
		f.cfg.Log.Error("firewall rules were changed and could not be restored", "table", f.cfg.Table, "err", err)
		return
	}
	f.cfg.Log.Warn("firewall rules were changed by another program; restored", "table", f.cfg.Table)
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
