package treecopy

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func openDir(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// Fill adds what is missing, leaves what is there, and finishes what was cut off.
func TestFillLeavesWhatIsThere(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	if err := errors.Join(os.MkdirAll(from+"/a/b", 0o755), os.WriteFile(from+"/a/f", []byte("image"), 0o640), os.WriteFile(from+"/a/g", []byte("image"), 0o640),
		os.Symlink("x", from+"/l"), os.Mkdir(to+"/a", 0o700), os.WriteFile(to+"/a/f", []byte("own"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := CopyFiles(t.Context(), openDir(t, from), openDir(t, to), Options{Fill: true}); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]string{"/a/f": "own", "/a/g": "image"} {
			if b, err := os.ReadFile(to + path); err != nil || string(b) != want {
				t.Errorf("%s: %q, %v", path, b, err)
			}
		}
		if link, err := os.Readlink(to + "/l"); err != nil || link != "x" {
			t.Errorf("%q, %v", link, err)
		}
		if list, err := os.ReadDir(to + "/a"); err != nil || len(list) != 3 {
			t.Errorf("%v, %v", list, err)
		}
		if err := os.Remove(to + "/a/g"); err != nil {
			t.Fatal(err)
		}
	}
}

// Fill keeps a file with several names one file.
func TestFillKeepsHardLinks(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	if err := errors.Join(os.WriteFile(from+"/a", []byte("image"), 0o644), os.Mkdir(from+"/d", 0o755), os.Link(from+"/a", from+"/d/b"), os.Link(from+"/a", from+"/c"),
		os.WriteFile(to+"/c", []byte("own"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := CopyFiles(t.Context(), openDir(t, from), openDir(t, to), Options{Fill: true}); err != nil {
			t.Fatal(err)
		}
		a, err := os.Stat(to + "/a")
		b, err2 := os.Stat(to + "/d/b")
		c, err3 := os.ReadFile(to + "/c")
		if err := errors.Join(err, err2, err3); err != nil || !os.SameFile(a, b) || string(c) != "own" {
			t.Errorf("%v %v %q %v", a, b, c, err)
		}
	}
}

func TestCopyFile(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(dir + "/f")
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("end"), 1<<20) // behind a hole
	if err := errors.Join(err, f.Chmod(0o604), f.Close(), CopyFile(dir+"/f", dir+"/g")); err != nil {
		t.Fatal(err)
	}
	a, err := os.ReadFile(dir + "/f")
	b, err2 := os.ReadFile(dir + "/g")
	info, err3 := os.Stat(dir + "/g")
	if err := errors.Join(err, err2, err3); err != nil || string(a) != string(b) || info.Mode() != 0o604 {
		t.Errorf("%d and %d bytes, %v, %v", len(a), len(b), info.Mode(), err)
	}
	if err := CopyFile(dir+"/f", dir+"/g"); !errors.Is(err, os.ErrExist) {
		t.Error(err)
	}
}

func TestPieceByHand(t *testing.T) {
	dir := t.TempDir()
	text := make([]byte, 3<<20)
	for i := range text {
		text[i] = byte(i >> 7)
	}
	if err := os.WriteFile(dir+"/f", text, 0o600); err != nil {
		t.Fatal(err)
	}
	from := openDir(t, dir+"/f")
	to, err := os.Create(dir + "/g")
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if err := pieceByHand(int(from.Fd()), int(to.Fd()), 100, int64(len(text))); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(dir + "/g"); err != nil || string(b[100:]) != string(text[100:]) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// Who shares the directory that is filled cannot have the copy of a pipe lead the change
// of its mode to a file elsewhere.
func TestFillFollowsNoLinkInPlaceOfACopy(t *testing.T) {
	from, to, outside := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "secret")
	if err := errors.Join(syscall.Mkfifo(from+"/pipe", 0o600), os.Chmod(from+"/pipe", 0o666), os.WriteFile(outside, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	swapped := false
	replace := func(uid, gid int) (int, int) {
		copies, err := filepath.Glob(to + "/" + fillName + "*")
		for _, path := range copies {
			err = errors.Join(err, os.Remove(path), os.Symlink(outside, path))
			swapped = true
		}
		if err != nil {
			t.Error(err)
		}
		return uid, gid
	}
	CopyFiles(t.Context(), openDir(t, from), openDir(t, to), Options{Fill: true, Owner: replace}) // whether it says so does not matter
	if !swapped {
		t.Fatal("the copy was not there to be replaced")
	}
	if info, err := os.Stat(outside); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
