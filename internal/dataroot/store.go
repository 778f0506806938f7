package dataroot

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/dataroot/bolt"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/inroot"
)

// Namespaces are those of containerd that are read unless others are named: of
// ctr and nerdctl, Docker, Kubernetes.
var Namespaces = []string{"default", "moby", "k8s.io"}

// homesOf are where containerd's own directories are in a data root: its own,
// and Docker's.
var homesOf = []string{".", "containerd/daemon"}

// Store is where containerd keeps images. What their names point to is in
// meta.db, by the schema of containerd's core/metadata/buckets.go; manifests,
// configurations and packed layers are blobs in one directory.
type Store struct {
	root *Root
	home string
}

// StoreImage is a name in a Store and what it points to.
type StoreImage struct {
	Name   string
	Target ocispec.Descriptor
}

const longest = 1 << 10 // bytes of a name, or of a field that is read

const metaFile = "io.containerd.metadata.v1.bolt/meta.db"

// Images lists the names in some namespaces, sorted; in those of Namespaces,
// which need not be there, if none are given. A name that several have is that
// of the first.
func (s *Store) Images(namespaces []string) ([]StoreImage, error) {
	name := path.Join(s.home, metaFile)
	f, err := inroot.OpenRegular(s.root.dir, name)
	if err != nil {
		return nil, s.root.wrong(err)
	}
	defer f.Close()
	given := len(namespaces) > 0
	if !given {
		namespaces = Namespaces
	}
	var list []StoreImage
	err = bolt.Read(f, func(root *bolt.Bucket) error {
		list = nil
		for _, ns := range namespaces {
			found, err := imagesOf(root, ns, &list)
			if err == nil && !found && given {
				err = errNoNamespace
			}
			if err != nil {
				return fmt.Errorf("namespace %.100q: %w", ns, err)
			}
		}
		return nil
	})
	if err != nil {
		err = s.root.wrong(fmt.Errorf("%s: %w", name, err))
		if errors.Is(err, errNoNamespace) {
			err = errdefs.As(errdefs.NotFound, err)
		}
		return nil, err
	}
	slices.SortStableFunc(list, func(a, b StoreImage) int { return cmp.Compare(a.Name, b.Name) })
	return slices.CompactFunc(list, func(a, b StoreImage) bool { return a.Name == b.Name }), nil
}

var errNoNamespace = errors.New("it has no images")

// imagesOf adds the images of a namespace, if it is found.
func imagesOf(root *bolt.Bucket, namespace string, list *[]StoreImage) (found bool, err error) {
	b := root
	for _, name := range []string{"v1", namespace, "images"} {
		if b, err = b.Bucket(name); err != nil || b == nil {
			return false, err
		}
	}
	return true, b.Each(func(key, _ []byte, img *bolt.Bucket) error {
		if len(key) > longest || len(*list) == maxEntries {
			return fmt.Errorf("there are names of more than %d bytes, or more than %d", longest, maxEntries)
		}
		i := StoreImage{Name: string(key)}
		if img != nil {
			if target, err := img.Bucket("target"); err != nil {
				return err
			} else if target != nil {
				if err := i.read(target); err != nil {
					return err
				}
			}
		}
		if err := check(i.Target.Digest); err != nil {
			return fmt.Errorf("image %.300q: %w", i.Name, err)
		}
		*list = append(*list, i)
		return nil
	})
}

func (i *StoreImage) read(target *bolt.Bucket) error {
	return target.Each(func(key, value []byte, _ *bolt.Bucket) error {
		if len(value) > longest {
			return fmt.Errorf("image %.300q: %.100q has %d bytes", i.Name, key, len(value))
		}
		switch string(key) {
		case "digest":
			i.Target.Digest = digest.Digest(value)
		case "mediatype":
			i.Target.MediaType = string(value)
		case "size":
			i.Target.Size, _ = binary.Varint(value)
		}
		return nil
	})
}

// Source is the store as a pull wants it, for one image.
func (s *Store) Source(i StoreImage) *Source { return &Source{s, i.Target} }

// Source has one image of a Store.
type Source struct {
	store  *Store
	target ocispec.Descriptor
}

// Resolve returns what the image's name points to.
func (s *Source) Resolve(context.Context, string) (ocispec.Descriptor, error) { return s.target, nil }

// Manifest returns a small blob, verified.
func (s *Source) Manifest(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if d.Size > maxConfig {
		return nil, errdefs.New(errdefs.InvalidArgument, "manifest %s has %d bytes, at most %d are possible", d.Digest, d.Size, maxConfig)
	}
	r, err := s.Blob(ctx, d, 0)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err == nil && digest.FromBytes(b) != d.Digest {
		err = errdefs.New(errdefs.InvalidArgument, "blob %s has the digest %s", d.Digest, digest.FromBytes(b))
	}
	return b, err
}

// Blob returns the bytes of a blob from an offset on. What has another size than
// the descriptor says is not it.
func (s *Source) Blob(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if err := check(d.Digest); err != nil {
		return nil, err
	}
	f, err := inroot.OpenRegular(s.store.root.dir, path.Join(s.store.home, "io.containerd.content.v1.content/blobs/sha256", d.Digest.Encoded()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errdefs.New(errdefs.NotFound, "blob %s is not in containerd's store (it may have been told to discard unpacked layers)", d.Digest)
	}
	if err != nil {
		return nil, wrong("blob "+d.Digest.String(), err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() != d.Size {
		err = errdefs.New(errdefs.InvalidArgument, "blob %s has %d bytes, not %d", d.Digest, info.Size(), d.Size)
	}
	if err == nil {
		_, err = f.Seek(offset, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &data{f, ctx, io.LimitReader(f, d.Size-offset)}, nil
}

// WithoutMirrors changes nothing: there are none.
func (s *Source) WithoutMirrors() bool { return false }
