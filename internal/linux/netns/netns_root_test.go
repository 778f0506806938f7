//go:build root

package netns

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inode tells namespaces apart.
func inode(t *testing.T, f *os.File) uint64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func current(t *testing.T) uint64 {
	t.Helper()
	f, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return inode(t, f)
}

func TestMakerMakesDifferentNamespacesAndComesBack(t *testing.T) {
	home := current(t)
	m := NewMaker(2)
	defer m.Close()
	seen := map[uint64]bool{home: true}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			var within uint64
			f, err := m.New(func() error { within = current(t); return nil })
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { f.Close() }) // numbers of closed ones are used again
			mu.Lock()
			defer mu.Unlock()
			if n := inode(t, f); seen[n] || n != within {
				t.Errorf("namespace %d, setup ran in %d", n, within)
			} else {
				seen[n] = true
			}
		})
	}
	wg.Wait()
	for range 100 { // no thread of ours stayed behind
		if current(t) != home {
			t.Fatal("a goroutine runs in a container's namespace")
		}
	}
}

func TestFailedSetupLeavesNothing(t *testing.T) {
	m := NewMaker(1)
	defer m.Close()
	want := errors.New("x")
	if f, err := m.New(func() error { return want }); f != nil || !errors.Is(err, want) {
		t.Fatal(f, err)
	}
	if f, err := m.New(func() error { return nil }); err != nil {
		t.Fatal("the maker broke:", err)
	} else {
		f.Close()
	}
}

func TestDoRunsInside(t *testing.T) {
	m := NewMaker(1)
	defer m.Close()
	f, err := m.New(func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	home := current(t)
	err = Do(f, func() error {
		if current(t) != inode(t, f) {
			t.Error("not inside")
		}
		return unix.EXDEV
	})
	if err != unix.EXDEV || current(t) != home {
		t.Error(err)
	}
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := Do(null, func() error { return nil }); err == nil {
		t.Error("entered /dev/null")
	}
}
