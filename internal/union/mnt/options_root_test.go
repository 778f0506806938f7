//go:build root

package mnt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestCreatePolicies: three writable branches with 8, 64 and 32 MB.
func TestCreatePolicies(t *testing.T) {
	for _, c := range []struct {
		option, parents string // branches that have the directory
		want            string // branches that get the files, in this order
	}{
		{"tdp", "abc", "aaa"},
		{"tdp", "bc", "bbb"},
		{"rr", "abc", "abca"},
		{"rr", "b", "abca"},
		{"mfs", "a", "bb"},
		{"mfsrr:1000000", "a", "bb"},
		{"mfsrr:1000000000", "a", "abc"},
		{"tdmfs:1000000", "ac", "aa"},
		{"tdmfs:20000000", "ac", "bb"},
		{"pmfs", "ac", "cc"},
		{"pmfs:0", "ab", "bb"},
		{"pmfsrr:1000000", "ac", "cc"},
		{"pmfsrr:1000000000", "ac", "aca"},
	} {
		t.Run(c.option+" "+c.parents, func(t *testing.T) {
			dir := tempDir(t)
			for name, size := range map[string]string{"a": "8m", "b": "64m", "c": "32m"} {
				must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
				must(t, syscall.Mount("tmpfs", filepath.Join(dir, name), "tmpfs", 0, "size="+size))
				if strings.Contains(c.parents, name) {
					must(t, os.Mkdir(filepath.Join(dir, name, "d"), 0o755))
				}
			}
			r := mountUnion(t, dir, "a=rw:b=rw:c=rw", "udba=none,create="+c.option)
			got := ""
			for i := range c.want {
				name := fmt.Sprint("d/f", i)
				must(t, os.WriteFile(r.path(name), []byte("x"), 0o644))
				for _, b := range []string{"a", "b", "c"} {
					if _, err := os.Lstat(filepath.Join(dir, b, name)); err == nil {
						got += b
					}
				}
			}
			if got != c.want {
				t.Errorf("files went to %q, want %q", got, c.want)
			}
		})
	}
}

func TestCopyUpPolicies(t *testing.T) {
	for _, c := range []struct{ option, parents, want string }{
		{"tdp", "ab", "a"}, {"tdp", "b", "b"}, {"tdp", "", "b"},
		{"bup", "ab", "b"}, {"bup", "a", "a"}, {"bup", "", "b"},
		{"bu", "a", "b"}, {"bu", "ab", "b"},
	} {
		t.Run(c.option+" "+c.parents, func(t *testing.T) {
			dir := tempDir(t)
			for _, b := range c.parents {
				must(t, os.MkdirAll(filepath.Join(dir, string(b), "d"), 0o755))
			}
			r := &rig{t: t, dir: dir}
			r.write("base/d/f", "old")
			r.write("base/d/g", "old")
			r = mountUnion(t, dir, "a=rw:b=rw:base=ro", "udba=none,cpup="+c.option)
			must(t, os.WriteFile(r.path("d/f"), []byte("new"), 0))
			r.want(c.want+"/d/f", "new")
			must(t, os.Remove(r.path("d/g")))
			r.want(c.want+"/d/.wh.g", "")
			r.want("base/d/f", "old")
		})
	}
}

// TestCopyOnOpen: a file, or a directory too, is copied up when it is read.
func TestCopyOnOpen(t *testing.T) {
	for option, want := range map[string][2]bool{"none": {false, false}, "leaf": {true, false}, "all": {true, true}} {
		dir := tempDir(t)
		r := &rig{t: t, dir: dir}
		r.write("base/f", "f")
		r.write("base/d/g", "g")
		r = mountUnion(t, dir, "rw=rw:base=ro", "coo="+option)
		r.want("mnt/f", "f")
		if _, err := os.ReadDir(r.path("d")); err != nil {
			t.Error(err)
		}
		for i, name := range []string{"f", "d"} {
			if _, err := os.Lstat(filepath.Join(dir, "rw", name)); (err == nil) != want[i] {
				t.Errorf("coo=%s: %s: %v", option, name, err)
			}
		}
	}
}

func TestOpaqueAlways(t *testing.T) {
	dir := tempDir(t)
	r := mountUnion(t, dir, "rw=rw:base=ro", "diropq=a")
	must(t, os.Mkdir(r.path("d"), 0o755))
	r.want("rw/d/.wh..wh..opq", "")
	must(t, os.Mkdir(filepath.Join(dir, "base/d"), 0o755))
	r.write("base/d/f", "f")
	r.wantGone("mnt/d/f")
}

// TestChangesBehindTheUnion are seen at the next lookup with udba=reval.
func TestChangesBehindTheUnion(t *testing.T) {
	dir := tempDir(t)
	r := &rig{t: t, dir: dir}
	r.write("base/f", "one")
	r.write("base/d/x", "x")
	r = mountUnion(t, dir, "rw=rw:base=ro", "udba=reval")
	r.want("mnt/f", "one")
	r.wantGone("mnt/g")
	r.write("base/new", "two") // another file of the same name
	must(t, os.Rename(filepath.Join(dir, "base/new"), filepath.Join(dir, "base/f")))
	r.write("base/g", "g")
	r.write("rw/d/y", "y")
	r.want("mnt/f", "two")
	r.want("mnt/g", "g")
	r.want("mnt/d/y", "y")
	r.want("mnt/d/x", "x")
	must(t, os.Remove(filepath.Join(dir, "base/g")))
	r.wantGone("mnt/g")
	r.write("rw/.wh.f", "")
	r.wantGone("mnt/f")
	must(t, os.RemoveAll(filepath.Join(dir, "base/d")))
	r.wantGone("mnt/d/x")
	r.want("mnt/d/y", "y")
}

// TestShownWhiteouts: with shwh they are names like others, in a union that is
// read-only.
func TestShownWhiteouts(t *testing.T) {
	dir := tempDir(t)
	r := &rig{t: t, dir: dir}
	r.write("a/.wh.f", "")
	r.write("a/d/.wh..wh..opq", "")
	r.write("base/f", "f")
	r.write("base/d/x", "x")
	r.write("b/.wh.g", "")
	r = mountUnion(t, dir, "a=ro+wh:b=ro:base=ro", "shwh,ro")
	var names []string
	list, err := os.ReadDir(r.mnt)
	must(t, err)
	for _, e := range list {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != ".wh.f d" {
		t.Errorf("listed: %s", got)
	}
	r.want("mnt/.wh.f", "")
	r.wantGone("mnt/.wh.g") // its branch is not whiteout-able
	r.wantGone("mnt/f")
	r.wantGone("mnt/d/x")
	if err := os.WriteFile(r.path("new"), nil, 0o644); !errors.Is(err, syscall.EROFS) {
		t.Errorf("%v", err)
	}
}

// TestSum: the space is that of all branches, each file system once.
func TestSum(t *testing.T) {
	dir := tempDir(t)
	for name, size := range map[string]string{"a": "8m", "b": "64m"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
		must(t, syscall.Mount("tmpfs", filepath.Join(dir, name), "tmpfs", 0, "size="+size))
	}
	must(t, os.Mkdir(filepath.Join(dir, "b/inner"), 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "b/other"), 0o755))
	for options, want := range map[string]uint64{"sum": 72 << 20, "nosum": 8 << 20} {
		r := mountUnion(t, dir, "a=rw:b/inner=rw:b/other=ro", options)
		var st syscall.Statfs_t
		must(t, syscall.Statfs(r.mnt, &st))
		if got := st.Blocks * uint64(st.Bsize); got != want {
			t.Errorf("%s: %d bytes, want %d", options, got, want)
		}
		r.unmount()
	}
}

// TestManyBranches: a union of 400, and of as many as there can be.
func TestManyBranches(t *testing.T) {
	for _, n := range []int{400, 1023} {
		dir := tempDir(t)
		list := []string{"rw=rw"}
		for i := 1; i < n; i++ {
			name := fmt.Sprint("b", i)
			must(t, os.MkdirAll(filepath.Join(dir, name, "d"), 0o755))
			must(t, os.WriteFile(filepath.Join(dir, name, "d", name), nil, 0o644))
			list = append(list, name+"=ro")
		}
		r := mountUnion(t, dir, strings.Join(list, ":"), "udba=none")
		entries, err := os.ReadDir(r.path("d"))
		must(t, err)
		if len(entries) != n-1 {
			t.Errorf("%d branches: %d names", n, len(entries))
		}
		must(t, os.Remove(r.path(fmt.Sprint("d/b", n-1))))
		r.want(fmt.Sprint("rw/d/.wh.b", n-1), "")
		if got, err := r.Branches(); err != nil || len(got) != n {
			t.Errorf("%d branches (%v)", len(got), err)
		}
	}
}

// TestPlainUmount: umount(8) is as good as ours.
func TestPlainUmount(t *testing.T) {
	r := mountUnion(t, tempDir(t), "rw=rw", "udba=none")
	pid := r.server()
	must(t, syscall.Unmount(r.mnt, 0))
	until(t, "the socket goes", func() bool { _, err := os.Stat(socketPath(r.ID)); return os.IsNotExist(err) })
	until(t, "the server goes", func() bool {
		var ws syscall.WaitStatus
		got, _ := syscall.Wait4(pid, &ws, syscall.WNOHANG, nil)
		return got == pid && ws.ExitStatus() == 0
	})
}
