package image

import (
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestMatches(t *testing.T) {
	platform := func(os, arch, variant string) ocispec.Platform {
		return ocispec.Platform{OS: os, Architecture: arch, Variant: variant}
	}
	amd64, arm64, armv7 := platform("linux", "amd64", ""), platform("linux", "arm64", ""), platform("linux", "arm", "v7")
	for _, c := range []struct {
		want, have ocispec.Platform
		matches    bool
	}{
		{amd64, amd64, true},
		{platform("linux", "", ""), amd64, true},
		{arm64, amd64, false},
		{platform("windows", "amd64", ""), amd64, false},
		{platform("linux", "arm", ""), armv7, true},
		{platform("linux", "arm", "v6"), armv7, false},
		{platform("linux", "arm64", "v8"), arm64, true},
	} {
		if got := Matches(c.want, c.have); got != c.matches {
			t.Errorf("%v for %v: %v", c.have, c.want, got)
		}
	}
}
