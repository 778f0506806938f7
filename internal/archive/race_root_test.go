//go:build root

package archive

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tare-engine/tare/internal/linux/confine"
)

// copyRounds is how many copies each race has; make soak asks for 3,000.
func copyRounds() int {
	if n, err := strconv.Atoi(os.Getenv("TARE_SOAK_COPIES")); err == nil {
		return n
	}
	return 40
}

// swap exchanges two names until the returned function is called.
func (l *lab) swap(a, b string) (stop func()) {
	done := make(chan struct{})
	var swapper sync.WaitGroup
	swapper.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(l.root, a), unix.AT_FDCWD, filepath.Join(l.root, b), unix.RENAME_EXCHANGE)
			}
		}
	})
	return func() {
		close(done)
		swapper.Wait()
	}
}

// TestCopyRaces copies in and out while the container exchanges what is on the way
// for links out of its root (CVE-2018-15664, 2026-41568, 2026-42306): nothing
// outside is read, made or changed.
func TestCopyRaces(t *testing.T) {
	links := map[string]string{
		"absolute": "ABSOLUTE", "relative": "../outside", "far": "../../../../../../../../../../ABSOLUTE",
		"descriptor": "/proc/self/fd/3/../../..", "cwd": "/proc/self/cwd/..",
	}
	for name, to := range links {
		t.Run(name, func(t *testing.T) { newLab(t).race(name, to, copyRounds()) })
	}
}

func (l *lab) race(name, to string, rounds int) {
	l.must(os.MkdirAll(filepath.Join(l.root, "a", "dir"), 0o755))
	l.write(filepath.Join(l.root, "a", "secret"), "the container's")
	l.write(filepath.Join(l.root, "a", "dir", "secret"), "the container's")
	if i := len(to) - len("ABSOLUTE"); i >= 0 && to[i:] == "ABSOLUTE" {
		to = to[:i] + l.outside
	}
	l.must(os.Symlink(to, filepath.Join(l.root, "c")))
	defer l.swap("a", "c")()
	in := l.archive(tar.Header{Name: "dir/", Typeflag: tar.TypeDir, Mode: 0o700}, tar.Header{Name: "dir/secret", Uname: "brought"}, tar.Header{Name: "secret", Uname: "brought"})
	through := 0
	for n := range rounds {
		p := []string{"/a", "/a/", "/a/dir", "/a/secret", "/"}[n%5]
		if b, err := l.pack(p); err == nil {
			through++
			if bytes.Contains(b, []byte(secret)) {
				l.Fatalf("round %d: %s gave away a file outside", n, p)
			}
			l.entries(b)
		}
		if l.unpack([]string{"/a", "/a/", "/a/dir/.."}[n%3], in, UnpackOptions{}) == nil {
			through++
		}
	}
	l.check()
	if through == 0 {
		l.Error("no copy went through")
	}
	fmt.Printf("SOAK | copies while names are swapped: %s (%d of %d went through) | %d | 0 | |\n", name, through, 2*rounds, 2*rounds)
}

// TestFilesThatChange packs files that grow, shrink, vanish and become something
// else: the archive is whole each time, and nothing waits.
func TestFilesThatChange(t *testing.T) {
	l := newLab(t)
	l.must(os.MkdirAll(filepath.Join(l.root, "d"), 0o755))
	l.write(filepath.Join(l.root, "d", "file"), "data")
	l.must(unix.Mkfifo(filepath.Join(l.root, "d", "fifo"), 0o644))
	defer l.swap("d/file", "d/fifo")()
	grow := filepath.Join(l.root, "d", "grow")
	done := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for n := int64(0); ; n++ {
			select {
			case <-done:
				return
			default:
				if os.WriteFile(grow, make([]byte, n%7*100_000), 0o644) != nil || os.Truncate(grow, n%3*50_000) != nil || n%11 == 0 && os.Remove(grow) != nil {
					return
				}
			}
		}
	})
	defer writer.Wait()
	defer close(done)
	for range copyRounds() {
		b, err := l.pack("/d")
		l.must(err)
		l.entries(b)
	}
}

// TestACopySeesTheRootOnly: a thread that copies has neither the host's files nor
// more rights than it needs.
func TestACopySeesTheRootOnly(t *testing.T) {
	l := newLab(t)
	l.write(filepath.Join(l.root, "own"), "x")
	err := l.inside(nil, func(root *os.File) error {
		if names, err := os.ReadDir("/"); err != nil || len(names) != 1 || names[0].Name() != "own" {
			t.Errorf("the root holds %v, %v", names, err)
		}
		for _, p := range []string{l.outside + "/secret", "/proc/self/root", "/../outside/secret"} {
			if _, err := os.Stat(p); err == nil {
				t.Errorf("%s is there", p)
			}
		}
		if err := unix.Mount("tmpfs", "/", "tmpfs", 0, ""); err != unix.EPERM {
			t.Errorf("mount: %v", err)
		}
		if err := unix.Chroot("/"); err != unix.EPERM {
			t.Errorf("chroot: %v", err)
		}
		return confine.Raise(confine.SysAdmin, func() error {
			if err := unix.Unshare(unix.CLONE_NEWNS); err != unix.EPERM {
				t.Errorf("unshare: %v", err)
			}
			return nil
		})
	})
	l.must(err)
}
