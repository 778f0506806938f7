package registry

import (
	"context"
	"io"

	"github.com/containerd/containerd/v2/core/remotes"
	cerrdefs "github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// readManifest fetches a document and compares it with its descriptor.
func readManifest(ctx context.Context, f remotes.Fetcher, d ocispec.Descriptor) ([]byte, error) {
	rc, err := f.Fetch(ctx, ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size})
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	b, err := io.ReadAll(io.LimitReader(rc, d.Size+1))
	switch {
	case cerrdefs.IsFailedPrecondition(err):
		return nil, corrupt("manifest %s has more bytes than the %d its descriptor says", d.Digest, d.Size)
	case err != nil:
		return nil, err
	case int64(len(b)) != d.Size:
		return nil, corrupt("manifest %s has %d bytes, its descriptor says %d", d.Digest, len(b), d.Size)
	case d.Digest.Algorithm().FromBytes(b) != d.Digest:
		return nil, corrupt("manifest verification failed for digest %s", d.Digest)
	}
	return b, nil
}
