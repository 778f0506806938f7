package image

import (
	"context"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/layer"
)

// knownLayers tells which layers the blobs of all images hold, as the images say
// it, whose layers were verified when they came. It is a picture of the moment
// at which it is asked first.
type knownLayers struct {
	s     *Service
	diffs map[digest.Digest]layer.DiffID // by blob; nil until it is asked for
	blobs map[layer.DiffID][]ocispec.Descriptor
}

func newKnownLayers(s *Service) *knownLayers { return &knownLayers{s: s} }

// stored reports whether a blob is in the store.
func (k *knownLayers) stored(b Blob) bool { return k.s.content.HasWhole(b.Digest, b.Size) }

// diff is what a blob unpacks to; "" if no image says it.
func (k *knownLayers) diff(ctx context.Context, blob digest.Digest) layer.DiffID {
	k.read(ctx)
	return k.diffs[blob]
}

// holding finds a stored blob that is a layer, packed or not; the same one each
// time if there are several.
func (k *knownLayers) holding(ctx context.Context, diff layer.DiffID) (best ocispec.Descriptor, ok bool) {
	k.read(ctx)
	for _, d := range k.blobs[diff] {
		if k.s.content.HasWhole(d.Digest, d.Size) && (!ok || d.Digest == diff || best.Digest != diff && d.Digest < best.Digest) {
			best, ok = d, true
		}
	}
	return best, ok
}

// packed finds a stored blob that becomes b when it is unpacked. There is none if
// b is packed itself: nobody packs twice the same.
func (k *knownLayers) packed(ctx context.Context, b Blob) (Blob, bool) {
	if b.Digest != b.DiffID {
		return Blob{}, false
	}
	k.read(ctx)
	for _, d := range k.blobs[b.DiffID] {
		if d.Digest != b.DiffID && k.s.content.HasWhole(d.Digest, d.Size) {
			return Blob{d.Digest, b.DiffID, d.Size}, true
		}
	}
	return Blob{}, false
}

func (k *knownLayers) read(ctx context.Context) {
	if k.diffs != nil {
		return
	}
	k.diffs, k.blobs = map[digest.Digest]layer.DiffID{}, map[layer.DiffID][]ocispec.Descriptor{}
	met := seen{}
	for _, n := range k.s.db.view.Load().entries() {
		if met.before(n.manifest.Digest) {
			continue
		}
		m, err := k.s.manifestOf(ctx, n.id, n.manifest.Digest)
		if err != nil {
			continue // a damaged image has nothing to offer
		}
		p, err := k.s.partsOf(ctx, n.id)
		if err != nil || len(p.chains) != len(m.Layers) {
			continue
		}
		for i, d := range m.Layers {
			if diff := p.config.RootFS.DiffIDs[i]; k.diffs[d.Digest] == "" {
				k.diffs[d.Digest] = diff
				k.blobs[diff] = append(k.blobs[diff], ociLayer(d))
			}
		}
	}
}
