package image

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
)

// search looks for the manifest of a platform, below indexes if need be. What an
// index lists without a platform, manifests and indexes, is looked into, one after
// the other.
type search struct {
	called   string // for messages
	platform ocispec.Platform
	document func(context.Context, ocispec.Descriptor) ([]byte, error) // reads a manifest or index
	config   func(context.Context, ocispec.Descriptor) ([]byte, error)

	met     seen
	silent  *route // to the first manifest that does not say what it is for, and whose image is for something else
	lacking error  // why something was not looked into
}

// route is the way from what a name stands for to a manifest.
type route struct {
	documents []document // indexes, from above, then the manifest
	config    []byte     // of the image, nil if it was not looked at
}

func (r *route) manifest() document { return r.documents[len(r.documents)-1] }

// maxLooked bounds the documents that a search reads.
const maxLooked = 100

// from finds the way to the best manifest below top. Where none is for the platform
// the first that does not say what it is for is it: who pulls will see.
func (s *search) from(ctx context.Context, top ocispec.Descriptor) (*route, error) {
	s.met = seen{}
	r, err := s.below(ctx, top, nil)
	if r == nil && err == nil {
		r = s.silent
	}
	if r == nil && err == nil {
		err = cmp.Or(s.lacking, errdefs.New(errdefs.NotFound,
			"no matching manifest for %s in the manifest list entries: no match for platform in manifest: not found", platforms.FormatAll(s.platform)))
	}
	return r, err
}

// below is from for a document to which indexes lead; nil if there is nothing for
// the platform.
func (s *search) below(ctx context.Context, at ocispec.Descriptor, above []document) (*route, error) {
	if len(above) > maxNesting {
		return nil, invalidDocument("indexes are nested more than %d deep", maxNesting)
	}
	if s.met.before(at.Digest) {
		return nil, nil
	}
	if len(s.met) > maxLooked {
		return nil, invalidDocument("more than %d documents of an index do not say which platform they are for", maxLooked)
	}
	b, err := s.document(ctx, at)
	if err != nil {
		return nil, s.pass(err, len(above) > 0 && at.Platform == nil)
	}
	r := &route{documents: append(slices.Clone(above), document{descriptor: at, bytes: b})}
	switch {
	case images.IsManifestType(at.MediaType) && (len(above) == 0 || at.Platform != nil):
		return r, nil
	case images.IsManifestType(at.MediaType):
		return s.byConfig(ctx, r)
	case images.IsIndexType(at.MediaType):
		return s.within(ctx, r)
	}
	return nil, s.pass(errdefs.New(errdefs.InvalidArgument, "%s is no image: its manifest is of the media type %.100q", s.called, at.MediaType), len(above) > 0)
}

// pass notes what keeps us from looking into something, and passes it over if
// there may be something else.
func (s *search) pass(err error, over bool) error {
	if !over || !errdefs.Is(err, errdefs.NotFound) && !errdefs.Is(err, errdefs.InvalidArgument) {
		return err
	}
	s.lacking = cmp.Or(s.lacking, err)
	return nil
}

// within looks into the index that the route leads to.
func (s *search) within(ctx context.Context, r *route) (*route, error) {
	index, err := parseIndex(r.manifest().bytes)
	if err != nil {
		return nil, err
	}
	for _, d := range possible(index, s.platform) {
		if found, err := s.below(ctx, d, r.documents); err != nil || found != nil {
			return found, err
		}
	}
	return nil, nil
}

// byConfig is the route if the configuration at its end says that the image is for
// the platform; nil if not.
func (s *search) byConfig(ctx context.Context, r *route) (*route, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(r.manifest().bytes, &m); err != nil {
		return nil, invalidDocument("%w", err)
	}
	if s.silent == nil {
		s.silent = r
	}
	b, err := s.config(ctx, m.Config)
	if err != nil {
		return nil, s.pass(err, true)
	}
	parts, err := parseConfig(b)
	if err != nil || !compatible(s.platform, parts.config.Platform) {
		return nil, nil
	}
	r.config = b
	return r, nil
}

// possible are the entries of an index that may lead to an image for a platform:
// first those that say so, the best first, then those that do not say.
func possible(index *ocispec.Index, want ocispec.Platform) []ocispec.Descriptor {
	match := platforms.Only(want)
	var fitting, silent []ocispec.Descriptor
	for _, d := range index.Manifests {
		switch {
		case d.Annotations[annotationReferenceType] != "" || d.ArtifactType != "": // attestations, and what is no image
		case d.Platform == nil:
			silent = append(silent, d)
		case match.Match(*d.Platform):
			fitting = append(fitting, d)
		}
	}
	slices.SortStableFunc(fitting, func(a, b ocispec.Descriptor) int {
		switch {
		case match.Less(*a.Platform, *b.Platform):
			return -1
		case match.Less(*b.Platform, *a.Platform):
			return 1
		}
		return 0
	})
	return append(fitting, silent...)
}

// platform is the one that is wanted.
func (p *pull) platform() ocispec.Platform {
	if p.o.Platform != nil {
		return *p.o.Platform
	}
	return platforms.DefaultSpec()
}

// search finds the way to the manifest to be pulled.
func (p *pull) search(ctx context.Context) (*route, error) {
	s := search{called: p.called(), platform: p.platform(), document: p.document, config: p.config}
	return s.from(ctx, p.target)
}

// stored follows the target to a manifest, as far as documents are stored.
func (p *pull) stored(ctx context.Context) (digest.Digest, bool) {
	if images.IsManifestType(p.target.MediaType) {
		return p.target.Digest, true
	}
	read := func(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
		b, err := p.s.content.Read(ctx, d.Digest, maxDocument)
		if err != nil {
			err = fmt.Errorf("%w: %s: %v", errNotHere, d.Digest, err)
		}
		return b, err
	}
	s := search{called: p.called(), platform: p.platform(), document: read, config: read}
	r, err := s.from(ctx, p.target)
	if err != nil {
		return "", false
	}
	return r.manifest().descriptor.Digest, true
}

// suited is the image of a name that the pull would bring: the very one, where
// others would run as well.
func (p *pull) suited(ctx context.Context, n name) (entry, bool) {
	manifest, ok := p.manifest, p.manifest != ""
	if !ok {
		manifest, ok = p.stored(ctx)
	}
	for _, e := range n.all() {
		if !ok || e.manifest.Digest != manifest {
			continue
		}
		parts, err := p.s.partsOf(ctx, e.id)
		if err == nil && (p.o.Platform == nil || compatible(p.platform(), parts.config.Platform)) {
			return e, true
		}
	}
	return entry{}, false
}
