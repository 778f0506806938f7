package build

import (
	"context"
	"errors"
	"slices"

	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/cache/config"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/util/compression"
)

// fetchLazy fetches the blobs of base layers that no step has needed, since their files
// are here as another image's. BuildKit does so when the image has got its name; ours
// get one when all of them is there.
func fetchLazy(ctx context.Context, src *exporter.Source, sessionID string) error {
	refs := []cache.ImmutableRef{src.Ref}
	for _, ref := range src.Refs {
		refs = append(refs, ref)
	}
	for _, ref := range refs {
		if ref == nil {
			continue
		}
		if err := fetchLazyOf(ctx, ref, session.NewGroup(sessionID)); err != nil {
			return err
		}
	}
	return nil
}

// fetchLazyOf fetches those of one result. Layers of its steps may have no blob yet, which
// the export makes: each layer is asked for by itself unless one above it has brought it.
func fetchLazyOf(ctx context.Context, ref cache.ImmutableRef, s session.Group) (err error) {
	chain := ref.LayerChain()
	defer func() { err = errors.Join(err, chain.Release(context.WithoutCancel(ctx))) }()
	asTheyAre := config.RefConfig{Compression: compression.New(compression.Default)}
	brought := map[string]bool{}
	for _, l := range slices.Backward(chain) {
		if brought[l.ID()] {
			continue
		}
		remotes, err := l.GetRemotes(ctx, false, asTheyAre, false, s)
		if err != nil {
			continue // nothing to fetch; what else is wrong the export says
		}
		if lazy, ok := remotes[0].Provider.(cache.Unlazier); ok {
			if err := lazy.Unlazy(ctx); err != nil {
				return err
			}
		}
		below := l.LayerChain()
		for _, b := range below {
			brought[b.ID()] = true
		}
		if err := below.Release(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
	return nil
}
