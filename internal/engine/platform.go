package engine

import (
	"context"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
	own "github.com/tare-engine/tare/internal/image"
)

// resolveFor is resolve of an image that must be for each of the platforms.
func (e *Engine) resolveFor(ctx context.Context, ref string, platforms []ocispec.Platform) (*own.Image, error) {
	img, err := e.resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	return img, checkPlatforms(ref, img.Config.Platform, platforms)
}

// checkPlatforms refuses an image that is for have and not for each that is wanted.
func checkPlatforms(ref string, have ocispec.Platform, wanted []ocispec.Platform) error {
	for _, p := range wanted {
		if !own.Matches(p, have) {
			return errdefs.New(errdefs.NotFound, "image with reference %s was found but does not provide the specified platform (%s)", ref, platforms.Format(p))
		}
	}
	return nil
}
