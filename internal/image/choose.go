package image

import (
	"cmp"
	"context"
	goruntime "runtime"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
)

// Two questions are asked of platforms, and Docker answers them differently: is
// it the one that is named (Matches: load, save, push, inspect, history, rmi),
// and does it run there (compatible: pull and create, which take linux/arm/v6
// for linux/arm/v7 where there is nothing better).

// compatible reports whether an image that is made for have runs where one for
// want does. One that does not say its variant is believed to.
func compatible(want, have ocispec.Platform) bool {
	want = whole(want)
	return platforms.Only(want).Match(have) || have.Variant == "" && have.OS == want.OS && have.Architecture == want.Architecture
}

// whole adds this machine's architecture to an operating system alone.
func whole(p ocispec.Platform) ocispec.Platform {
	if p.Architecture == "" {
		p.Architecture = goruntime.GOARCH
	}
	return p
}

// ResolveToRun is Resolve of an image that runs where one for a platform does: of
// those that the reference has by its index the best.
func (s *Service) ResolveToRun(ctx context.Context, ref string, want ocispec.Platform) (best *Image, err error) {
	v := s.view.Load()
	f, err := v.find(ref)
	if err != nil {
		return nil, err
	}
	match := platforms.Only(whole(want))
	var damaged error
	for _, id := range f.all() {
		i, err := s.found(ctx, v, f.one(id))
		if err != nil { // another one may do
			damaged = err
			continue
		}
		if compatible(want, i.Config.Platform) && (best == nil || match.Less(i.Config.Platform, best.Config.Platform)) {
			best = i
		}
	}
	if best == nil {
		return nil, cmp.Or(damaged, notProvided(ref, want))
	}
	return best, nil
}

// platform is the one that is wanted.
func (p *pull) platform() ocispec.Platform {
	if p.o.Platform != nil {
		return whole(*p.o.Platform)
	}
	return platforms.DefaultSpec()
}

// suited is the image of a name that the pull would bring: the very one, where
// others would run as well.
func (p *pull) suited(ctx context.Context, n name) (entry, bool) {
	manifest, ok := p.stored(ctx)
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

// stored follows the target to a manifest, as far as its indexes are stored.
func (p *pull) stored(ctx context.Context) (_ digest.Digest, ok bool) {
	at := p.target
	for range maxNesting + 1 {
		if !images.IsIndexType(at.MediaType) {
			return at.Digest, true
		}
		b, err := p.s.content.Read(ctx, at.Digest, maxDocument)
		if err != nil {
			return "", false
		}
		index, err := parseIndex(b)
		if err != nil {
			return "", false
		}
		if at, err = p.choose(index); err != nil {
			return "", false
		}
	}
	return "", false
}

// choose finds the manifest for the platform in an index.
func (p *pull) choose(index *ocispec.Index) (ocispec.Descriptor, error) {
	match := platforms.Only(p.platform())
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
	if fitting = append(fitting, silent...); len(fitting) > 0 { // a silent one's configuration will tell
		return fitting[0], nil
	}
	return ocispec.Descriptor{}, errdefs.New(errdefs.NotFound,
		"no matching manifest for %s in the manifest list entries: no match for platform in manifest: not found", platforms.FormatAll(p.platform()))
}
