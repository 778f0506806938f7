// Package image keeps images: what names them, what they consist of, and how
// they come and go.
//
// An image is a configuration and a chain of layers; its ID is the digest of
// the configuration. References (`alpine:3`, `host/repo@sha256:…`) point to an
// image through its manifest, the document that lists configuration and layers
// as blobs. An image that no reference points to any more is dangling.
//
//	DATAROOT/images.db       reference → manifest, in containerd's schema; pins
//	DATAROOT/images.used     when images were used last
//	DATAROOT/content/        manifests, configurations, layers as they came
//	DATAROOT/layers/         layers unpacked (package layer)
//
// What comes in (Load) is received and verified in staging, unpacked, written
// to disk, made visible, and named by one transaction of images.db, in this
// order. A kill before the last step leaves garbage at most, which the next
// Open sweeps away; after it the image is complete.
//
// Reads load an immutable view and take no lock. Changes go one at a time.
package image

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/metadata"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/tare-engine/tare/internal/content"
	"github.com/tare-engine/tare/internal/layer"
)

// ID of an image: the digest of its configuration.
type ID = digest.Digest

// Image is a picture of one image. It is not changed after it was handed out.
type Image struct {
	ID          ID
	Parent      ID       // the image of which it was made here, which may be gone; "" for what came from elsewhere
	RepoTags    []string // familiar, sorted: "busybox:latest"
	RepoDigests []string // "busybox@sha256:…"
	Config      *dockerspec.DockerOCIImage
	Manifest    ocispec.Descriptor
	Target      ocispec.Descriptor // what the reference that it was found by, or its newest, points to: the manifest, or the index that has it
	Layers      []layer.DiffID     // base first
	Chain       layer.ChainID
	Size        int64     // of the unpacked layers
	Created     time.Time // zero if the image does not say
	Tagged      time.Time // when its newest reference was set
	LastUsed    time.Time // by a container, by what brought it, or by being named
	Pinned      bool
	Behind      []string // of its references those that stand for another image on this machine, and for it on another platform
	Others      []ID     // that its references stand for on other platforms
}

// Service owns the images of one data root.
type Service struct {
	root    string
	db      *bolt.DB
	names   images.Store // over db
	content *content.Store
	layers  *layer.Service

	change    chan struct{} // holds the token of whoever changes images
	flights   flights
	downloads chan struct{} // holds a token for each blob that is being fetched
	view      atomic.Pointer[view]
	loaded    sync.Map // ID → *parts, read once
	uses      *uses
	cap       Cap
}

// Open opens the images of the data root, of which so many blobs are fetched at
// a time. A damaged images.db is set aside,
// and the images that are found without it come back, untagged.
func Open(ctx context.Context, root string, c *content.Store, l *layer.Service, downloads int) (_ *Service, err error) {
	s := &Service{root: root, content: c, layers: l, change: make(chan struct{}, 1), downloads: make(chan struct{}, downloads), uses: openUses(usesFile(root))}
	db, damaged, err := openDB(filepath.Join(root, "images.db"))
	if err != nil {
		return nil, err
	}
	s.db = db
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	m := metadata.NewDB(db, c.Provider(), nil)
	if err := m.Init(ctx); err != nil {
		return nil, fmt.Errorf("images.db: %w", err)
	}
	s.names = metadata.NewImageStore(m)
	if damaged {
		if err := s.rescue(ctx); err != nil {
			return nil, err
		}
	}
	if err := s.refresh(ctx); err != nil {
		return nil, err
	}
	if _, err := os.Stat(s.marker()); err == nil {
		if err := s.sweep(ctx); err != nil {
			slog.Error("sweep images", "error", err) // space only: the next sweep tries again
		}
	}
	return s, nil
}

// Close closes images.db. No change may be under way.
func (s *Service) Close() error { return errors.Join(s.uses.write(), s.db.Close()) }

// begin waits for the right to change images. The caller calls end.
func (s *Service) begin(ctx context.Context) (end func(), err error) {
	select {
	case s.change <- struct{}{}:
		return func() { <-s.change }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// openDB opens the database; one that is damaged is renamed and replaced.
func openDB(path string) (db *bolt.DB, damaged bool, err error) {
	o := &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType}
	db, err = tryDB(path, o)
	if err == nil {
		return db, false, nil
	}
	if errors.Is(err, os.ErrPermission) || errors.Is(err, bolterrors.ErrTimeout) {
		return nil, false, fmt.Errorf("open %s: %w", path, err)
	}
	aside := fmt.Sprintf("%s.damaged-%d", path, time.Now().Unix())
	slog.Error("images.db is damaged; set aside", "error", err, "as", aside)
	if err := os.Rename(path, aside); err != nil {
		return nil, false, err
	}
	db, err = tryDB(path, o)
	return db, true, err
}

// tryDB opens the database and reads all of it: bbolt panics on some damage.
func tryDB(path string, o *bolt.Options) (db *bolt.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			if db != nil {
				_ = db.Close()
			}
			db, err = nil, fmt.Errorf("%v", r)
		}
	}()
	if info, e := os.Stat(path); e == nil && info.Size() == 0 {
		return nil, errors.New("the file is empty")
	}
	db, err = bolt.Open(path, 0600, o)
	if err != nil {
		return nil, err
	}
	err = db.View(func(tx *bolt.Tx) error {
		for e := range tx.Check() {
			err = errors.Join(err, e)
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}
