package spec

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/errdefs"
)

// zones is a host with two time zones and things that are none.
func zones(t *testing.T) (host, dir string) {
	t.Helper()
	host = t.TempDir()
	dir = filepath.Join(host, "zoneinfo")
	for _, d := range []string{dir + "/Area", host + "/etc"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"zoneinfo/Area/City": "TZif city", "zoneinfo/UTC": "TZif utc", "zoneinfo/zone.tab": "# a table", "secret": "TZif secret"} {
		if err := os.WriteFile(filepath.Join(host, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"Area/Link": "City", "Up": "../secret", "Out": host + "/secret"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return host, dir
}

func TestZoneFile(t *testing.T) {
	host, dir := zones(t)
	for name, want := range map[string]string{"Area/City": "TZif city", "Area/Link": "TZif city", "local": "TZif utc"} {
		if got, err := zoneFileIn(host, dir, name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if err := os.Symlink("/zoneinfo/Area/City", host+"/etc/localtime"); err != nil {
		t.Fatal(err)
	}
	if got, err := zoneFileIn(host, dir, "local"); err != nil || string(got) != "TZif city" {
		t.Errorf("local: %q, %v", got, err)
	}
}

// TestZoneFileStaysBelowItsDirectory whatever links a host has there.
func TestZoneFileStaysBelowItsDirectory(t *testing.T) {
	host, dir := zones(t)
	for name, want := range map[string]string{
		"Up": "has none of that name", "Out": "has none of that name", "../secret": "has none of that name", "Area/../../secret": "has none of that name",
		"No/Where": "has none of that name in " + dir, "Area": "not a regular file", "zone.tab": "does not describe a time zone",
	} {
		got, err := zoneFileIn(host, dir, name)
		if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestZoneIsMountedOverALink: else the file of another zone would be covered. The
// user's own mount wins.
func TestZoneIsMountedOverALink(t *testing.T) {
	s, err := Of(input(t, func(in *Input) { in.Localtime = "/engine/localtime" }))
	if err != nil {
		t.Fatal(err)
	}
	atZone := func(m specs.Mount) bool { return m.Destination == zoneTarget }
	i := slices.IndexFunc(s.Mounts, atZone)
	if i < 0 || s.Mounts[i].Source != "/engine/localtime" || !slices.Contains(s.Mounts[i].Options, "ro") || !slices.Contains(s.Mounts[i].Options, "dest-nofollow") {
		t.Errorf("%+v", s.Mounts)
	}
	s, err = Of(input(t, func(in *Input) {
		in.Localtime = "/engine/localtime"
		in.HostConfig.Binds = []string{"/etc/passwd:/etc/localtime"}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if i = slices.IndexFunc(s.Mounts, atZone); s.Mounts[i].Source != "/etc/passwd" || slices.IndexFunc(s.Mounts[i+1:], atZone) >= 0 {
		t.Errorf("%+v", s.Mounts)
	}
}
