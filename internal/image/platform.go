package image

import (
	"fmt"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
)

// Matches reports whether an image that is made for have is one for want, of
// which an empty architecture or variant stands for any; arm64 without one is v8.
func Matches(want, have ocispec.Platform) bool {
	return want.OS == have.OS && (want.Architecture == "" || want.Architecture == have.Architecture) &&
		(want.Variant == "" || want.Variant == have.Variant || want.Architecture == "arm64" && want.Variant == "v8" && have.Variant == "")
}

// fits reports whether the manifest of an index is one to load: one of the
// platforms asked for, or where none was, this machine's.
func (a *archive) fits(d ocispec.Descriptor, c *candidate) bool {
	if len(a.wanted) == 0 {
		return d.Platform == nil || d.Platform.OS == "linux" && d.Platform.Architecture == arch
	}
	for _, p := range a.wanted {
		if Matches(p, c.parts.config.Platform) {
			return true
		}
	}
	return false
}

// provided refuses images that are not for each of the platforms asked for,
// and those that are for several: an image of the store has one.
func (a *archive) provided(list []*candidate) error {
	var missing []string
	for _, c := range list {
		for _, p := range a.wanted {
			if !c.provides(p) {
				missing = append(missing, c.familiar())
				break
			}
		}
	}
	names := platformNames(a.wanted)
	switch {
	case len(missing) == 1:
		return errdefs.New(errdefs.NotFound, "image %s was loaded, but doesn't provide the requested platform (%s)", missing[0], names)
	case len(missing) > 1:
		return errdefs.New(errdefs.NotFound, "images [%s] were loaded, but don't provide the requested platform (%s)", strings.Join(missing, ", "), names)
	}
	for _, c := range list {
		for _, p := range a.wanted {
			if !Matches(p, c.parts.config.Platform) {
				return errdefs.New(errdefs.NotImplemented, "image %s: the platforms %s cannot be kept together; load one of them", c.familiar(), names)
			}
		}
	}
	return nil
}

func (c *candidate) provides(p ocispec.Platform) bool {
	if Matches(p, c.parts.config.Platform) {
		return true
	}
	for _, other := range c.others {
		if Matches(p, other) {
			return true
		}
	}
	return false
}

func platformNames(list []ocispec.Platform) string {
	var names []string
	for _, p := range list {
		names = append(names, platforms.Format(p))
	}
	return fmt.Sprint(names)
}
