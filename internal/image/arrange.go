package image

import (
	"cmp"
	"context"
	"slices"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// arrange makes n the name of these images. It stands for the one that suits
// this machine best; of those that suit alike, or not, for the first of the index,
// as a pull does.
func (s *Service) arrange(ctx context.Context, n name, all []entry) name {
	all = s.inOrder(ctx, n.target.Digest, all)
	host := platforms.Default()
	best, suits := 0, ocispec.Platform{}
	for i, e := range all {
		p, err := s.partsOf(ctx, e.id)
		if err != nil || !host.Match(p.config.Platform) {
			continue
		}
		if suits.OS == "" || host.Less(p.config.Platform, suits) {
			best, suits = i, p.config.Platform
		}
	}
	n.entry = all[best]
	n.others = slices.Delete(slices.Clone(all), best, best+1)
	return n
}

// inOrder sorts images as an index has their manifests; what it does not list
// itself comes last.
func (s *Service) inOrder(ctx context.Context, target digest.Digest, all []entry) []entry {
	b, err := s.content.Read(ctx, target, maxDocument)
	if err != nil {
		return all
	}
	index, err := parseIndex(b)
	if err != nil {
		return all
	}
	places := map[digest.Digest]int{}
	for i, d := range index.Manifests {
		if _, ok := places[d.Digest]; !ok {
			places[d.Digest] = i
		}
	}
	place := func(e entry) int {
		if at, ok := places[e.manifest.Digest]; ok {
			return at
		}
		return len(index.Manifests)
	}
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b entry) int { return cmp.Compare(place(a), place(b)) })
	return all
}
