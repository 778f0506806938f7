package image

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/layer"
)

// sweep removes the blobs and layers that no image needs. Preconditions: the
// change token is held, or the service is not yet in use.
func (s *Service) sweep(ctx context.Context) error {
	v := s.view.Load()
	blobs := map[digest.Digest]bool{}
	var chains []layer.ChainID
	for _, n := range v.names {
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
	return s.unmark()
}

// blobsOf lists the blobs of an image: manifest, configuration, layers.
func (s *Service) blobsOf(ctx context.Context, n name) []digest.Digest {
	ds := []digest.Digest{n.target.Digest, n.id}
	b, err := s.content.Read(ctx, n.target.Digest, maxDocument)
	if err != nil {
		return ds
	}
	var m ocispec.Manifest
	if json.Unmarshal(b, &m) != nil {
		return ds
	}
	for _, l := range m.Layers {
		ds = append(ds, l.Digest)
	}
	return ds
}

// rescue names the images that a lost images.db named, by their manifests.
func (s *Service) rescue(ctx context.Context) error {
	found := map[digest.Digest]candidate{}
	err := s.content.Walk(ctx, func(d digest.Digest, size int64) error {
		if size > maxDocument {
			return nil
		}
		b, err := s.content.Read(ctx, d, maxDocument)
		if err != nil {
			return nil
		}
		var m ocispec.Manifest
		if oneKind(b) != nil || json.Unmarshal(b, &m) != nil || m.Config.Digest == "" || m.SchemaVersion != 2 {
			return nil
		}
		if _, err := s.partsOf(ctx, m.Config.Digest); err != nil {
			return nil
		}
		found[d] = candidate{id: m.Config.Digest, target: ocispec.Descriptor{MediaType: manifestType(b), Digest: d, Size: size}}
		return nil
	})
	if err != nil {
		return err
	}
	return s.update(ctx, func(ctx context.Context) error {
		for _, c := range found {
			slog.Info("found an image without its names", "image", c.id)
			if err := s.dangle(ctx, c.id, c.target); err != nil {
				return err
			}
		}
		return nil
	})
}
