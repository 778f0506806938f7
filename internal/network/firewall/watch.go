package firewall

import (
	"context"
	"fmt"
	"time"
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
	stop := context.AfterFunc(ctx, func() { f.watch.Close() })
	defer stop()
	for f.watch.Next() == nil {
		if !sleep(ctx, settle) {
			return
		}
		f.restore()
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

// Warnings names what other programs' rules keep from containers.
func (f *Firewall) Warnings() ([]string, error) {
	chains, err := f.conn.Forwarders()
	if err != nil {
		return nil, err
	}
	var all []string
	for _, c := range chains {
		// firewalld's chain accepts by policy and rejects by its last rule.
		if c.Table != f.cfg.Table && (c.Drops || c.Table == "firewalld") {
			all = append(all, fmt.Sprintf("WARNING: nftables chain %s %s %s drops forwarded packets that it does not accept; containers may be cut off from the network", c.Family, c.Table, c.Chain))
		}
	}
	return all, nil
}
