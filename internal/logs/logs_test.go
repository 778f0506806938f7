package logs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/logfile"
)

var base = time.Unix(1_700_000_000, 0)

func newLog(t testing.TB, size int64, files int) (dir string, w *logfile.Writer) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "c1", "log")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w = logfile.NewWriter(func() (*os.Root, error) { return os.OpenRoot(dir) }, logfile.Name("c1", logfile.JSON), logfile.Options{MaxSize: size, MaxFiles: files})
	t.Cleanup(func() { w.Suspend() })
	return dir, w
}

func write(t testing.TB, w *logfile.Writer, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		s := logfile.Stdout
		if i%10 == 9 {
			s = logfile.Stderr
		}
		if err := w.Write(s, fmt.Appendf(nil, "%d\n", i), base.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
}

func at(i int) time.Time { return base.Add(time.Duration(i) * time.Second) }

func TestParts(t *testing.T) {
	dir, w := newLog(t, 3000, 3)
	write(t, w, 0, 100)
	all := Options{Tail: -1, Stdout: true, Stderr: true}
	with := func(f func(*Options)) Options { o := all; f(&o); return o }
	for _, c := range []struct {
		name        string
		o           Options
		first, last string
		n           int
	}{
		{"tail", with(func(o *Options) { o.Tail = 5 }), "95", "99", 5},
		{"no tail", with(func(o *Options) { o.Tail = 0 }), "", "", 0},
		{"since", with(func(o *Options) { o.Since = at(80) }), "80", "99", 20},
		{"until", with(func(o *Options) { o.Since, o.Until = at(70), at(80) }), "70", "80", 11},
		{"tail before since", with(func(o *Options) { o.Since, o.Tail = at(80), 5 }), "95", "99", 5},
		{"stderr", with(func(o *Options) { o.Stdout, o.Tail = false, 20 }), "89", "99", 2},
	} {
		var got []string
		err := Read(t.Context(), dir, c.o, nil, func(e logfile.Entry) error {
			got = append(got, strings.TrimSpace(string(e.Line)))
			return nil
		})
		if err != nil || len(got) != c.n || c.n > 0 && (got[0] != c.first || got[len(got)-1] != c.last) {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
}

func TestFollowEndsWhenAllIsRead(t *testing.T) {
	dir, w := newLog(t, 1<<20, 2)
	ended := make(chan struct{})
	var got []string
	seen := make(chan struct{}, 100)
	done := make(chan error)
	go func() {
		done <- Read(t.Context(), dir, Options{Tail: -1, Follow: true, Stdout: true, Stderr: true}, ended, func(e logfile.Entry) error {
			got = append(got, string(e.Line))
			seen <- struct{}{}
			return nil
		})
	}()
	for i := range 5 {
		write(t, w, i, i+1)
		<-seen // it is woken by each
	}
	write(t, w, 5, 20)
	close(ended)
	if err := <-done; err != nil || len(got) != 20 {
		t.Errorf("%d lines, %v", len(got), err)
	}
	wakers.mu.Lock()
	defer wakers.mu.Unlock()
	if wakers.watcher != nil || len(wakers.ofWatch) > 0 {
		t.Error("the inotify instance is left")
	}
}

// No follower loses a line over 100 rotations, however it is scheduled.
func TestFollowersOverRotations(t *testing.T) {
	dir, w := newLog(t, 20_000, 5)
	ended := make(chan struct{})
	const lines, followers = 35_000, 4
	var wg sync.WaitGroup
	var there sync.WaitGroup
	there.Add(followers)
	write(t, w, 0, 100)
	for f := range followers {
		wg.Go(func() {
			next := 0
			err := Read(t.Context(), dir, Options{Tail: -1, Follow: true, Stdout: true, Stderr: true}, ended, func(e logfile.Entry) error {
				if string(e.Line) != fmt.Sprintf("%d\n", next) {
					return fmt.Errorf("%q in the place of %d", e.Line, next)
				}
				if next++; next == 1 {
					there.Done()
				}
				return nil
			})
			if err != nil || next != lines {
				t.Errorf("follower %d: %d lines, %v", f, next, err)
			}
		})
	}
	there.Wait()
	for i := 100; i < lines; i += 100 {
		write(t, w, i, i+100)
		time.Sleep(500 * time.Microsecond) // the pace of a chatty program
	}
	p, err := w.Position()
	if err != nil || p.Generation < 100 {
		t.Errorf("%d generations, %v", p.Generation, err)
	}
	close(ended)
	wg.Wait()
}

// TestHeldLogIsReadToItsEnd although it is removed before its reader, who has begun before
// there was a line, reads on.
func TestHeldLogIsReadToItsEnd(t *testing.T) {
	dir, w := newLog(t, 2000, 5)
	var f Followers
	r, done, err := f.Open(dir, Options{Tail: -1, Follow: true, Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	write(t, w, 0, 100) // several files
	if err := f.Hold(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	ended, next := make(chan struct{}), 0
	close(ended)
	err = r.Read(t.Context(), ended, func(e logfile.Entry) error { next++; return nil })
	if err != nil || next != 100 {
		t.Errorf("%d lines, %v", next, err)
	}
	done()
	if len(f.of) > 0 {
		t.Error("a reader is kept")
	}
}

func TestFollowOfALogThatIsYetToCome(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c1", "log")
	ended := make(chan struct{})
	done := make(chan error)
	n := 0
	go func() {
		done <- Read(t.Context(), dir, Options{Tail: -1, Follow: true, Stdout: true}, ended, func(logfile.Entry) error { n++; close(ended); return nil })
	}()
	time.Sleep(20 * time.Millisecond) // it most likely waits by now; either order must do
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w := logfile.NewWriter(func() (*os.Root, error) { return os.OpenRoot(dir) }, logfile.Name("c1", logfile.JSON), logfile.Options{})
	defer w.Suspend()
	write(t, w, 0, 1)
	if err := <-done; err != nil || n != 1 {
		t.Errorf("%d lines, %v", n, err)
	}
	if err := Read(t.Context(), filepath.Join(dir, "none"), Options{Tail: -1, Stdout: true}, nil, nil); err != nil {
		t.Errorf("no log: %v", err)
	}
}

func TestFollowIsCancelled(t *testing.T) {
	dir, w := newLog(t, 1<<20, 2)
	write(t, w, 0, 3)
	ctx, cancel := context.WithCancel(t.Context())
	err := Read(ctx, dir, Options{Tail: -1, Follow: true, Stdout: true}, nil, func(logfile.Entry) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	start := time.Now()
	err = Read(t.Context(), dir, Options{Tail: -1, Follow: true, Until: time.Now().Add(50 * time.Millisecond), Stdout: true}, nil, func(logfile.Entry) error { return nil })
	if err != nil || time.Since(start) < 40*time.Millisecond {
		t.Errorf("until: %v after %v", err, time.Since(start))
	}
}
