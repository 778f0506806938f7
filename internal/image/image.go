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
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

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
	db      *database
	content *content.Store
	layers  *layer.Service

	change    chan struct{} // holds the token of whoever changes images
	unswept   bool          // something is there that no name leads to, for the next Open; whoever has the token
	flights   flights
	downloads atomic.Pointer[chan struct{}] // holds a token for each blob that is being fetched
	loaded    sync.Map                      // ID → *parts, read once
	uses      *uses
	cap       Cap
}

// Open opens the images of the data root, of which so many blobs are fetched at
// a time. A damaged images.db is set aside, and the images that are found without
// it come back, untagged.
func Open(ctx context.Context, root string, c *content.Store, l *layer.Service, downloads int) (_ *Service, err error) {
	s := &Service{root: root, content: c, layers: l, change: make(chan struct{}, 1), uses: openUses(usesFile(root))}
	s.SetDownloads(downloads)
	var damaged bool
	if s.db, damaged, err = openDatabase(ctx, filepath.Join(root, "images.db"), c.Provider(), s.arrange); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.db.close())
		}
	}()
	if damaged {
		if err := s.rescue(ctx); err != nil {
			return nil, err
		}
	}
	if err := s.db.refresh(ctx); err != nil {
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
func (s *Service) Close() error { return errors.Join(s.uses.write(), s.db.close()) }

// begin waits for the right to change images. The caller calls end.
func (s *Service) begin(ctx context.Context) (end func(), err error) {
	select {
	case s.change <- struct{}{}:
		return func() { <-s.change }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// SetDownloads says how many blobs are fetched at a time. Those that are count no more.
func (s *Service) SetDownloads(n int) {
	places := make(chan struct{}, n)
	s.downloads.Store(&places)
}
