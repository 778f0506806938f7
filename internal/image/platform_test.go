package image

import (
	"testing"

	"github.com/containerd/platforms"
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

func TestCompatiblePlatforms(t *testing.T) {
	for _, c := range []struct {
		want, have ocispec.Platform
		runs       bool
	}{
		{platform("linux/amd64"), platform("linux/amd64"), true},
		{platform("linux/amd64/v2"), platform("linux/amd64"), true},
		{platform("linux/amd64"), platform("linux/386"), true},
		{platform("linux/amd64"), platform("linux/arm64"), false},
		{platform("linux/arm64"), platform("linux/arm64/v8"), true},
		{platform("linux/arm/v7"), platform("linux/arm/v6"), true},
		{platform("linux/arm/v6"), platform("linux/arm/v7"), false},
		{platform("linux/arm/v6"), ocispec.Platform{OS: "linux", Architecture: "arm"}, true},
		{platform("windows/amd64"), platform("linux/amd64"), false},
	} {
		if runs := compatible(c.want, c.have); runs != c.runs {
			t.Errorf("%v for %v: %v", c.have, c.want, runs)
		}
	}
}

func platform(s string) ocispec.Platform {
	p := platforms.MustParse(s)
	if p.Architecture == "amd64" && p.Variant == "v1" {
		p.Variant = ""
	}
	return p
}
