package nursery

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/keeper/reaper"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// With glibc (under the race detector) rseq is registered in memory that
// nurseries unmap. The keeper sets the same.
func TestMain(m *testing.M) {
	const tunables = "GLIBC_TUNABLES"
	if os.Getenv(tunables) == "" {
		env := append(os.Environ(), tunables+"=glibc.pthread.rseq=0")
		fmt.Fprintln(os.Stderr, syscall.Exec("/proc/self/exe", os.Args, env))
		os.Exit(1)
	}
	go shared.Run() // it takes all children, so there is one for all tests
	os.Exit(m.Run())
}

var shared = reaper.New()

func newPool(t *testing.T) *Pool {
	t.Helper()
	region, err := spawn.NewRegion(16)
	if err != nil {
		t.Fatal(err)
	}
	p := New(region, shared, slog.New(slog.DiscardHandler))
	if err := p.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		gone(t, p)
		if err := region.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func gone(t *testing.T, p *Pool) {
	t.Helper()
	eventually(t, "the nurseries are gone", p.Gone)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// pids are those of the nurseries.
func (p *Pool) pids() (pids []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.all {
		if n != nil {
			pids = append(pids, n.Pid())
		}
	}
	return pids
}

// start runs a program that ends with that status, and returns what it ended with.
func start(p *Pool, status int) (int, error) {
	plan := spawn.NewPlan()
	plan.ResetSignals()
	plan.Exec("sh", "/bin:/usr/bin", []string{"sh", "-c", fmt.Sprint("exit ", status)}, nil)
	s := p.region.Get()
	if s == nil {
		return 0, fmt.Errorf("no arena is free")
	}
	defer s.Put()
	if err := s.Load(plan.Image()); err != nil {
		return 0, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	report, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer report.Close()
	booked := p.reaper.Cloning()
	defer booked()
	pid, err := p.Clone(s, spawn.Options{Cgroup: -1}, []*os.File{w, null, null, null})
	w.Close()
	if err != nil {
		return 0, err
	}
	heard := make(chan reaper.End, 1)
	p.reaper.Book(pid, func(e reaper.End) { heard <- e })
	if b, err := io.ReadAll(report); err != nil || len(b) > 0 {
		return 0, fmt.Errorf("report %q, %v", b, err)
	}
	return (<-heard).Status.ExitStatus(), nil
}

func TestClonesAreTheKeepersChildren(t *testing.T) {
	p := newPool(t)
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			if got, err := start(p, i); err != nil || got != i {
				t.Errorf("child %d ended with %d, %v", i, got, err)
			}
		})
	}
	wg.Wait()
}

func TestBothTakeTurns(t *testing.T) {
	p := newPool(t)
	if a, b, c := p.pick(), p.pick(), p.pick(); a == b || a != c {
		t.Errorf("%p %p %p", a, b, c)
	}
}

func TestDeadNurseriesAreMadeAgain(t *testing.T) {
	p := newPool(t)
	for round := range 5 {
		old := p.pids()
		if round == 0 {
			old = old[:1]
		}
		for _, pid := range old {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		// At once: the dead are still picked, or there are none.
		if got, err := start(p, 3); err != nil || got != 3 {
			t.Fatalf("round %d: %d, %v", round, got, err)
		}
		eventually(t, "there are two others", func() bool {
			now := p.pids()
			for _, pid := range old {
				for _, n := range now {
					if n == pid {
						return false
					}
				}
			}
			return len(now) == 2
		})
	}
}

func TestCloseAndOpen(t *testing.T) {
	p := newPool(t)
	old := p.pids()
	if p.Gone() {
		t.Error("gone before it is closed")
	}
	p.Close()
	gone(t, p)
	if got := p.pids(); len(got) > 0 {
		t.Errorf("made again while shut: %v", got)
	}
	for _, pid := range old {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid)); err == nil {
			t.Errorf("nursery %d runs", pid)
		}
	}
	begun := time.Now()
	if _, err := start(p, 0); errdefs.KindOf(err) != errdefs.Unavailable {
		t.Errorf("%v after %v", err, time.Since(begun))
	}
	if err := p.Open(); err != nil {
		t.Fatal(err)
	}
	if got, err := start(p, 5); err != nil || got != 5 {
		t.Errorf("%d, %v", got, err)
	}
}

// TestCloseWhileOneIsMadeAgain: a nursery that dies is made again by somebody
// who does not know of the Close.
func TestCloseWhileOneIsMadeAgain(t *testing.T) {
	p := newPool(t)
	p.Close()
	gone(t, p)
	if err := p.open(0); err != nil { // had looked before
		t.Error(err)
	}
	gone(t, p)
	for range 50 {
		if err := p.Open(); err != nil {
			t.Fatal(err)
		}
		for _, pid := range p.pids() {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		p.Close()
		gone(t, p)
		if err := p.Open(); err != nil { // while those who make them again may be at it
			t.Fatal(err)
		}
		eventually(t, "there are two", func() bool { return len(p.pids()) == 2 })
		p.Close()
		gone(t, p)
	}
	all := p.free()
	if len(all) != 16 {
		t.Errorf("%d of 16 arenas are free", len(all))
	}
	for _, s := range all {
		s.Put()
	}
}

// TestOneThatCannotBeMadeIsTriedAgain: the keeper goes on after an upgrade that
// has failed, whatever was in the way of its nurseries.
func TestOneThatCannotBeMadeIsTriedAgain(t *testing.T) {
	p := newPool(t)
	p.Close()
	gone(t, p)
	all := p.free()
	defer func() {
		for _, s := range all[:14] {
			s.Put()
		}
	}()
	all[15].Put() // an arena for one of two
	if err := p.Open(); err == nil {
		t.Error("both were made")
	}
	if got, want := len(p.pids()), 1; got != want {
		t.Errorf("%d nurseries, not %d", got, want)
	}
	all[14].Put()
	eventually(t, "there are two", func() bool { return len(p.pids()) == 2 })
}

// free takes all arenas that are free; the caller gives them back.
func (p *Pool) free() (all []*spawn.Slab) {
	for s := p.region.Get(); s != nil; s = p.region.Get() {
		all = append(all, s)
	}
	return all
}

// TestNothingIsUsedUp kills more nurseries than there are arenas.
func TestNothingIsUsedUp(t *testing.T) {
	p := newPool(t)
	for range 12 {
		pid := p.pids()[0]
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a nursery is made again", func() bool {
			now := p.pids()
			return len(now) == 2 && now[0] != pid
		})
	}
	all := p.free()
	if len(all) != 14 {
		t.Errorf("%d of 14 arenas are free", len(all))
	}
	for _, s := range all {
		s.Put()
	}
}
