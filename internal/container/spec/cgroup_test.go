package spec

import (
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
)

func TestCgroupPathIsBelowTheParent(t *testing.T) {
	for parent, want := range map[string]string{
		"": "tare-1/ID", "foo": "foo/ID", "/foo": "foo/ID", "/foo/bar/": "foo/bar/ID", "/": "ID", "../../foo": "foo/ID", "/x/../y": "y/ID",
	} {
		if err := validateCgroupParent(parent); err != nil {
			t.Errorf("%q: %v", parent, err)
		}
		if got := CgroupPath("tare-1", "ID", &container.HostConfig{Resources: container.Resources{CgroupParent: parent}}); got != want {
			t.Errorf("%q: got %s, want %s", parent, got, want)
		}
	}
	for _, bad := range []string{"tare", "/tare-1/x", "x/../tare", "a\nb", strings.Repeat("x", 300), strings.Repeat("x/", 2000)} {
		if err := validateCgroupParent(bad); err == nil {
			t.Errorf("%.20q is accepted", bad)
		}
	}
}
