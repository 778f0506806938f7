//go:build root

package volume

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/swap"
)

// TestCopiesOfAVolumeStayInside: what lies in a volume leads neither out of it nor to
// another one, to read or to write.
func TestCopiesOfAVolumeStayInside(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, newFake())
	v, other := make1(t, s, Request{Name: "vv"}), make1(t, s, Request{Name: "other"})
	write(t, other, "another's")
	for name, to := range map[string]string{"abs": other.Mountpoint, "rel": "../../other/_data", "self": "/proc/self/root" + other.Mountpoint, "cwd": "/proc/self/cwd"} {
		if err := os.Symlink(to, filepath.Join(v.Mountpoint, name)); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err := s.Pack(t.Context(), "vv", "/"+name+"/f", func(container.PathStat) (io.Writer, error) { return &out, nil })
		if !errdefs.Is(err, errdefs.NotFound) || out.Len() > 0 {
			t.Errorf("%s: %d bytes, %v", name, out.Len(), err)
		}
		if err := s.Unpack(t.Context(), "vv", "/"+name, bytes.NewReader(archiveOf(t, "f")), true); !errdefs.Is(err, errdefs.NotFound) {
			t.Errorf("%s: %v", name, err)
		}
		if err := s.Unpack(t.Context(), "vv", "/", bytes.NewReader(archiveOf(t, name+"/f")), false); err == nil {
			t.Errorf("%s was followed", name)
		}
	}
	if got := fileOf(t, s, "other"); got != "another's" {
		t.Errorf("the other volume has %q", got)
	}
}

// TestCopiesOfAVolumeThatChanges: a container exchanges a directory for a link to another
// volume while files are copied: nothing of that one is read or changed.
func TestCopiesOfAVolumeThatChanges(t *testing.T) {
	s := open(t, t.TempDir(), newFake())
	v, other := make1(t, s, Request{Name: "vv"}), make1(t, s, Request{Name: "other"})
	write(t, other, "another's")
	a, link := filepath.Join(v.Mountpoint, "a"), filepath.Join(v.Mountpoint, "link")
	if err := errors.Join(os.Mkdir(a, 0o755), os.WriteFile(a+"/f", []byte("own"), 0o600), os.Symlink(other.Mountpoint, link)); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var swapper sync.WaitGroup
	swapper.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				_ = swap.Paths(a, link)
			}
		}
	})
	defer swapper.Wait()
	defer close(done)
	through := 0
	for range 60 {
		var out bytes.Buffer
		if s.Pack(t.Context(), "vv", "/a/f", func(container.PathStat) (io.Writer, error) { return &out, nil }) == nil {
			through++
		}
		if bytes.Contains(out.Bytes(), []byte("another's")) {
			t.Fatal("a file of another volume was given away")
		}
		if s.Unpack(t.Context(), "vv", "/a", bytes.NewReader(archiveOf(t, "f")), true) == nil {
			through++
		}
	}
	if got := fileOf(t, s, "other"); got != "another's" || through == 0 {
		t.Errorf("the other volume has %q; %d copies went through", got, through)
	}
}

// archiveOf makes an archive of one file.
func archiveOf(t *testing.T, name string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600, Size: 4})
	_, err2 := w.Write([]byte("text"))
	if err := errors.Join(err, err2, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestACopyHasTheVolume: it is in use while a copy is under way, and mounted for it.
func TestACopyHasTheVolume(t *testing.T) {
	f := newFake()
	s := open(t, t.TempDir(), f)
	v := make1(t, s, Request{Name: "vv", Options: map[string]string{"mounts": "1"}})
	err := s.Pack(t.Context(), "vv", "/.", func(container.PathStat) (io.Writer, error) {
		if f.mounted[v.Mountpoint] != 1 {
			t.Error("it is not mounted")
		}
		if err := s.Remove("vv"); !errdefs.Is(err, errdefs.Conflict) {
			t.Errorf("removed: %v", err)
		}
		return io.Discard, nil
	})
	if err != nil || f.mounted[v.Mountpoint] != 0 {
		t.Errorf("%v, mounted %d times", err, f.mounted[v.Mountpoint])
	}
	if err := s.Remove("vv"); err != nil {
		t.Error(err)
	}
	if _, err := s.Stat(t.Context(), "vv", "/"); !errdefs.Is(err, errdefs.NotFound) {
		t.Error(err)
	}
}
