// Package content keeps blobs by their digest: manifests, configurations and
// layers of images.
//
// The store is containerd's local content store, used in process:
//
//	DATAROOT/content/blobs/sha256/HEX   a blob, never changed
//	DATAROOT/content/ingest/            of containerd's writers
//	DATAROOT/content/staging/           what is being received; emptied at start
//	DATAROOT/content/partial/HEX        the beginning of a blob, see [Partial]
//
// Blobs that arrive in bulk do not go through containerd's writers, which sync
// each file: a [Stage] collects them, the caller syncs the file system once,
// and Publish renames them to their places.
package content

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/plugins/content/local"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/syncfs"
)

// Store keeps blobs below one directory.
type Store struct {
	dir   string
	store content.Store

	mu        sync.Mutex
	receiving map[digest.Digest]*receiving
}

// Open opens the store in dir, which is made if need be, and removes what an
// earlier run was receiving.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir, receiving: map[digest.Digest]*receiving{}}
	if err := os.RemoveAll(s.staging()); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(filepath.Join(dir, "ingest")); err != nil {
		return nil, err
	}
	for _, d := range []string{dir, s.staging(), s.blobs(), s.partial()} {
		if err := os.MkdirAll(d, 0700); err != nil {
			return nil, err
		}
	}
	var err error
	s.store, err = local.NewStore(dir)
	return s, err
}

func (s *Store) staging() string { return filepath.Join(s.dir, "staging") }
func (s *Store) partial() string { return filepath.Join(s.dir, "partial") }
func (s *Store) blobs() string   { return filepath.Join(s.dir, "blobs", "sha256") }

// Provider is the store as containerd's libraries want it.
func (s *Store) Provider() content.Store { return s.store }

// Has reports whether a blob is there.
func (s *Store) Has(d digest.Digest) bool {
	_, err := s.Size(d)
	return err == nil
}

// HasWhole reports whether a blob is there and has its size: one that a sick
// disk or an accident has cut short is to be had anew.
func (s *Store) HasWhole(d digest.Digest, size int64) bool {
	have, err := s.Size(d)
	return err == nil && have == size
}

// Size returns the size of a blob.
func (s *Store) Size(d digest.Digest) (int64, error) {
	if err := check(d); err != nil {
		return 0, err
	}
	info, err := os.Stat(s.Path(d))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, errdefs.New(errdefs.NotFound, "blob %s does not exist", d)
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// check lets only digests through that are fit for a file name.
func check(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return errdefs.New(errdefs.InvalidArgument, "invalid digest %q: %w", d, err)
	}
	if d.Algorithm() != digest.SHA256 {
		return errdefs.New(errdefs.InvalidArgument, "unsupported digest algorithm %q", d.Algorithm())
	}
	return nil
}

// Read returns a blob of at most limit bytes. Its digest is verified: these are
// the small documents on which everything else hangs.
func (s *Store) Read(ctx context.Context, d digest.Digest, limit int64) ([]byte, error) {
	size, err := s.Size(d)
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, errdefs.New(errdefs.InvalidArgument, "blob %s has %d bytes, more than %d", d, size, limit)
	}
	b, err := content.ReadBlob(ctx, s.store, ocispec.Descriptor{Digest: d, Size: size})
	if err != nil {
		return nil, err
	}
	if digest.FromBytes(b) != d {
		return nil, fmt.Errorf("blob %s is damaged", d)
	}
	return b, nil
}

// Path is where the blob d is, if it is there. Preconditions: d is valid.
func (s *Store) Path(d digest.Digest) string { return filepath.Join(s.blobs(), d.Encoded()) }

// Open opens a blob for reading.
func (s *Store) Open(d digest.Digest) (*os.File, error) {
	if err := check(d); err != nil {
		return nil, err
	}
	return os.Open(s.Path(d))
}

// Remove removes blobs. What is not there is no error.
func (s *Store) Remove(ctx context.Context, ds ...digest.Digest) error {
	var errs []error
	for _, d := range ds {
		if err := s.store.Delete(ctx, d); err != nil && !cerrdefs.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("remove blob %s: %w", d, err))
		}
		failpoint.Hit("rm/blob")
	}
	return errors.Join(errs...)
}

// Walk calls f for each blob.
func (s *Store) Walk(ctx context.Context, f func(digest.Digest, int64) error) error {
	return s.store.Walk(ctx, func(i content.Info) error { return f(i.Digest, i.Size) })
}

// Stage collects blobs that become visible together.
type Stage struct {
	s   *Store
	dir string

	mu    sync.Mutex
	next  int
	blobs map[digest.Digest]string // to be published
}

// NewStage begins a stage. It is closed by its maker.
func (s *Store) NewStage() (*Stage, error) {
	dir, err := os.MkdirTemp(s.staging(), "")
	if err != nil {
		return nil, err
	}
	failpoint.Hit("load/stage-made")
	return &Stage{s: s, dir: dir, blobs: map[digest.Digest]string{}}, nil
}

// Close throws away what was not published.
func (st *Stage) Close() error { return os.RemoveAll(st.dir) }

// Create makes an empty file in the stage.
func (st *Stage) Create() (*os.File, error) {
	st.mu.Lock()
	st.next++
	name := filepath.Join(st.dir, fmt.Sprint(st.next))
	st.mu.Unlock()
	return os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0600)
}

// Link makes a file of the stage that is a link to another one of the same file
// system, and returns its path.
func (st *Stage) Link(file string) (string, error) {
	st.mu.Lock()
	st.next++
	name := filepath.Join(st.dir, fmt.Sprint(st.next))
	st.mu.Unlock()
	return name, os.Link(file, name)
}

// Add names a file of the stage, which the caller verified, as the blob d.
func (st *Stage) Add(d digest.Digest, path string) error {
	if err := check(d); err != nil {
		return err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.blobs[d] = path
	return nil
}

// AddBytes adds a small blob and returns its digest.
func (st *Stage) AddBytes(b []byte) (digest.Digest, error) {
	f, err := st.Create()
	if err != nil {
		return "", err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	d := digest.FromBytes(b)
	return d, st.Add(d, f.Name())
}

// Publish moves the added blobs to their places, where a power cut does not
// find them missing. They are on disk: the caller synced the file system after
// the last of them was written.
func (st *Stage) Publish() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	for d, path := range st.blobs {
		if err := os.Chmod(path, 0400); err != nil {
			return err
		}
		if err := os.Rename(path, st.s.Path(d)); err != nil {
			return err
		}
		failpoint.Hit("load/blob-renamed")
	}
	clear(st.blobs)
	return syncfs.Dir(st.s.blobs())
}
