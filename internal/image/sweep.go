package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/syncfs"
	"github.com/tare-engine/tare/internal/manifest"
)

// marker exists while blobs and layers may be there that no name leads to.
func (s *Service) marker() string { return s.root + "/images.sweep" }

func (s *Service) mark() error {
	return os.WriteFile(s.marker(), nil, 0600)
}

// unmark says that there is nothing of the kind, unless something is known to be.
func (s *Service) unmark() error {
	if s.unswept {
		return nil
	}
	if err := os.Remove(s.marker()); err != nil {
		return fmt.Errorf("images: %w", err)
	}
	return syncfs.Dir(s.root)
}

// rename changes names that lead to images here, and sweeps what nothing leads to
// any more: what an image consisted of by them alone. Preconditions: the change token
// is held.
func (s *Service) rename(ctx context.Context, change func(*transaction) error) error {
	if err := s.mark(); err != nil {
		return err
	}
	failpoint.Hit("rename/marked")
	before := s.db.view.Load()
	if err := s.db.update(ctx, change); err != nil {
		return errors.Join(err, s.unmark())
	}
	failpoint.Hit("rename/renamed")
	s.tidy(ctx, before)
	return nil
}

// tidy ends a change of names, before which something was marked.
func (s *Service) tidy(ctx context.Context, before *view) {
	end := s.unmark
	if before.lost(s.db.view.Load()) {
		end = func() error { return s.sweep(context.WithoutCancel(ctx)) }
	}
	if err := end(); err != nil { // space only: the next sweep tries again
		slog.Error("sweep images", "error", err)
	}
}

// lost reports whether the names led to a document to which those of after do not.
func (v *view) lost(after *view) bool {
	type way struct{ target, manifest digest.Digest }
	stay := map[way]bool{}
	for _, n := range after.entries() {
		stay[way{n.target.Digest, n.manifest.Digest}] = true
	}
	for _, n := range v.entries() {
		if !stay[way{n.target.Digest, n.manifest.Digest}] {
			return true
		}
	}
	return false
}

// sweep removes the blobs and layers that no image needs. Preconditions: the
// change token is held, or the service is not yet in use.
func (s *Service) sweep(ctx context.Context) error {
	s.unswept = true // until the end is reached
	v := s.db.view.Load()
	blobs := map[digest.Digest]bool{}
	var chains []layer.ChainID
	for _, n := range v.entries() {
		p, err := s.partsOf(ctx, n.id)
		if err != nil {
			// What a damaged image needs is not known: nothing goes.
			slog.Error("image is damaged; nothing is swept", "image", n.id, "error", err)
			return nil
		}
		chains = append(chains, p.top())
		for _, d := range s.blobsOf(ctx, n) {
			blobs[d] = true
		}
	}
	var gone []digest.Digest
	err := s.content.Walk(ctx, func(d digest.Digest, _ int64) error {
		if !blobs[d] {
			gone = append(gone, d)
		}
		return nil
	})
	if err = errors.Join(err, s.content.Remove(ctx, gone...), s.layers.Prune(chains)); err != nil {
		return err
	}
	s.unswept = false
	return s.unmark()
}

// blobsOf lists the blobs of the image that a name stands for: indexes, manifest, configuration, layers.
func (s *Service) blobsOf(ctx context.Context, n name) (ds []digest.Digest) {
	for _, e := range n.all() {
		ds = append(append(ds, s.indexesOf(ctx, n.target.Digest, e.manifest.Digest)...), e.manifest.Digest, e.id)
		m, err := s.manifestOf(ctx, e.id, e.manifest.Digest)
		if err != nil {
			continue
		}
		for _, l := range m.Layers {
			ds = append(ds, l.Digest)
		}
	}
	return ds
}

// indexesOf lists the stored indexes by which one leads to a manifest, itself
// first, and the attestations of the manifest; none if it does not lead there.
func (s *Service) indexesOf(ctx context.Context, from, leaf digest.Digest) []digest.Digest {
	return s.indexesBelow(ctx, from, leaf, newLevels())
}

// indexesBelow is indexesOf for the depth at which the first of met is. At each
// depth an index is looked at once: a thousand times a thousand entries may all
// be the same few.
func (s *Service) indexesBelow(ctx context.Context, from, leaf digest.Digest, met []seen) []digest.Digest {
	if from == leaf || len(met) == 0 {
		return nil
	}
	if met[0].before(from) {
		return nil
	}
	b, err := s.content.Read(ctx, from, maxDocument)
	if err != nil {
		return nil
	}
	index, err := parseIndex(b)
	if err != nil {
		return nil
	}
	for _, d := range index.Manifests {
		if d.Digest == leaf {
			return append([]digest.Digest{from}, s.attestationBlobs(ctx, index, leaf)...)
		}
	}
	for _, d := range index.Manifests {
		if below := s.indexesBelow(ctx, d.Digest, leaf, met[1:]); below != nil {
			return append([]digest.Digest{from}, below...)
		}
	}
	return nil
}

// seen are the documents that a walk through indexes has met.
type seen map[digest.Digest]bool

// newLevels is what a walk has met at each depth that it may go to.
func newLevels() []seen {
	levels := make([]seen, maxNesting+1)
	for i := range levels {
		levels[i] = seen{}
	}
	return levels
}

// before reports whether d has been met, and notes that it is now.
func (s seen) before(d digest.Digest) bool {
	met := s[d]
	s[d] = true
	return met
}

// rescue names the images that a lost images.db named, by their manifests.
func (s *Service) rescue(ctx context.Context) error {
	found := map[digest.Digest]name{}
	err := s.content.Walk(ctx, func(d digest.Digest, size int64) error {
		if size > maxDocument {
			return nil
		}
		b, err := s.content.Read(ctx, d, maxDocument)
		if err != nil {
			return nil
		}
		var m ocispec.Manifest
		if manifest.Check(manifestType(b), b) != nil || json.Unmarshal(b, &m) != nil || m.Config.Digest == "" || m.SchemaVersion != 2 {
			return nil
		}
		if _, err := s.partsOf(ctx, m.Config.Digest); err != nil {
			return nil
		}
		desc := ocispec.Descriptor{MediaType: manifestType(b), Digest: d, Size: size}
		found[d] = name{entry: entry{id: m.Config.Digest, manifest: desc}, target: desc}
		return nil
	})
	if err != nil {
		return err
	}
	return s.db.update(ctx, func(tx *transaction) error {
		for _, n := range found {
			slog.Info("found an image without its names", "image", n.id)
			if err := tx.dangle(n); err != nil {
				return err
			}
		}
		return nil
	})
}
