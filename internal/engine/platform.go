package engine

import (
	"context"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	own "github.com/tare-engine/tare/internal/image"
)

// resolveFor is resolve of an image that must be for each of the platforms.
func (e *Engine) resolveFor(ctx context.Context, ref string, platforms []ocispec.Platform) (*own.Image, error) {
	img, err := e.resolve(ctx, ref)
	if err != nil || len(platforms) == 0 {
		return img, err
	}
	return e.images.ResolveFor(ctx, ref, platforms)
}
