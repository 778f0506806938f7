package image

import (
	"runtime"
	"testing"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

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
		{ocispec.Platform{OS: "linux"}, platform("linux/" + runtime.GOARCH), true},
		{ocispec.Platform{OS: "linux"}, platform("linux/s390x"), runtime.GOARCH == "s390x"},
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
