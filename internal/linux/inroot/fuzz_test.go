package inroot

import (
	"os"
	"path"
	"strings"
	"testing"
)

// FuzzResolve makes paths in a root whose links have fuzzed targets: nothing
// may appear outside, and what comes out is a clean path that leads to the
// same file again without any link.
//
// Each input makes and removes a tree of directories. If it seems to stand still
// for a minute, counting nothing, go test is minimizing an input that found new
// code: -fuzzminimizetime bounds that (make soak does).
func FuzzResolve(f *testing.F) {
	for _, s := range [][3]string{
		{"/a/b", "/etc", "../x"}, {"/l1/x", "/l2", "/l1"}, {"l1/../l2/y", "../../..", "/"}, {"//./l1//", "l2/..", "l1"},
		{"/l1/l2/z", "/new/dir", "../l1/q"}, {"/..", "", "."}, {"/l1", "/proc/self/fd/3", "/dev/null"},
	} {
		f.Add(s[0], s[1], s[2])
	}
	f.Fuzz(func(t *testing.T, name, to1, to2 string) {
		root, dir, _ := tree(t) // its clean-up looks at the canary
		for link, to := range map[string]string{"/l1": to1, "/l2": to2} {
			// A target that no link can have (empty, a zero byte, too long) leaves
			// the place free: then l1 and l2 are made or are missing.
			if err := os.Symlink(to, dir+link); err != nil && to != "" && len(to) < 4096 && !strings.Contains(to, "\x00") {
				t.Fatal(err)
			}
		}
		got, err := Resolve(root, name, Options{Make: Dir})
		if strings.Contains(name, "\x00") && err == nil {
			t.Fatalf("%q was resolved", name)
		}
		if err != nil {
			return
		}
		defer got.File.Close()
		if path.Clean(got.Path) != got.Path || !strings.HasPrefix(got.Path, "/") {
			t.Fatalf("%q is not clean", got.Path)
		}
		again, err := OpenExact(root, got.Path, OPath)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		a, err := got.File.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if b, err := again.Stat(); err != nil || !os.SameFile(a, b) {
			t.Fatalf("%q leads to another file: %v", got.Path, err)
		}
	})
}
