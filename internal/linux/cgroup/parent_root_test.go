//go:build root

package cgroup

import (
	"fmt"
	"os"
	"path"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// foreign is a parent of a user's, made by hand as mkdir does: its cpuset has no
// processors on version 1.
func foreign(t *testing.T) string {
	t.Helper()
	tr, err := host()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("foreign%d", os.Getpid())
	dirs := tr.layout(name, nil, false)
	for _, d := range dirs {
		if err := os.Mkdir(d.path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, d := range dirs {
			for _, p := range []string{d.path + "/d", d.path} {
				if err := rmdir(p); err != nil {
					t.Error(err)
				}
			}
		}
	})
	return name
}

func TestRootGroupInAUsersParent(t *testing.T) {
	p := foreign(t)
	// A parent named as one with rules of its own hands none down.
	for _, name := range []string{p + "/x", p + "/d/x"} {
		g, err := Create(name, &specs.LinuxResources{Devices: DefaultDevices(), Pids: &specs.LinuxPids{Limit: ptr(int64(77))}})
		if err != nil {
			t.Fatal(err)
		}
		cmd, out := inside(t, g, "head -c1 /dev/kmsg >/dev/null 2>&1 && echo open || echo closed; head -c1 /dev/zero | wc -c")
		first, _ := out.ReadString('\n')
		second, _ := out.ReadString('\n')
		if err := cmd.Wait(); err != nil || second != "1\n" {
			t.Errorf("%s: %v, %q", name, err, second)
		}
		if _, v1 := g.tree.(*v1); v1 && first != "closed\n" {
			t.Errorf("%s: a device beyond the rules is %s", name, first)
		}
		if s, err := g.Stats(); err != nil || s.Pids.Limit != 77 {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
		dirs := g.dirs
		if err := g.Remove(); err != nil {
			t.Error(err)
		}
		for _, d := range dirs {
			if _, err := os.Stat(path.Dir(d.path)); err != nil {
				t.Errorf("the parent is gone: %v", err)
			}
		}
	}
}
