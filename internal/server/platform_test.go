package server

import (
	goruntime "runtime"
	"testing"

	"github.com/containerd/platforms"
)

func TestAPlatformNeedsSystemOrArchitecture(t *testing.T) {
	for s, want := range map[string]string{
		"linux":           "linux/" + goruntime.GOARCH,
		"arm64":           "linux/arm64",
		"x86_64":          "linux/amd64",
		"Linux/aarch64":   "linux/arm64",
		"linux/arm/v6":    "linux/arm/v6",
		"linux/sparc64":   "linux/sparc64",
		"freebsd/riscv64": "freebsd/riscv64",
	} {
		p, err := parsePlatform(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
			continue
		}
		if got := platforms.Format(*p); got != want {
			t.Errorf("%s is %s, want %s", s, got, want)
		}
	}
}
