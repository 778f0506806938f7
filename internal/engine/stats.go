package engine

import (
	"context"

	"github.com/moby/moby/api/types/container"
)

// ContainerStats measures a container once, or with pair twice, a second apart.
func (e *Engine) ContainerStats(ctx context.Context, ref string, pair bool) (*container.StatsResponse, error) {
	if pair {
		return e.containers.Stats().Pair(ctx, ref)
	}
	return e.containers.Stats().Now(ref)
}

// ContainerStatsStream gives a sample of a container to emit at once and then
// one a second.
func (e *Engine) ContainerStatsStream(ctx context.Context, ref string, emit func(*container.StatsResponse) error) error {
	return e.containers.Stats().Watch(ctx, ref, emit)
}

// StatsStream gives the samples of all running containers, once a second.
func (e *Engine) StatsStream(ctx context.Context, emit func([]*container.StatsResponse) error) error {
	return e.containers.Stats().WatchAll(ctx, emit)
}
