package engine

import (
	"context"
	"fmt"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	own "github.com/tare-engine/tare/internal/image"
)

// resolveFor is resolve of an image that must be for each of the platforms.
func (e *Engine) resolveFor(ctx context.Context, ref string, want []ocispec.Platform) (*own.Image, error) {
	img, err := e.resolve(ctx, ref)
	if err != nil || len(want) == 0 {
		return img, err
	}
	return e.images.ResolveFor(ctx, ref, want)
}

// foreignPlatform warns of an image that is for another machine although nobody
// asked for one; nothing if it is not, or does not say what it is for.
func foreignPlatform(have ocispec.Platform) []string {
	if have.Architecture == "" || platforms.Default().Match(have) {
		return nil
	}
	return []string{fmt.Sprintf("The requested image's platform (%s) does not match the detected host platform (%s) and no specific platform was requested",
		platforms.FormatAll(have), platforms.FormatAll(platforms.DefaultSpec()))}
}
