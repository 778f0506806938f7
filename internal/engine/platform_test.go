package engine

import (
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
)

func TestAnImageMustBeForEachPlatform(t *testing.T) {
	platform := func(os, arch, variant string) ocispec.Platform {
		return ocispec.Platform{OS: os, Architecture: arch, Variant: variant}
	}
	amd64, arm64, armv7 := platform("linux", "amd64", ""), platform("linux", "arm64", ""), platform("linux", "arm", "v7")
	const refused = "image with reference img was found but does not provide the specified platform "
	for _, c := range []struct {
		have   ocispec.Platform
		wanted []ocispec.Platform
		err    string
	}{
		{amd64, nil, ""},
		{amd64, []ocispec.Platform{amd64}, ""},
		{amd64, []ocispec.Platform{platform("linux", "", "")}, ""},
		{amd64, []ocispec.Platform{arm64}, refused + "(linux/arm64)"},
		{amd64, []ocispec.Platform{amd64, arm64}, refused + "(linux/arm64)"},
		{amd64, []ocispec.Platform{platform("windows", "amd64", "")}, refused + "(windows/amd64)"},
		{armv7, []ocispec.Platform{platform("linux", "arm", "")}, ""},
		{armv7, []ocispec.Platform{platform("linux", "arm", "v6")}, refused + "(linux/arm/v6)"},
		{arm64, []ocispec.Platform{platform("linux", "arm64", "v8")}, ""},
	} {
		err := checkPlatforms("img", c.have, c.wanted)
		if c.err == "" && err != nil || c.err != "" && (err == nil || err.Error() != c.err || !errdefs.Is(err, errdefs.NotFound)) {
			t.Errorf("%v for %v: %v, want %q", c.have, c.wanted, err, c.err)
		}
	}
}
