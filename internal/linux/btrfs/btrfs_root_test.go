//go:build root

package btrfs

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tare-engine/tare/internal/layer/layertest"
	"github.com/tare-engine/tare/internal/linux/syncfs"
)

func TestMain(m *testing.M) { layertest.Main(m) }

// volume mounts a btrfs of its own.
func volume(t *testing.T) string {
	t.Helper()
	dir, err := layertest.FileSystem{Kind: "btrfs", Size: "256M"}.TryMount(t)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestSubvolumes(t *testing.T) {
	dir := volume(t)
	a, b := dir+"/a", dir+"/b"
	must(t, Create(a), os.WriteFile(a+"/f", []byte("1"), 0o600), Snapshot(a, b), os.WriteFile(b+"/f", []byte("2"), 0o600))
	if got, err := os.ReadFile(a + "/f"); string(got) != "1" {
		t.Errorf("the original has %q, %v", got, err)
	}
	for path, want := range map[string]bool{a: true, b: true, a + "/f": false, dir: true, "/proc": false} {
		if got, err := IsSubvolume(path); got != want || err != nil {
			t.Errorf("%s: %v, %v", path, got, err)
		}
	}
	if err := Create(a); !errors.Is(err, unix.EEXIST) {
		t.Errorf("twice: %v", err)
	}
	if err := Snapshot(a+"/none", b+"/x"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("snapshot of nothing: %v", err)
	}
}

// TestDeleteNested: also what is open, and subvolumes deep in others.
func TestDeleteNested(t *testing.T) {
	dir := volume(t)
	must(t, Create(dir+"/a"), os.MkdirAll(dir+"/a/x/y", 0o700), Create(dir+"/a/x/y/b"), Create(dir+"/a/x/y/b/c"), Snapshot(dir+"/a", dir+"/a/d"))
	for i := range 200 { // more than one answer of the kernel holds
		must(t, Create(filepath.Join(dir, "a", "x", "n"+string(rune('a'+i/26))+string(rune('a'+i%26)))))
	}
	f, err := os.Create(dir + "/a/x/y/b/c/open")
	must(t, err)
	defer f.Close()
	must(t, Delete(dir+"/a"))
	if _, err := os.Lstat(dir + "/a"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a: %v", err)
	}
	if ids, err := children(mustOpen(t, dir), 5); len(ids) > 0 || err != nil {
		t.Errorf("left %v, %v", ids, err)
	}
	if err := Delete(dir + "/a"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("again: %v", err)
	}
}

func mustOpen(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.Open(dir)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// awaitCounts waits until what was there before the quota groups is counted.
func awaitCounts(path string) error {
	return at(path, "wait for quota of", func(f *os.File) error {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), 0x942e, 0) // BTRFS_IOC_QUOTA_RESCAN_WAIT
		if e != 0 {
			return e
		}
		return nil
	})
}

func TestQuota(t *testing.T) {
	dir := volume(t)
	must(t, Create(dir+"/a"), os.WriteFile(dir+"/a/f", make([]byte, 1<<20), 0o600))
	if err := Limit(dir+"/a", 1<<20); !errors.Is(err, ErrNoQuota) {
		t.Errorf("limit without quota: %v", err)
	}
	if _, err := Used(dir + "/a"); !errors.Is(err, ErrNoQuota) {
		t.Errorf("used without quota: %v", err)
	}
	if counts, err := Counts(dir); counts || err != nil {
		t.Errorf("counts without quota: %v, %v", counts, err)
	}
	must(t, EnableQuota(dir), EnableQuota(dir), awaitCounts(dir), Snapshot(dir+"/a", dir+"/b"), Limit(dir+"/b", 8<<20))
	if counts, err := Counts(dir); !counts || err != nil {
		t.Errorf("counts: %v, %v", counts, err)
	}
	err := os.WriteFile(dir+"/b/big", make([]byte, 16<<20), 0o600)
	if !errors.Is(err, unix.EDQUOT) {
		t.Errorf("16 MB into 8: %v", err)
	}
	must(t, os.Remove(dir+"/b/big"), os.WriteFile(dir+"/b/small", make([]byte, 4<<20), 0o600), syncfs.All(dir))
	if u, err := Used(dir + "/b"); err != nil || u.Exclusive < 4<<20 || u.Exclusive > 5<<20 {
		t.Errorf("used: %+v, %v", u, err)
	}
	must(t, Delete(dir+"/b"))

	// Of many files the tree has several levels.
	for i := range 2000 {
		must(t, os.WriteFile(filepath.Join(dir, "a", strconv.Itoa(i)), []byte("x"), 0o600))
	}
	must(t, syncfs.All(dir), Snapshot(dir+"/a", dir+"/c"), os.Chmod(dir+"/c", 0o711), syncfs.All(dir))
	if u, err := Used(dir + "/c"); err != nil || u.Exclusive != 0 || u.Referenced < 1<<20 {
		t.Errorf("a new snapshot: %+v, %v", u, err)
	}

	// Those in it count too, also at once.
	nested, err := Nested(dir + "/c")
	must(t, err, Create(dir+"/c/in"), os.WriteFile(dir+"/c/in/f", make([]byte, 1<<20), 0o600), syncfs.All(dir))
	if u, err := Used(dir + "/c"); err != nil || u.Exclusive < 1<<20 || nested {
		t.Errorf("with one in it: %+v, %v, %v", u, err, nested)
	}
	if nested, err := Nested(dir + "/c"); !nested || err != nil {
		t.Errorf("%v, %v", nested, err)
	}
}
