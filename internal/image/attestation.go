package image

import (
	"context"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
)

// Attestations are manifests of an index that say something about another one
// of its manifests: how an image was built, what is in it. They come and go
// with that image, so that the index can be pushed as it came. The annotations
// are BuildKit's (docs/attestations/attestation-storage.md there).
const (
	annotationReferenceType   = "vnd.docker.reference.type"
	annotationReferenceDigest = "vnd.docker.reference.digest"
)

// attestationsOf lists the attestations of a manifest in an index.
func attestationsOf(index *ocispec.Index, manifest digest.Digest) (list []ocispec.Descriptor) {
	for _, d := range index.Manifests {
		if d.Annotations[annotationReferenceType] == "attestation-manifest" && d.Annotations[annotationReferenceDigest] == manifest.String() {
			list = append(list, d)
		}
	}
	return list
}

// maxAttestations bounds the attestations of a manifest, in bytes: they are held
// in memory until the image is whole.
const maxAttestations = 64 << 20

// attestations fetches the attestations of the manifest, whole. What the
// registry does not have, or is too large, is left out.
func (p *pull) attestations(ctx context.Context, index *ocispec.Index, manifest digest.Digest) ([][]byte, error) {
	var all [][]byte
	room, met := int64(maxAttestations), seen{}
	for _, d := range attestationsOf(index, manifest) {
		if met.before(d.Digest) {
			continue
		}
		one, err := p.attestation(ctx, d, &room)
		if err != nil && !errdefs.Is(err, errdefs.NotFound) && !errdefs.Is(err, errdefs.InvalidArgument) {
			return nil, err
		}
		all = append(all, one...)
	}
	return all, nil
}

// attestation fetches one of the attestations, if there is room for it.
func (p *pull) attestation(ctx context.Context, d ocispec.Descriptor, room *int64) ([][]byte, error) {
	if err := take(room, d); err != nil {
		return nil, err
	}
	b, err := p.document(ctx, d)
	if err != nil {
		return nil, err
	}
	blobs, err := listed(b)
	if err != nil {
		return nil, invalidDocument("attestation %s: %w", d.Digest, err)
	}
	all := [][]byte{b}
	const maxStatements = 100
	if n := len(blobs) - 1; n > maxStatements {
		return nil, invalidDocument("attestation %s has %d statements, at most %d are possible", d.Digest, n, maxStatements)
	}
	if err := take(room, blobs...); err != nil {
		return nil, err
	}
	for _, blob := range blobs {
		b, err := fetchSmall(ctx, p.from, blob)
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return all, nil
}

// take takes the bytes of some blobs from the room for attestations.
func take(room *int64, blobs ...ocispec.Descriptor) error {
	for _, d := range blobs {
		if d.Size < 0 || d.Size > *room {
			return invalidDocument("attestations have more than %d bytes", maxAttestations)
		}
		*room -= d.Size
	}
	return nil
}

// attestationBlobs lists what is stored of the attestations of a manifest.
func (s *Service) attestationBlobs(ctx context.Context, index *ocispec.Index, manifest digest.Digest) (ds []digest.Digest) {
	for _, d := range attestationsOf(index, manifest) {
		b, err := s.content.Read(ctx, d.Digest, maxDocument)
		if err != nil {
			continue
		}
		ds = append(ds, d.Digest)
		blobs, _ := listed(b)
		for _, blob := range blobs {
			ds = append(ds, blob.Digest)
		}
	}
	return ds
}

// attestations returns what the archive has of the attestations of c's manifest
// in an index.
func (a *archive) attestations(index []byte, c *candidate) (all [][]byte) {
	i, err := parseIndex(index)
	if err != nil {
		return nil
	}
	for _, d := range attestationsOf(i, digest.FromBytes(c.manifest)) {
		b, ok := a.small(d.Digest)
		if !ok {
			continue // of another platform, or not saved
		}
		all = append(all, b)
		blobs, _ := listed(b)
		for _, blob := range blobs {
			if b, ok := a.small(blob.Digest); ok {
				all = append(all, b)
			}
		}
	}
	return all
}

// small reads a document by the digest that names it, if the archive has it and
// it is what the name says.
func (a *archive) small(d digest.Digest) ([]byte, bool) {
	if _, err := a.blob(d); err != nil {
		return nil, false
	}
	b, _, ok, err := a.document("blobs/sha256/" + d.Encoded())
	return b, ok && err == nil
}
