package image

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
)

// annotationPredicate is BuildKit's, on a layer of an attestation.
const annotationPredicate = "in-toto.io/predicate-type"

// Statement is something that an attestation says of an image: in-toto's envelope
// around a predicate, of which the type says what it is about.
type Statement struct {
	Descriptor ocispec.Descriptor
	Predicate  string
	Text       []byte // a JSON document; nil: it was not asked for
}

// Statements lists what the attestations of an image say, of the types only that
// are named, if some are. With text what is not stored is an error.
func (s *Service) Statements(ctx context.Context, i *Image, types []string, text bool) ([]Statement, error) {
	var all []Statement
	met := seen{}
	for _, d := range s.attestedBy(ctx, i) {
		b, err := s.content.Read(ctx, d.Digest, maxDocument)
		if err != nil || met.before(d.Digest) {
			continue // it did not come with the image
		}
		var m ocispec.Manifest
		if err := json.Unmarshal(b, &m); err != nil {
			return nil, fmt.Errorf("attestation %s: %w", d.Digest, err)
		}
		for _, l := range m.Layers {
			st := Statement{Descriptor: l, Predicate: l.Annotations[annotationPredicate]}
			if st.Predicate == "" || len(types) > 0 && !slices.Contains(types, st.Predicate) {
				continue
			}
			if text {
				if st.Text, err = s.statement(ctx, l.Digest); err != nil {
					return nil, err
				}
			}
			all = append(all, st)
		}
	}
	return all, nil
}

// attestedBy lists the attestations of an image in the index that it came with.
func (s *Service) attestedBy(ctx context.Context, i *Image) []ocispec.Descriptor {
	for _, d := range s.indexesOf(ctx, i.Target.Digest, i.Manifest.Digest) {
		b, err := s.content.Read(ctx, d, maxDocument)
		if err != nil {
			continue
		}
		index, err := parseIndex(b)
		if err != nil {
			continue
		}
		if list := attestationsOf(index, i.Manifest.Digest); len(list) > 0 {
			return list
		}
	}
	return nil
}

func (s *Service) statement(ctx context.Context, d digest.Digest) ([]byte, error) {
	if !s.content.Has(d) {
		return nil, errdefs.New(errdefs.NotFound, "attestation statement %s is not available locally", d)
	}
	b, err := s.content.Read(ctx, d, maxAttestations)
	if err == nil && !json.Valid(b) {
		err = errdefs.New(errdefs.InvalidArgument, "it is no JSON document")
	}
	if err != nil {
		return nil, fmt.Errorf("attestation statement %s: %w", d, err)
	}
	return b, nil
}
