package container

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/runtime/external"
	"github.com/tare-engine/tare/internal/store"
)

func TestWhereGroupsAre(t *testing.T) {
	id := ident.New()
	for _, c := range []struct {
		systemd         bool
		runtime, parent string
		want            string
		noted           bool
	}{
		{false, external.Own, "", "tare-1/" + id, false},
		{false, "runc", "", "tare-1/runtimes/" + id, true},
		{false, external.Own, "/a/b", "a/b/" + id, true},
		{false, external.Own, "a.slice", "a.slice/" + id, true},
		{true, external.Own, "", "system.slice/tare-" + id + ".scope", true},
		{true, "runc", "", "system.slice/tare-" + id + ".scope", true},
		{true, external.Own, "tare-b.slice", "tare.slice/tare-b.slice/tare-" + id + ".scope", true},
		{true, external.Own, "/a/b", "", false}, // made before the driver changed
	} {
		g := &groups{parent: "tare-1", systemd: c.systemd}
		got, err := g.path(&Record{ID: id, HostConfig: &container.HostConfig{Runtime: c.runtime, Resources: container.Resources{CgroupParent: c.parent}}})
		if got != c.want || (err == nil) != (c.want != "") || err == nil && (g.noted(got) != c.noted || isScope(got) != c.systemd) {
			t.Errorf("%+v: %s, noted %t, %v", c, got, g.noted(got), err)
		}
	}
}

func TestParentsOfTheDriver(t *testing.T) {
	for parent, ok := range map[string]bool{"": true, "a.slice": true, "a-b.slice": true, "-.slice": true, "a": false, ".slice": false, "/a.slice": false, "a-.slice": false} {
		err := (&groups{systemd: true}).check(&container.HostConfig{Resources: container.Resources{CgroupParent: parent}})
		const text = `cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"`
		if (err == nil) != ok || err != nil && (err.Error() != text || !errdefs.Is(err, errdefs.InvalidArgument)) {
			t.Errorf("%q: %v", parent, err)
		}
		if err := (&groups{}).check(&container.HostConfig{Resources: container.Resources{CgroupParent: parent}}); err != nil {
			t.Errorf("our own driver: %q: %v", parent, err)
		}
	}
}

// stopped notes which units are stopped.
type stopped []string

func (s *stopped) StartScope(string, int, map[string]any) error { return nil }
func (s *stopped) Set(string, map[string]any) error             { return nil }
func (s *stopped) Stop(name string) error                       { *s = append(*s, name); return nil }

// TestScopeOfAnEndedContainer: systemd has removed the group by itself, and is to
// forget the unit; the engine that finds that may make its own groups.
func TestScopeOfAnEndedContainer(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "containers"), 0o700); err != nil {
		t.Fatal(err)
	}
	id := ident.New()
	var units stopped
	g := &groups{parent: "tare-1", units: &units, records: &records{execRoot: dir}, home: external.Home(dir)}
	path := "system.slice/tare-" + id + ".scope"
	if err := store.PutVolatile(g.note(id), path); err != nil {
		t.Fatal(err)
	}
	if got := g.strayPath(id); got != path {
		t.Errorf("it is at %s", got)
	}
	if err := g.removeStray(id, path); err != nil {
		t.Fatal(err)
	}
	if want := []string{"tare-" + id + ".scope"}; !slices.Equal(units, want) {
		t.Errorf("stopped: %q", units)
	}
	if _, err := os.Lstat(g.note(id)); err == nil {
		t.Error("the note is left")
	}
}
