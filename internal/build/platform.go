package build

import (
	"context"
	"errors"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/source"
	"github.com/moby/buildkit/source/containerimage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// BuildKit asks its image store for a name without saying for which platform, and
// takes what it gets. So the platform goes along in the context: an image of the
// engine that does not run there is not the one, as with Docker, and is looked for
// at its registry.

// platformKey is the key of a platform in a context.
type platformKey struct{}

func withPlatform(ctx context.Context, p ocispec.Platform) context.Context {
	return context.WithValue(ctx, platformKey{}, platforms.Normalize(p))
}

// platformOf is the platform that an image is wanted for: the host's if nobody says
// another.
func platformOf(ctx context.Context) ocispec.Platform {
	if p, ok := ctx.Value(platformKey{}).(ocispec.Platform); ok {
		return p
	}
	return platforms.Normalize(platforms.DefaultSpec())
}

// ResolveSourceMetadata tells what a source is, an image for its platform.
func (w *builderWorker) ResolveSourceMetadata(ctx context.Context, op *pb.SourceOp, opt sourceresolver.Opt, sm *session.Manager, job solver.JobContext) (*sourceresolver.MetaResponse, error) {
	if opt.ImageOpt != nil && opt.ImageOpt.Platform != nil {
		ctx = withPlatform(ctx, *opt.ImageOpt.Platform)
	}
	return w.Worker.ResolveSourceMetadata(ctx, op, opt, sm, job)
}

// imageSource is where images come from, each for its platform.
type imageSource struct{ *containerimage.Source }

var _ source.Source = imageSource{}

// Resolve makes an image ready to be had.
func (s imageSource) Resolve(ctx context.Context, id source.Identifier, sm *session.Manager, vtx solver.Vertex) (source.SourceInstance, error) {
	image, ok := id.(*containerimage.ImageIdentifier)
	if !ok {
		return nil, errors.New("what is to be resolved is no image")
	}
	i, err := s.Source.Resolve(ctx, id, sm, vtx)
	if err != nil || image.Platform == nil {
		return i, err
	}
	return &imageOf{i, *image.Platform}, nil
}

// imageOf is an image for a platform.
type imageOf struct {
	source.SourceInstance
	platform ocispec.Platform
}

// CacheKey finds the image.
func (i *imageOf) CacheKey(ctx context.Context, job solver.JobContext, index int) (key, pin string, opts solver.CacheOpts, done bool, err error) {
	return i.SourceInstance.CacheKey(withPlatform(ctx, i.platform), job, index)
}
