//go:build root

package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/event"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/cgroup"
	"github.com/tare-engine/tare/internal/store"
)

// TestRootGroupsInUsersParentsAreFound has an engine that was killed in the
// middle of a start, and one that did not remove what a run had left.
func TestRootGroupsInUsersParentsAreFound(t *testing.T) {
	exec := t.TempDir()
	if err := os.Mkdir(filepath.Join(exec, "containers"), 0700); err != nil {
		t.Fatal(err)
	}
	s := New(Config{DataRoot: t.TempDir(), ExecRoot: exec, Cgroup: "tare-nobody"}, nil, nil, nil, event.NewLog(), store.New(), nil)
	parent := fmt.Sprintf("user%d", os.Getpid())
	t.Cleanup(func() {
		if err := cgroup.Parent(parent).Remove(); err != nil {
			t.Error(err)
		}
	})
	dead, up := testContainer(t, s.index, ident.New(), "dead"), testContainer(t, s.index, ident.New(), "up")
	up.publish(func(v *View) { v.Status = Running })
	paths := map[*Container]string{}
	for _, c := range []*Container{dead, up} {
		c.View().HostConfig.CgroupParent = parent
		g, err := s.groups.make(c.View().Record, &specs.LinuxResources{})
		if err != nil {
			t.Fatal(err)
		}
		paths[c] = g.Path()
	}
	if _, err := s.groups.make(dead.View().Record, &specs.LinuxResources{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made twice: %v", err)
	}
	if err := s.newBoot().removeStrayGroups(); err != nil {
		t.Fatal(err)
	}
	if _, err := cgroup.Open(paths[dead]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the group of a dead container stays: %v", err)
	}
	g, err := cgroup.Open(paths[up])
	if err != nil {
		t.Fatal(err)
	}
	if err := s.groups.remove(up.ID, g); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Join(exec, "containers")); len(left) != 0 {
		t.Errorf("notes are left: %v", left)
	}
}
