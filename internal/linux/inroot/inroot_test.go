package inroot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tree makes a root with a canary directory beside it.
func tree(t *testing.T) (root *os.File, dir, outside string) {
	t.Helper()
	base := t.TempDir()
	dir, outside = base+"/root", base+"/outside"
	for _, d := range []string{dir + "/etc", dir + "/run", outside} {
		if err := os.MkdirAll(d, 0755); err != nil {
			t.Fatal(err)
		}
	}
	for to, from := range map[string]string{
		outside: "out", "../../outside": "up", "/run": "absolute", "run": "relative",
		"/etc/loop": "etc/loop", "/made/later": "dangling", "/proc/self/root": "magic",
	} {
		if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		root.Close()
		if e, err := os.ReadDir(outside); err != nil || len(e) > 0 {
			t.Errorf("something came out of the root: %v %v", e, err)
		}
	})
	return root, dir, outside
}

func TestResolveStaysInside(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"/etc", "/etc"}, {"etc/../run", "/run"}, {"../../../run", "/run"},
		{"/absolute/a/b", "/run/a/b"}, {"/relative/x", "/run/x"},
		{"/new/deep/dir", "/new/deep/dir"}, {"/dangling", "/made/later"}, {"/dangling/more", "/made/later/more"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root, dir, _ := tree(t)
			for _, k := range []Kind{Dir, File} {
				got, err := Resolve(root, c.name, Options{Make: k})
				if err != nil {
					t.Fatal(err)
				}
				got.File.Close()
				if got.Path != c.want {
					t.Fatalf("%s, want %s", got.Path, c.want)
				}
				if _, err := os.Lstat(dir + c.want); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestResolveThroughLinksThatLeaveTheRoot(t *testing.T) {
	root, dir, outside := tree(t)
	got, err := Resolve(root, "/out/x", Options{Make: Dir})
	if err != nil || got.Path != outside+"/x" {
		t.Fatal(got.Path, err)
	}
	got.File.Close()
	if _, err := os.Stat(dir + outside + "/x"); err != nil {
		t.Fatal("an absolute link starts at the root:", err)
	}
	got, err = Resolve(root, "/up/x", Options{Make: Dir})
	if err != nil || got.Path != "/outside/x" {
		t.Fatal(got.Path, err)
	}
	got.File.Close()
	if _, err := Resolve(root, "/etc/loop/x", Options{Make: Dir}); !errors.Is(err, unix.ELOOP) {
		t.Fatal(err)
	}
	if _, err := Resolve(root, "/no/such", Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

// TestResolveStopsAtTheLastLink if it is told so; links on the way are followed.
func TestResolveStopsAtTheLastLink(t *testing.T) {
	root, dir, outside := tree(t)
	for link, to := range map[string]string{"way": "/deep", "deep/good": "file", "deep/dangling": "nosuch", "deep/away": outside} {
		os.Mkdir(dir+"/deep", 0o755)
		if err := os.Symlink(to, dir+"/"+link); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(dir+"/deep/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{
		"/deep/good": fs.ModeSymlink, "/way/good": fs.ModeSymlink, "/way/dangling": fs.ModeSymlink, "/deep/away": fs.ModeSymlink,
		"/way/file": 0, "/way/made": 0, "/deep/../way/good": fs.ModeSymlink,
	} {
		got, err := Resolve(root, name, Options{Make: File, NoFollow: true})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		st, err := got.File.Stat()
		if err != nil || st.Mode().Type() != want || got.Path != "/deep/"+path.Base(name) && got.Path != "/deep" {
			t.Errorf("%s: %s, %v, %v", name, got.Path, st, err)
		}
		if at, err := os.Lstat(dir + got.Path); err != nil || !os.SameFile(at, st) {
			t.Errorf("%s: %s is another file: %v", name, got.Path, err)
		}
		got.File.Close()
	}
	if _, err := os.Lstat(dir + "/deep/nosuch"); !errors.Is(err, os.ErrNotExist) {
		t.Error("what a link leads to is made:", err)
	}
}

func TestResolveEntersTreesToBeMounted(t *testing.T) {
	root, dir, outside := tree(t)
	bind, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer bind.Close()
	o := Options{Make: Dir, Mounted: func(p string) (*os.File, bool) {
		switch p {
		case "/run":
			return bind, true
		case "/dev":
			return nil, true
		}
		return nil, false
	}}
	for name, want := range map[string]string{"/run/a": "/run/a", "/absolute/b": "/run/b", "/dev/x/y": "/dev/x/y", "/dev": "/dev"} {
		got, err := Resolve(root, name, o)
		if err != nil || got.Path != want {
			t.Fatal(name, got, err)
		}
		if unseen := strings.HasPrefix(want, "/dev"); unseen != (got.File == nil) {
			t.Fatal(name, got)
		}
		if got.File != nil {
			got.File.Close()
		}
	}
	for _, p := range []string{"a", "b"} {
		if _, err := os.Stat(bind.Name() + "/" + p); err != nil {
			t.Error("not made in the tree that covers the root:", err)
		}
		if _, err := os.Stat(dir + "/run/" + p); err == nil {
			t.Error("made below a mount")
		}
	}
	if _, err := os.Stat(dir + "/dev"); err == nil {
		t.Error("looked into a tree that is not there yet")
	}
	_ = outside
}

func TestMagicLinksAreRefused(t *testing.T) {
	root, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if _, err := Open(root, "/proc/self/root/etc", unix.O_PATH, 0); !errors.Is(err, unix.ELOOP) {
		t.Fatal(err)
	}
}

func TestReadFile(t *testing.T) {
	root, dir, outside := tree(t)
	if err := os.WriteFile(dir+"/etc/passwd", []byte("root:x:0:0\n"), 0600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(dir+"/etc/fifo", 0666); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Dir(dir)+"/secret", []byte("s"), 0600); err != nil {
		t.Fatal(err)
	}
	_ = outside
	if err := os.Symlink("../../secret", dir+"/etc/secret"); err != nil {
		t.Fatal(err)
	}
	if b, err := ReadFile(root, "/etc/passwd", 11); err != nil || len(b) != 11 {
		t.Fatal(b, err)
	}
	start := time.Now()
	for name, want := range map[string]error{"/etc/passwd": ErrTooLarge, "/etc/fifo": ErrNotRegular, "/etc": ErrNotRegular, "/etc/secret": os.ErrNotExist, "/etc/pass\x00wd": syscall.EINVAL} {
		if _, err := ReadFile(root, name, 10); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if d := time.Since(start); d > time.Second {
		t.Error("waited", d)
	}
}

// TestDirectoriesAreMadeInside swaps a directory for a link that leads out of the
// root while directories are made below it.
func TestDirectoriesAreMadeInside(t *testing.T) {
	root, dir, outside := tree(t)
	if err := os.Mkdir(dir+"/swap", 0755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, dir+"/link"); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, dir+"/swap", unix.AT_FDCWD, dir+"/link", unix.RENAME_EXCHANGE)
			}
		}
	}()
	made := 0
	for i := range 2000 { // nothing is removed: the canary would be removed with it
		if r, err := Resolve(root, fmt.Sprintf("/swap/%d/b", i), Options{Make: Dir}); err == nil {
			r.File.Close()
			made++
		}
	}
	close(stop)
	<-done
	if made == 0 {
		t.Error("never succeeded")
	}
}

// Forty links of 4 KB each are a path of 160 KB: whoever owns the root cannot
// make us walk it.
func TestEndlessPathsEndSoon(t *testing.T) {
	root, dir, _ := tree(t)
	for i := range maxLinks {
		to := "/" + strings.Repeat("etc/../", 500) + fmt.Sprint("l", i+1)
		if err := os.Symlink(to, fmt.Sprint(dir, "/l", i)); err != nil {
			t.Fatal(err)
		}
	}
	looked := 0
	_, err := Resolve(root, "l0/x", Options{Make: Dir, Mounted: func(string) (*os.File, bool) { looked++; return nil, false }})
	if !errors.Is(err, unix.ENAMETOOLONG) || looked > 10*maxSteps {
		t.Errorf("%v after %d looks", err, looked)
	}
	if _, err := Resolve(root, strings.Repeat("x/", 4000), Options{Make: Dir}); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Error(err)
	}
}
