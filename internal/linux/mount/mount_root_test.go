//go:build root

package mount

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// private gives the test a mount namespace of its own. The thread is never
// unlocked, so it ends with the test and the namespace with it.
func private(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := SetPropagation("/", Private, true); err != nil {
		t.Fatal(err)
	}
}

func tmpfs(t *testing.T, a Attr) *os.File {
	t.Helper()
	fs, err := OpenFS("tmpfs")
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	if err := fs.SetString("mode", "0711"); err != nil {
		t.Fatal(err)
	}
	m, err := fs.Mount(a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func TestDetachedMountGoesToDescriptor(t *testing.T) {
	private(t)
	dir := t.TempDir()
	target, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	m := tmpfs(t, NoSuid)
	if err := Move(m, target); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/a", nil, 0600); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0711 {
		t.Fatalf("%v %v", st.Mode(), err)
	}
	if Legacy() { // attached by now
		err = unix.Mount("", dir, "", uintptr(RemountFlags(ReadOnly)), "")
	} else {
		err = SetAttr(m, Change{Set: ReadOnly})
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/b", nil, 0600); !strings.Contains(err.Error(), "read-only") {
		t.Fatal(err)
	}
	if err := Detach(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir + "/a"); !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if err := Detach(dir); err != nil {
		t.Fatal("not mounted:", err)
	}
}

func TestCloneTakesMountsBelow(t *testing.T) {
	private(t)
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/src/sub", 0755); err != nil {
		t.Fatal(err)
	}
	if err := MoveTo(tmpfs(t, 0), dir+"/src/sub"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/src/sub/f", nil, 0600); err != nil {
		t.Fatal(err)
	}
	for _, recursive := range []bool{false, true} {
		m, err := Clone(dir+"/src", recursive)
		if err != nil {
			t.Fatal(err)
		}
		_, err = os.Stat(filepath.Join("/proc/self/fd", strconv.Itoa(int(m.Fd())), "sub/f"))
		if (err == nil) != recursive {
			t.Errorf("recursive %v: %v", recursive, err)
		}
		m.Close()
	}
	if err := Detach(dir + "/src/sub"); err != nil {
		t.Fatal(err)
	}
}

func TestErrorsTellTheKernelsWords(t *testing.T) {
	private(t)
	fs, err := OpenFS("tmpfs")
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	err = fs.SetString("nonsense", "1")
	if err == nil || !strings.Contains(err.Error(), "Unknown parameter 'nonsense'") {
		t.Fatal(err)
	}
	if _, err := OpenFS("nosuchfs"); !Unsupported(err) {
		t.Fatal(err)
	}
}

// TestAttributesChangeOnOldKernels: on a directory, on a file, and on mounts
// below.
func TestAttributesChangeOnOldKernels(t *testing.T) {
	private(t)
	t.Setenv("TARE_PROBE", "5.10")
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/src/su b", 0755); err != nil {
		t.Fatal(err)
	}
	if err := MoveTo(tmpfs(t, NoDev), dir+"/src/su b"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/src/f", nil, 0600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path      string
		recursive bool
		sub       bool // writable
	}{{"/src", false, true}, {"/src", true, false}, {"/src/f", false, true}} {
		m, err := Clone(dir+c.path, true)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if err := SetAttr(m, Change{Set: ReadOnly | NoExec, Propagation: Private, Recursive: c.recursive}); err != nil {
			t.Fatal(c.path, err)
		}
		if a, err := AttrOf(m); err != nil || a&(ReadOnly|NoExec) != ReadOnly|NoExec {
			t.Errorf("%s: %x %v", c.path, a, err)
		}
		self := "/proc/self/fd/" + strconv.Itoa(int(m.Fd()))
		if c.path == "/src/f" {
			continue
		}
		if err := os.WriteFile(self+"/new", nil, 0600); !errors.Is(err, unix.EROFS) {
			t.Errorf("%s is writable: %v", c.path, err)
		}
		if err := os.WriteFile(self+"/su b/new", nil, 0600); (err == nil) != c.sub {
			t.Errorf("recursive %v: below: %v", c.recursive, err)
		}
	}
	if err := os.WriteFile(dir+"/src/g", nil, 0600); err != nil {
		t.Error("the source itself is changed:", err)
	}
	if err := Detach(dir + "/src/su b"); err != nil {
		t.Fatal(err)
	}
}

// TestBelow: the kernel's paths are without the links by which a directory is called.
func TestBelow(t *testing.T) {
	private(t)
	dir, link := t.TempDir(), filepath.Join(t.TempDir(), "link")
	if err := errors.Join(os.Symlink(dir, link), os.MkdirAll(dir+"/a", 0o700), os.Mkdir(dir+"-beside", 0o700)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir + "-beside") })
	for _, at := range []string{"/a", "/a", "/a/b", "-beside"} {
		if err := errors.Join(os.MkdirAll(dir+at, 0o700), MoveTo(tmpfs(t, 0), dir+at)); err != nil {
			t.Fatal(err)
		}
	}
	list, err := Below(link)
	if want := dir + "/a " + dir + "/a " + dir + "/a/b"; err != nil || strings.Join(list, " ") != want {
		t.Errorf("%q, %v, want %s", list, err, want)
	}
	if list, err := Below(dir + "/a/b"); err != nil || len(list) != 1 {
		t.Errorf("itself: %q, %v", list, err)
	}
	if list, err := Below(dir + "/none"); err != nil || len(list) != 0 {
		t.Errorf("nothing: %q, %v", list, err)
	}
	if err := DetachBelow(link); err != nil {
		t.Error(err)
	}
	if list, err := Below(dir); err != nil || len(list) != 0 {
		t.Errorf("left: %q, %v", list, err)
	}
	if list, err := Below(dir + "-beside"); err != nil || len(list) != 1 {
		t.Errorf("beside: %q, %v", list, err)
	}
	if err := Detach(dir + "-beside"); err != nil {
		t.Error(err)
	}
}
