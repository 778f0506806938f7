//go:build root

package local_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/layer/layertest"
	"github.com/tare-engine/tare/internal/linux/btrfs"
	"github.com/tare-engine/tare/internal/linux/syncfs"
	"github.com/tare-engine/tare/internal/volume"
)

// onBtrfs mounts one; with quota it has quota groups.
func onBtrfs(t *testing.T, quota bool) string {
	t.Helper()
	root, err := layertest.FileSystem{Kind: "btrfs", Size: "512M"}.TryMount(t)
	if err != nil {
		t.Fatal(err)
	}
	if quota {
		must(t, btrfs.EnableQuota(root))
		awaitCounts(t, root)
	}
	return root
}

// awaitCounts waits until what was there before the quota groups is counted.
func awaitCounts(t *testing.T, root string) {
	t.Helper()
	for range 600 {
		_, err := btrfs.Used(root)
		if err == nil {
			return
		}
		if !errors.Is(err, btrfs.ErrNoQuota) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the file system does not finish counting")
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// make1 makes a volume, which is a subvolume.
func make1(t *testing.T, s *volume.Service, name string, options map[string]string) *volume.View {
	t.Helper()
	v, _, err := s.Create(t.Context(), volume.Request{Name: name, Options: options})
	must(t, err)
	wantSubvolume(t, v.Mountpoint)
	return v
}

func wantSubvolume(t *testing.T, path string) {
	t.Helper()
	if is, err := btrfs.IsSubvolume(path); err != nil || !is {
		t.Errorf("%s is no subvolume, %v", path, err)
	}
}

func wantFile(t *testing.T, path, content string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || string(b) != content {
		t.Errorf("%s has %q, %v", path, b, err)
	}
}

// wantNoneLeft checks that a file system has no subvolume any more.
func wantNoneLeft(t *testing.T, root string) {
	t.Helper()
	if nested, err := btrfs.Nested(root); err != nil || nested {
		t.Errorf("subvolumes are left, %v", err)
	}
}

// However a volume comes to have its files, they are in a subvolume; copies are made by
// the file system, and nothing is left of what is removed.
func TestVolumesAreSubvolumes(t *testing.T) {
	root := onBtrfs(t, false)
	s := openIn(t, root+"/volumes")
	v := make1(t, s, "vv", nil)
	f := v.Mountpoint + "/f"
	must(t, os.WriteFile(f, []byte("one"), 0o600), os.Chmod(v.Mountpoint, os.ModeSticky|0o777))
	_, err := s.TakeSnapshot(t.Context(), "vv", "first")
	must(t, err)
	wantSubvolume(t, root+"/volumes/vv/snapshots/first/_data")
	must(t, os.WriteFile(f, []byte("two"), 0o600))
	_, err = s.Clone(t.Context(), "vv", "clone")
	must(t, err, s.Rollback(t.Context(), "vv", "first"))
	wantFile(t, f, "one")
	wantSubvolume(t, v.Mountpoint)
	if info, err := os.Stat(v.Mountpoint); err != nil || info.Mode() != os.ModeDir|os.ModeSticky|0o777 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	wantSubvolume(t, root+"/volumes/clone/_data")
	_, err = s.Rename("clone", "other")
	must(t, err)
	wantFile(t, root+"/volumes/other/_data/f", "two")
	must(t, s.RemoveSnapshot("vv", "first"))

	from, err := os.Open(v.Mountpoint)
	must(t, err)
	defer from.Close()
	filled := make1(t, s, "filled", nil)
	must(t, s.Fill(t.Context(), "filled", from, nil))
	wantFile(t, filled.Mountpoint+"/f", "one")
	wantSubvolume(t, filled.Mountpoint)
	imported, err := s.Import(t.Context(), "imported", archiveOf(t, "three"), false)
	must(t, err)
	wantFile(t, imported.Mountpoint+"/f", "three")
	wantSubvolume(t, imported.Mountpoint)
	for _, name := range []string{"vv", "other", "filled", "imported"} {
		must(t, s.Remove(name))
	}
	wantNoneLeft(t, root)
}

func archiveOf(t *testing.T, content string) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(content))})
	_, err2 := w.Write([]byte(content))
	must(t, err, err2, w.Close())
	return &b
}

// Volumes that are directories, as earlier engines made them, are used and copied like
// others; a rollback makes a subvolume of one.
func TestPlainVolumesOnBtrfs(t *testing.T) {
	root := onBtrfs(t, false)
	s := openIn(t, root+"/volumes")
	v := make1(t, s, "vv", nil)
	must(t, btrfs.Delete(v.Mountpoint), os.Mkdir(v.Mountpoint, 0o755), os.WriteFile(v.Mountpoint+"/f", []byte("one"), 0o600))
	if size, _, err := s.Size(t.Context(), v); size != 3 || err != nil {
		t.Errorf("%d, %v", size, err)
	}
	_, err := s.TakeSnapshot(t.Context(), "vv", "first")
	must(t, err, os.WriteFile(v.Mountpoint+"/f", []byte("two"), 0o600))
	_, err = s.Clone(t.Context(), "vv", "clone")
	must(t, err)
	wantFile(t, root+"/volumes/clone/_data/f", "two")
	must(t, s.Rollback(t.Context(), "vv", "first"))
	wantFile(t, v.Mountpoint+"/f", "one")
	wantSubvolume(t, v.Mountpoint)
	must(t, s.Remove("vv"), s.Remove("clone"))
	wantNoneLeft(t, root)
}

// A volume with subvolumes in it, which anybody can make, is copied with their files, and
// removed with them also where they are read-only.
func TestSubvolumesInVolumes(t *testing.T) {
	root := onBtrfs(t, true)
	s := openIn(t, root+"/volumes")
	v := make1(t, s, "vv", nil)
	must(t, os.Mkdir(v.Mountpoint+"/d", 0o755), btrfs.Create(v.Mountpoint+"/d/in"), os.WriteFile(v.Mountpoint+"/d/in/f", bytes.Repeat([]byte("x"), 1<<20), 0o600))
	_, err := s.Clone(t.Context(), "vv", "clone")
	must(t, err)
	if b, err := os.ReadFile(root + "/volumes/clone/_data/d/in/f"); err != nil || len(b) != 1<<20 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	must(t, syncfs.All(root))
	if size, _, err := s.Size(t.Context(), v); err != nil || size < 1<<20 || size > 2<<20 {
		t.Errorf("%d, %v", size, err)
	}
	must(t, s.Remove("vv"), s.Remove("clone"))
	wantNoneLeft(t, root)
}

// What a kill leaves in each step, the next engine deletes, and the volume is whole.
func TestSubvolumesThatAKillLeaves(t *testing.T) {
	root := onBtrfs(t, false)
	s := openIn(t, root+"/volumes")
	v := make1(t, s, "vv", nil)
	must(t, os.WriteFile(v.Mountpoint+"/f", []byte("one"), 0o600))
	_, err := s.TakeSnapshot(t.Context(), "vv", "first")
	must(t, err)
	leave := func(parts ...string) {
		t.Helper()
		dir := filepath.Join(append([]string{root + "/volumes"}, parts...)...)
		must(t, os.MkdirAll(filepath.Dir(dir), 0o700), btrfs.Create(dir), os.WriteFile(dir+"/g", nil, 0o600))
	}
	leave(".new-a", "_data")                      // create, clone, import
	leave(".gone-b", "_data")                     // rm
	leave(".gone-b", "snapshots", "old", "_data") // rm with snapshots
	leave("vv", "snapshots", ".new-c", "_data")   // snapshot
	leave("vv", "snapshots", ".gone-d", "_data")  // snapshot rm
	leave("vv", "copy", "_data")                  // rollback
	s.Close()
	s = openIn(t, root+"/volumes")
	s.Close() // it has deleted what it found
	wantFile(t, v.Mountpoint+"/f", "one")
	leave("vv", "copy") // fill
	s = openIn(t, root+"/volumes")
	left, err := filepath.Glob(root + "/volumes/.*")
	inside, err2 := filepath.Glob(root + "/volumes/vv/*")
	snapshots, err3 := os.ReadDir(root + "/volumes/vv/snapshots")
	if must(t, err, err2, err3); len(left) > 0 || len(inside) != 3 || len(snapshots) != 1 {
		t.Errorf("%v, %v, %v", left, inside, snapshots)
	}
	must(t, s.Remove("vv"))
	wantNoneLeft(t, root)
}

// Quota groups, where they are on, tell sizes and keep limits.
func TestQuotaGroupsOfVolumes(t *testing.T) {
	root := onBtrfs(t, true)
	s := openIn(t, root+"/volumes")
	v := make1(t, s, "vv", map[string]string{"size": "8m"})
	if _, err := os.Lstat(root + "/volumes/vv/disk.img"); !errors.Is(err, os.ErrNotExist) || s.Mounts(v) {
		t.Errorf("the volume has a disk: %v", err)
	}
	size := func(want int64) {
		t.Helper()
		must(t, syncfs.All(root))
		if got, _, err := s.Size(t.Context(), v); err != nil || got < want<<20 || got > want<<20+1<<19 {
			t.Errorf("%d bytes for %d MB, %v", got, want, err)
		}
	}
	size(0)
	full := func() {
		t.Helper()
		err := os.WriteFile(v.Mountpoint+"/big", bytes.Repeat([]byte("x"), 16<<20), 0o600)
		if !errors.Is(err, syscall.EDQUOT) {
			t.Errorf("16 MB into 8: %v", err)
		}
		must(t, os.Remove(v.Mountpoint+"/big"), syncfs.All(root))
	}
	full()
	write(t, v.Mountpoint)
	size(1)
	_, err := s.TakeSnapshot(t.Context(), "vv", "first")
	must(t, err, os.Remove(v.Mountpoint+"/f"), os.WriteFile(v.Mountpoint+"/g", bytes.Repeat([]byte("x"), 2<<20), 0o600))
	_, err = s.TakeSnapshot(t.Context(), "vv", "second")
	must(t, err)
	size(2)
	snapshots, err := s.SnapshotsSize(v) // the second one shares all with the volume
	if err != nil || snapshots < 1<<20 || snapshots > 3<<19 {
		t.Errorf("snapshots have %d, %v", snapshots, err)
	}
	must(t, s.Rollback(t.Context(), "vv", "first"))
	size(1)
	full()
	_, err = s.Import(t.Context(), "vv", archiveOf(t, strings.Repeat("y", 2<<20)), true)
	must(t, err)
	size(2)
	full()
	if _, err = s.Import(t.Context(), "vv", archiveOf(t, strings.Repeat("y", 16<<20)), true); !errors.Is(err, syscall.EDQUOT) {
		t.Errorf("an import of 16 MB: %v", err)
	}
	clone, err := s.Clone(t.Context(), "vv", "clone")
	must(t, err)
	v = clone
	full()
	must(t, s.Remove("vv"), s.Remove("clone"))
	wantNoneLeft(t, root)
}

// Without quota groups a limit is that of a disk, which is copied as before.
func TestDisksOnBtrfs(t *testing.T) {
	root := onBtrfs(t, false)
	s := openIn(t, root+"/volumes")
	v := make1(t, s, "vv", map[string]string{"size": "8m"})
	_, err := s.Clone(t.Context(), "vv", "clone")
	must(t, err, btrfs.EnableQuota(root)) // too late for those
	for _, name := range []string{"vv", "clone"} {
		if _, err := os.Lstat(root + "/volumes/" + name + "/disk.img"); err != nil {
			t.Error(err)
		}
	}
	at, err := s.Mount(t.Context(), "clone", volume.Mounting{User: "c1"})
	must(t, err)
	if on, err := btrfs.On(at.Path); err != nil || on || !s.Mounts(v) {
		t.Errorf("%s is not a disk: %v", at.Path, err)
	}
	must(t, s.Unmount("clone", "c1"), s.Remove("vv"), s.Remove("clone"))
	wantNoneLeft(t, root)
}
