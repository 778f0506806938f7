package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"
	containerdsnapshot "github.com/moby/buildkit/snapshot/containerd"
	"github.com/moby/buildkit/util/leaseutil"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	tarecontent "github.com/tare-engine/tare/internal/content"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/image"
)

// imageStore is the engine's images as BuildKit sees them: what a build begins with,
// and where its results go.
type imageStore struct {
	images  *image.Service
	content *tarecontent.Store
	store   *containerdsnapshot.Store
	leases  leases.Manager
	blobs   string // directory of store
}

var _ images.Store = (*imageStore)(nil)

// borrowTime is how long blobs of a base image stay when nobody has taken them.
const borrowTime = time.Hour

// Get finds an image, for the platform of the context, and has its blobs in BuildKit's
// store, as links to ours.
func (s *imageStore) Get(ctx context.Context, name string) (images.Image, error) {
	i, err := s.images.ResolveToRun(ctx, name, platformOf(ctx))
	if errdefs.Is(err, errdefs.NotFound) {
		return images.Image{}, fmt.Errorf("image %q: %w", name, cerrdefs.ErrNotFound)
	}
	if err != nil {
		return images.Image{}, err
	}
	if _, ok := leases.FromContext(ctx); !ok {
		l, err := s.leases.Create(ctx, leases.WithRandomID(), leases.WithExpiration(borrowTime), leaseutil.MakeTemporary)
		if err != nil {
			return images.Image{}, err
		}
		ctx = leases.WithLease(ctx, l.ID)
	}
	s.images.Touch(i.ID)
	return images.Image{Name: name, Target: i.Target}, s.lend(ctx, i.Target)
}

// lend makes a document, and all that it leads to and that is here, known to
// BuildKit.
func (s *imageStore) lend(ctx context.Context, d ocispec.Descriptor) error {
	if !s.content.HasWhole(d.Digest, d.Size) {
		return nil // of an index what is for other machines
	}
	labels := map[string]string{}
	children, err := images.Children(ctx, s.content.Provider(), d)
	if err != nil {
		return err
	}
	for n, c := range children {
		if err := s.lend(ctx, c); err != nil {
			return err
		}
		labels[fmt.Sprintf("containerd.io/gc.ref.content.%d", n)] = c.Digest.String()
	}
	return s.link(ctx, d, labels)
}

// blobPath is where containerd's store in dir keeps a blob.
func blobPath(dir string, d digest.Digest) string {
	return filepath.Join(dir, "blobs", d.Algorithm().String(), d.Encoded())
}

// link makes one blob known.
func (s *imageStore) link(ctx context.Context, d ocispec.Descriptor, labels map[string]string) error {
	path := blobPath(s.blobs, d.Digest)
	if err := os.MkdirAll(filepath.Dir(path), 0755); err != nil {
		return err
	}
	if err := os.Link(s.content.Path(d.Digest), path); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	w, err := content.OpenWriter(ctx, s.store, content.WithRef("lent-"+d.Digest.String()), content.WithDescriptor(d))
	if cerrdefs.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer w.Close()
	if err := w.Commit(ctx, d.Size, d.Digest, content.WithLabels(labels)); err != nil && !cerrdefs.IsAlreadyExists(err) {
		return err
	}
	return nil
}

// Create makes what a build has made an image of the engine.
func (s *imageStore) Create(ctx context.Context, i images.Image) (images.Image, error) {
	var name reference.Named
	if !strings.HasPrefix(i.Name, danglingPrefix+"@") {
		n, err := reference.ParseNormalizedNamed(i.Name)
		if err != nil {
			return i, errdefs.As(errdefs.InvalidArgument, err)
		}
		name = n
	}
	_, err := s.images.BringPacked(ctx, name, &built{s.store, i.Target, s.blobs}, false, func(jsonstream.Message) {})
	return i, err
}

// Update is Create: names move.
func (s *imageStore) Update(ctx context.Context, i images.Image, _ ...string) (images.Image, error) {
	return s.Create(ctx, i)
}

// List knows no images: the cache does not hold on to what images have.
func (s *imageStore) List(context.Context, ...string) ([]images.Image, error) { return nil, nil }

// Delete is not for builds.
func (s *imageStore) Delete(_ context.Context, name string, _ ...images.DeleteOpt) error {
	return fmt.Errorf("a build does not remove image %s: %w", name, cerrdefs.ErrNotImplemented)
}

// built is BuildKit's store as a place that images come from.
type built struct {
	store  content.Provider
	target ocispec.Descriptor
	blobs  string // directory of the store
}

var _ image.Local = (*built)(nil)

// File is where the store has a blob.
func (b *built) File(d digest.Digest) string { return blobPath(b.blobs, d) }

// Resolve returns the image that was built.
func (b *built) Resolve(context.Context, string) (ocispec.Descriptor, error) { return b.target, nil }

// Manifest reads a document.
func (b *built) Manifest(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	p, err := content.ReadBlob(ctx, b.store, d)
	if cerrdefs.IsNotFound(err) {
		return nil, errdefs.As(errdefs.NotFound, err)
	}
	if err == nil && digest.FromBytes(p) != d.Digest {
		err = fmt.Errorf("document %s is damaged", d.Digest)
	}
	return p, err
}

// Blob reads a blob from an offset on.
func (b *built) Blob(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	r, err := b.store.ReaderAt(ctx, d)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(r, offset, d.Size-offset), r}, nil
}

// WithoutMirrors has no effect: there is one place.
func (b *built) WithoutMirrors() bool { return false }
