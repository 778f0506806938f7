//go:build root

package local_test

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/tare-engine/tare/internal/event"
	"github.com/tare-engine/tare/internal/layer/layertest"
	"github.com/tare-engine/tare/internal/linux/projquota"
	"github.com/tare-engine/tare/internal/linux/syncfs"
	"github.com/tare-engine/tare/internal/store"
	"github.com/tare-engine/tare/internal/volume"
	"github.com/tare-engine/tare/internal/volume/local"
)

func TestMain(m *testing.M) { layertest.Main(m) }

// The file system counts the files of volumes, however these came to have them, where it
// has project quota: their sizes are then the space that they take. A file with a hole
// tells that from a walk.
func TestSizesThatTheFileSystemCounts(t *testing.T) {
	for _, f := range []layertest.FileSystem{
		{Kind: "xfs", Mount: "pquota"},
		{Kind: "ext4", Make: []string{"-O", "project,quota"}, Mount: "prjquota"},
	} {
		t.Run(f.Kind, func(t *testing.T) { testCounted(t, f.MountQuota(t)) })
	}
}

func testCounted(t *testing.T, root string) {
	s := openIn(t, root+"/volumes")
	want := func(name string) {
		t.Helper()
		if err := syncfs.All(root); err != nil {
			t.Fatal(err)
		}
		v, err := s.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		if size, _, err := s.Size(t.Context(), v); err != nil || size < 1<<20 || size > 2<<20 {
			t.Errorf("volume %s has %d bytes, %v", name, size, err)
		}
	}
	v, _, err := s.Create(t.Context(), volume.Request{Name: "made"})
	if err != nil {
		t.Fatal(err)
	}
	if size, _, err := s.Size(t.Context(), v); err != nil || size != 0 {
		t.Errorf("an empty volume has %d bytes, %v", size, err)
	}
	write(t, v.Mountpoint)
	want("made")
	if _, err := s.Clone(t.Context(), "made", "cloned"); err != nil {
		t.Fatal(err)
	}
	want("cloned")
	from := t.TempDir()
	write(t, from)
	dir, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if _, _, err := s.Create(t.Context(), volume.Request{Name: "filled"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Fill(t.Context(), "filled", dir, nil); err != nil {
		t.Fatal(err)
	}
	want("filled")
	if _, err := s.TakeSnapshot(t.Context(), "made", "one"); err != nil {
		t.Fatal(err)
	}
	if err := s.Rollback(t.Context(), "made", "one"); err != nil {
		t.Fatal(err)
	}
	want("made")
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if w.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg, Mode: 0o600, Size: 1 << 20}) != nil {
		t.Fatal("no archive")
	}
	if _, err := w.Write(bytes.Repeat([]byte("x"), 1<<20)); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	if _, err := s.Import(t.Context(), "imported", &b, false); err != nil {
		t.Fatal(err)
	}
	want("imported")
}

// write makes a file of 1 MB that looks like 100 MB.
func write(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 100<<20); err != nil {
		t.Fatal(err)
	}
}

func openIn(t *testing.T, dir string) *volume.Service {
	t.Helper()
	s, err := volume.Open(volume.Config{Dir: dir, Store: store.New(), Events: event.NewLog(), Drivers: []volume.Driver{local.Driver{}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// A data root that somebody has put into a project stays in that one, with its limit.
func TestProjectsOfOthers(t *testing.T) {
	root := layertest.FileSystem{Kind: "ext4", Make: []string{"-O", "project,quota"}, Mount: "prjquota"}.MountQuota(t)
	theirs := filepath.Join(root, "theirs")
	if err := os.Mkdir(theirs, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := projquota.Begin(64<<20, theirs); err != nil {
		t.Fatal(err)
	}
	v, _, err := openIn(t, theirs+"/volumes").Create(t.Context(), volume.Request{Name: "vv"})
	if err != nil {
		t.Fatal(err)
	}
	before, _, err := projquota.Used(theirs)
	if err != nil {
		t.Fatal(err)
	}
	write(t, v.Mountpoint)
	if err := syncfs.All(root); err != nil {
		t.Fatal(err)
	}
	if after, _, err := projquota.Used(theirs); err != nil || after-before < 1<<20 {
		t.Errorf("their project counts %d, then %d: %v", before, after, err)
	}
}
