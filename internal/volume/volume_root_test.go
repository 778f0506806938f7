//go:build root

package volume

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/idrange"
	"github.com/tare-engine/tare/internal/linux/mount"
)

// image makes a directory as an image may have one.
func image(t *testing.T) *os.File {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "at")
	if err := errors.Join(os.Mkdir(dir, 0o750), os.Chown(dir, 7, 8), os.Mkdir(dir+"/sub", 0o700), os.WriteFile(dir+"/sub/f", []byte("text"), 0o600),
		os.Chown(dir+"/sub/f", 1, 2), syscall.Chmod(dir+"/sub/f", 0o4711), os.Link(dir+"/sub/f", dir+"/g"), os.Symlink("/etc/passwd", dir+"/l"), os.Lchown(dir+"/l", 3, 4),
		syscall.Mkfifo(dir+"/p", 0o640), syscall.Setxattr(dir+"/sub/f", "user.a", []byte("b"), 0)); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// owner is whose a file is, and its mode.
func owner(t *testing.T, path string) (uid, gid, mode uint32) {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Uid, st.Gid, st.Mode & 0o7777
}

func TestFillGivesAnEmptyVolumeAllOfTheImage(t *testing.T) {
	s := open(t, t.TempDir(), newFake())
	for _, mounted := range []bool{false, true} { // by one rename, and in place
		name := "plain"
		if mounted {
			name = "mounted"
		}
		v := make1(t, s, Request{Name: name})
		if mounted {
			if err := mountFor(t, s, name, "c"); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Fill(t.Context(), name, image(t), nil); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string][3]uint32{"": {7, 8, 0o750}, "/sub": {0, 0, 0o700}, "/sub/f": {1, 2, 0o4711}, "/l": {3, 4, 0o777}, "/p": {0, 0, 0o640}} {
			if uid, gid, mode := owner(t, v.Mountpoint+path); [3]uint32{uid, gid, mode} != want {
				t.Errorf("%s%s: %d %d %o, want %v", name, path, uid, gid, mode, want)
			}
		}
		if b, err := os.ReadFile(v.Mountpoint + "/g"); err != nil || string(b) != "text" {
			t.Errorf("%q, %v", b, err)
		}
		value := make([]byte, 4)
		if n, err := syscall.Getxattr(v.Mountpoint+"/sub/f", "user.a", value); err != nil || string(value[:n]) != "b" {
			t.Errorf("%q, %v", value[:max(n, 0)], err)
		}
		if link, err := os.Readlink(v.Mountpoint + "/l"); err != nil || link != "/etc/passwd" {
			t.Errorf("%q, %v", link, err)
		}
		// What is not empty stays as it is.
		if err := errors.Join(os.RemoveAll(v.Mountpoint+"/sub"), s.Fill(t.Context(), name, image(t), nil)); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(v.Mountpoint + "/sub"); !os.IsNotExist(err) {
			t.Errorf("filled again: %v", err)
		}
	}
}

func TestFillWithIDsOfTheContainer(t *testing.T) {
	s := open(t, t.TempDir(), newFake())
	v := make1(t, s, Request{Name: "vv"})
	empty := make1(t, s, Request{Name: "empty"})
	maps := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	ids := &idrange.Map{UIDs: maps, GIDs: maps}
	if err := errors.Join(s.Fill(t.Context(), "vv", image(t), ids), s.Own("empty", ids)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][2]uint32{v.Mountpoint: {100007, 100008}, v.Mountpoint + "/sub/f": {100001, 100002}, v.Mountpoint + "/l": {100003, 100004}, empty.Mountpoint: {100000, 100000}} {
		if uid, gid, _ := owner(t, path); [2]uint32{uid, gid} != want {
			t.Errorf("%s: %d %d, want %v", path, uid, gid, want)
		}
	}
}

// A copy that was cut off is begun again.
func TestFillAfterACopyThatWasCutOff(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, newFake())
	v := make1(t, s, Request{Name: "vv"})
	if err := errors.Join(os.Mkdir(dir+"/vv/copy", 0o700), os.WriteFile(dir+"/vv/copy/half", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, newFake())
	if _, err := os.Stat(dir + "/vv/copy"); !os.IsNotExist(err) {
		t.Error(err)
	}
	if err := s.Fill(t.Context(), "vv", image(t), nil); err != nil {
		t.Fatal(err)
	}
	if list, err := os.ReadDir(v.Mountpoint); err != nil || len(list) != 4 {
		t.Errorf("%v, %v", list, err)
	}
}

// What somebody has mounted in a volume is not deleted with it.
func TestRemoveDoesNotReachWhatIsMountedInside(t *testing.T) {
	dir := t.TempDir() // of which the kernel knows another path
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	s := open(t, link, newFake())
	v := make1(t, s, Request{Name: "vv"})
	precious, inside := t.TempDir(), v.Mountpoint+"/inside"
	if err := errors.Join(os.WriteFile(precious+"/f", nil, 0o600), os.Mkdir(inside, 0o700), mount.Classic(precious, inside, "", "bind")); err != nil {
		t.Fatal(err)
	}
	defer mount.Detach(inside)
	err := s.Remove("vv")
	if !errdefs.Is(err, errdefs.Conflict) || !strings.Contains(err.Error(), "something is mounted at "+dir+"/vv/_data/inside") {
		t.Error(err)
	}
	if err := mount.Unmount(inside); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("vv"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(precious + "/f"); err != nil {
		t.Error(err)
	}
}

func TestUnmountAll(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, newFake())
	make1(t, s, Request{Name: "plain"})
	for _, name := range []string{"aa", "bb"} {
		if err := mount.Classic("tmpfs", make1(t, s, Request{Name: name}).Mountpoint, "tmpfs", ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(UnmountAll(dir), UnmountAll(dir), UnmountAll(dir+"/none")); err != nil {
		t.Error(err)
	}
	if left, err := mount.Below(dir); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestExportAndImport(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, newFake())
	make1(t, s, Request{Name: "from"})
	if err := s.Fill(t.Context(), "from", image(t), nil); err != nil {
		t.Fatal(err)
	}
	const likeWhiteout = ".wh.x" // no layer can have it, a volume can
	if err := os.WriteFile(filepath.Join(s.Path("from"), likeWhiteout), []byte("x"), 0600); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := s.Export(t.Context(), "from", &archive); err != nil {
		t.Fatal(err)
	}
	if err := s.Export(t.Context(), "none", io.Discard); !errdefs.Is(err, errdefs.NotFound) {
		t.Error(err)
	}
	for _, name := range []string{"new", "empty"} {
		if name == "empty" {
			make1(t, s, Request{Name: name})
		}
		v, err := s.Import(t.Context(), name, bytes.NewReader(archive.Bytes()), false)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(v.Mountpoint, likeWhiteout)); err != nil || string(b) != "x" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		for path, want := range map[string][3]uint32{"": {7, 8, 0o750}, "/sub/f": {1, 2, 0o4711}, "/l": {3, 4, 0o777}} {
			if uid, gid, mode := owner(t, v.Mountpoint+path); [3]uint32{uid, gid, mode} != want {
				t.Errorf("%s%s: %d %d %o, want %v", name, path, uid, gid, mode, want)
			}
		}
	}
	before := withFile(t, s, "full", "text")
	_, err := s.Import(t.Context(), "full", bytes.NewReader(archive.Bytes()), false)
	refused(t, err, errdefs.Conflict, "volume full is not empty")
	for _, bad := range []string{"garbage", string(archive.Bytes()[:2000])} {
		_, err = s.Import(t.Context(), "full", strings.NewReader(bad), true)
		refused(t, err, errdefs.InvalidArgument, "import: ")
		_, err = s.Import(t.Context(), "other", strings.NewReader(bad), true)
		refused(t, err, errdefs.InvalidArgument, "import: ")
	}
	if got := fileOf(t, s, "full"); got != "text" {
		t.Errorf("after a bad import: %q", got)
	}
	if _, err := s.Import(t.Context(), "full", bytes.NewReader(archive.Bytes()), true); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(before.Mountpoint + "/g"); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(before.Mountpoint + "/f"); !os.IsNotExist(err) {
		t.Error(err)
	}
	if err := mountFor(t, s, "full", "c1"); err != nil {
		t.Fatal(err)
	}
	_, err = s.Import(t.Context(), "full", bytes.NewReader(archive.Bytes()), true)
	refused(t, err, errdefs.Conflict, "in use by what runs")
	if got := names(s); got != "empty from full new" {
		t.Error(got)
	}
	if list, err := filepath.Glob(dir + "/.*"); err != nil || len(list) != 0 {
		t.Errorf("left: %v, %v", list, err)
	}
}

// TestImportStaysInside: the archive's links are not followed, and its names begin at the
// volume's directory.
func TestImportStaysInside(t *testing.T) {
	s := open(t, t.TempDir(), newFake())
	canary := t.TempDir()
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name} }
	for name, entries := range map[string][]tar.Header{
		"link":     {{Typeflag: tar.TypeSymlink, Name: "out", Linkname: canary}, file("out/f")},
		"dotdot":   {file("../../../../../../.." + canary + "/f")},
		"absolute": {file(canary + "/f")},
	} {
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		for _, h := range entries {
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := s.Import(t.Context(), name, &archive, false)
		if name == "link" {
			refused(t, err, errdefs.InvalidArgument, `import: entry "out/f": not a directory`)
		} else if _, there := os.Stat(s.Path(name) + canary + "/f"); err != nil || there != nil {
			t.Errorf("%s: %v, %v", name, err, there)
		}
		if list, err := os.ReadDir(canary); err != nil || len(list) != 0 {
			t.Errorf("%s: outside: %v, %v", name, list, err)
		}
	}
}
