package build

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/exporter"
	bksnapshot "github.com/moby/buildkit/snapshot"
	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/build/snapshot"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/mount"
)

// once sees to it that what the cache and an image have unpacked lies on disk once: the
// image's layer takes the place of the cache's directory.
type once struct {
	known     bksnapshot.Snapshotter // BuildKit's names for snapshots
	snapshots *snapshot.Snapshotter
	layers    *layer.Service
	mounts    string // directory below which BuildKit mounts

	mu sync.Mutex
	// +checklocks:mu
	timer *time.Timer // of tidy; nil: there is nothing to do
	// +checklocks:mu
	closed bool
}

// tidyTime is how old a directory without a use is at least when it goes: a mount that
// had found it before its place was taken is there by then.
const tidyTime = 10 * time.Second

// Names of what BuildKit knows of a reference to its cache.
const (
	keySnapshot = "cache.snapshot"
	keyChain    = "cache.chainID"
	keySize     = "snapshot.size"
)

// share has the layers of what was exported exist once. That it cannot be is no reason to
// fail: then they exist twice.
func (o *once) share(ctx context.Context, src *exporter.Source) {
	ctx = context.WithoutCancel(ctx)
	refs := []cache.ImmutableRef{src.Ref}
	for _, ref := range src.Refs {
		refs = append(refs, ref)
	}
	for _, ref := range refs {
		if ref == nil {
			continue
		}
		chain := ref.LayerChain()
		for _, l := range chain {
			if err := o.shareOne(ctx, l); err != nil {
				slog.Warn("a layer of a build exists twice", "snapshot", l.ID(), "err", err.Error())
			}
		}
		if err := chain.Release(ctx); err != nil {
			slog.Warn("a layer of a build stays in use", "err", err.Error())
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.timer == nil && !o.closed {
		o.timer = time.AfterFunc(tidyTime, o.tidy)
	}
}

func (o *once) shareOne(ctx context.Context, l cache.ImmutableRef) error {
	key, chain := l.GetString(keySnapshot), digest.Digest(l.GetString(keyChain))
	if key == "" || chain == "" || !o.layers.Has(chain) {
		return nil // it was rewritten on its way, or is for elsewhere
	}
	info, err := o.known.Stat(ctx, key)
	if err != nil || info.Kind != snapshots.KindCommitted || info.Labels[snapshot.LabelChain] != "" {
		return err
	}
	info.Labels = map[string]string{snapshot.LabelChain: chain.String()}
	_, err = o.known.Update(ctx, info, "labels."+snapshot.LabelChain)
	return errors.Join(err, l.ClearValueAndIndex(keySize, "")) // it is smaller now
}

// tidy discards directories whose place layers have taken, when no build has anything
// mounted.
func (o *once) tidy() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.timer = nil
	mounted, err := mount.Below(o.mounts)
	more := true
	if err == nil && len(mounted) == 0 {
		more, err = o.snapshots.DropOwn(time.Now().Add(-tidyTime))
	}
	if err != nil {
		slog.Warn("what builds do not need any more stays", "err", err.Error())
	}
	if more {
		o.timer = time.AfterFunc(tidyTime, o.tidy)
	}
}

// close ends the work beside builds.
func (o *once) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if o.timer != nil {
		o.timer.Stop()
	}
}
