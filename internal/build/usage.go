package build

import (
	"context"
	"os"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"golang.org/x/sync/errgroup"
)

// Usage lists what the cache has. It opens nothing: a cache that is not there has
// nothing, and one that no build has used since the engine's start is opened.
func (s *Service) Usage(ctx context.Context) ([]*bkclient.UsageInfo, error) {
	if _, err := os.Stat(s.cfg.Root); os.IsNotExist(err) {
		return nil, nil
	}
	b, err := s.get(ctx)
	if err != nil {
		return nil, err
	}
	return b.worker.DiskUsage(ctx, bkclient.DiskUsageInfo{})
}

// PruneOptions say what of the cache goes.
type PruneOptions struct {
	All      bool          // internal and shared entries too
	Filters  []string      // in BuildKit's form
	Until    time.Duration // only what nobody used for so long
	Reserved int64         // bytes that stay in any case
	MaxUsed  int64         // bytes to which the cache is to shrink
	MinFree  int64         // bytes of the disk that are to be free
}

// Prune removes what no build uses, and tells what went.
func (s *Service) Prune(ctx context.Context, o PruneOptions) (gone []bkclient.UsageInfo, err error) {
	if _, err := os.Stat(s.cfg.Root); os.IsNotExist(err) {
		return nil, nil
	}
	b, err := s.get(ctx)
	if err != nil {
		return nil, err
	}
	told := make(chan bkclient.UsageInfo)
	var g errgroup.Group
	g.Go(func() error {
		defer close(told)
		return b.worker.Prune(ctx, told, bkclient.PruneInfo{
			All: o.All, Filter: o.Filters, KeepDuration: o.Until, ReservedSpace: o.Reserved, MaxUsedSpace: o.MaxUsed, MinFreeSpace: o.MinFree,
		})
	})
	for u := range told {
		gone = append(gone, u)
	}
	if err := g.Wait(); err != nil {
		return gone, err
	}
	if len(gone) > 0 {
		err = b.worker.GarbageCollect(ctx)
	}
	return gone, err
}
