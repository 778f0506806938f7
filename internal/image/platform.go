package image

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
)

// Two questions are asked of platforms, and Docker answers them differently: is
// it the one that is named (Matches: load, save, push, inspect, history, rmi),
// and does it run there (compatible: pull and create, which take linux/arm/v6
// for linux/arm/v7 where there is nothing better).

// Matches reports whether an image that is made for have is one for want, of
// which an empty architecture or variant stands for any; arm64 without one is v8.
func Matches(want, have ocispec.Platform) bool {
	return want.OS == have.OS && (want.Architecture == "" || want.Architecture == have.Architecture) &&
		(want.Variant == "" || want.Variant == have.Variant || want.Architecture == "arm64" && want.Variant == "v8" && have.Variant == "")
}

// compatible reports whether an image that is made for have runs where one for
// want does. One that does not say its variant is believed to.
func compatible(want, have ocispec.Platform) bool {
	return platforms.Only(want).Match(have) || have.Variant == "" && have.OS == want.OS && have.Architecture == want.Architecture
}

// ofPlatforms are those of list that are for one of the platforms asked for, all
// if none is. lacking are the platforms that nothing is for; platformOf returns
// false for what is not known.
func ofPlatforms[T any](list []T, want []ocispec.Platform, platformOf func(T) (ocispec.Platform, bool)) (chosen []T, lacking []ocispec.Platform) {
	if len(want) == 0 {
		return list, nil
	}
	provided := make([]bool, len(want))
	for _, one := range list {
		have, ok := platformOf(one)
		wanted := false
		for i, p := range want {
			if ok && Matches(p, have) {
				provided[i], wanted = true, true
			}
		}
		if wanted {
			chosen = append(chosen, one)
		}
	}
	for i, p := range want {
		if !provided[i] {
			lacking = append(lacking, p)
		}
	}
	return chosen, lacking
}

// only are the images that are for one of the platforms, each of which one must
// be for; all if none is given.
func (s *Service) only(ctx context.Context, ids []ID, ref string, want []ocispec.Platform) ([]ID, error) {
	var damaged error // it may be the one that is wanted
	chosen, lacking := ofPlatforms(ids, want, func(id ID) (ocispec.Platform, bool) {
		parts, err := s.partsOf(ctx, id)
		if err != nil {
			damaged = err
			return ocispec.Platform{}, false
		}
		return parts.config.Platform, true
	})
	if len(lacking) > 0 {
		return nil, cmp.Or(damaged, notProvided(ref, lacking[0]))
	}
	return chosen, nil
}

// fitting is only for images of an archive.
func (a *archive) fitting(group []*candidate) (list []*candidate, ok bool) {
	list, lacking := ofPlatforms(group, a.wanted, func(c *candidate) (ocispec.Platform, bool) { return c.parts.config.Platform, true })
	return list, len(lacking) == 0
}

// provided refuses images, each the only one of its name, that are not for each
// of the platforms asked for.
func (a *archive) provided(list []*candidate) error {
	var missing []string
	for _, c := range list {
		if _, ok := a.fitting([]*candidate{c}); !ok {
			missing = append(missing, c.familiar())
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return a.notProvided(missing)
}

func (a *archive) notProvided(missing []string) error {
	names := platformNames(a.wanted)
	if len(missing) == 1 {
		return errdefs.New(errdefs.NotFound, "image %s was loaded, but doesn't provide the requested platform (%s)", missing[0], names)
	}
	return errdefs.New(errdefs.NotFound, "images [%s] were loaded, but don't provide the requested platform (%s)", strings.Join(missing, ", "), names)
}

// ofLinux are the images that are for Linux, of which there must be one if there
// is any.
func ofLinux(group []*candidate) ([]*candidate, error) {
	var list []*candidate
	var refused error
	for _, c := range group {
		if err := c.checkOS(); err != nil {
			refused = err
			continue
		}
		list = append(list, c)
	}
	if len(list) > 0 {
		return list, nil
	}
	return nil, refused
}

func platformNames(list []ocispec.Platform) string {
	var names []string
	for _, p := range list {
		names = append(names, platforms.Format(p))
	}
	return fmt.Sprint(names)
}
