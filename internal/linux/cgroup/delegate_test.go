package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fakeTree makes directories as a tree of the kernel's would have them.
func fakeTree(t *testing.T, files ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, f := range files {
		p := filepath.Join(root, f)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestDelegateOnVersion2(t *testing.T) {
	root := fakeTree(t, "tare/x/cgroup.controllers", "tare/x/cgroup.subtree_control")
	tree := &v2{root: root, flags: unix.O_CREAT | unix.O_APPEND}
	if err := os.WriteFile(root+"/tare/x/cgroup.controllers", []byte("memory pids"), 0o644); err != nil {
		t.Fatal(err)
	}
	g := &Group{path: "tare/x", tree: tree, dirs: tree.layouts("tare/x")}
	if got := g.JoinPaths(); !slices.Equal(got, []string{root + "/tare/x/cgroup.procs"}) {
		t.Errorf("before: %q", got)
	}
	if err := g.Delegate(os.Getuid(), os.Getgid()); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(root + "/tare/x/cgroup.subtree_control"); string(b) != "+memory+pids" {
		t.Errorf("handed down: %q", b)
	}
	check := func(g *Group) {
		t.Helper()
		if got := g.InitPath(); got != "tare/x/payload" {
			t.Errorf("init is in %s", got)
		}
		if got := append(g.ProcsPaths(), g.JoinPaths()...); !slices.Equal(got, []string{root + "/tare/x/payload/cgroup.procs", root + "/tare/x/joining/cgroup.procs"}) {
			t.Errorf("%q", got)
		}
		if f := g.FD(); f == nil || !strings.HasSuffix(f.Name(), "/payload") {
			t.Errorf("a child is born in %v", f)
		}
		g.Close()
		f := g.OpenToJoin()
		if f == nil || !strings.HasSuffix(f.Name(), "/joining") {
			t.Errorf("one that joins is born in %v", f)
		}
		f.Close()
	}
	check(g)
	if err := os.WriteFile(root+"/tare/x/payload/cgroup.procs", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := open(tree, "tare/x")
	if err != nil {
		t.Fatal(err)
	}
	check(again)
}

func TestDelegateOnVersion1(t *testing.T) {
	tree := &v1{trees: []dir{{fakeTree(t, "tare/x/cgroup.procs"), []string{"memory"}}}}
	group := func() *Group { return &Group{path: "tare/x", tree: tree, dirs: tree.layouts("tare/x")} }
	if err := group().Delegate(os.Getuid(), os.Getgid()); !errors.Is(err, errNoNamedTree) {
		t.Errorf("without the tree: %v", err)
	}
	tree.named = t.TempDir()
	g := group()
	for range 2 {
		if err := g.Delegate(os.Getuid(), os.Getgid()); err != nil {
			t.Fatal(err)
		}
	}
	if got := g.ProcsPaths(); len(got) != 2 || got[1] != tree.named+"/tare/x/tasks" {
		t.Errorf("%q", got)
	}
	if err := os.WriteFile(tree.named+"/tare/x/cgroup.procs", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if g.FD() != nil || g.OpenToJoin() != nil {
		t.Error("a child is born in a group of version 1")
	}
	again, err := open(tree, "tare/x")
	if err != nil || len(again.dirs) != 2 {
		t.Errorf("opened again: %+v, %v", again, err)
	}
}
