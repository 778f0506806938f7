package orphan

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/linux/process"
)

func sleeper(t *testing.T) (*exec.Cmd, *os.File) {
	t.Helper()
	cmd := exec.Command("sleep", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fd, err := process.Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		fd.Close()
	})
	return cmd, fd
}

func newWatcher(t *testing.T) *Watcher {
	t.Helper()
	w, err := New(func(err error) {
		if t.Context().Err() == nil { // else the descriptors are being closed
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	go w.Run() // for ever, as the pipe's ends
	return w
}

func TestEachEndIsToldOnce(t *testing.T) {
	w := newWatcher(t)
	ends := make(chan int, 64)
	var cmds []*exec.Cmd
	for i := range 9 {
		cmd, fd := sleeper(t)
		cmds = append(cmds, cmd)
		w.Watch(fd, func(at time.Time) {
			if at.IsZero() {
				t.Error("no time")
			}
			ends <- i
		})
	}
	for _, i := range []int{4, 0, 8, 2} { // one by one, while it waits for the others
		cmds[i].Process.Kill()
		if got := next(t, ends); got != i {
			t.Errorf("told of %d, not of %d", got, i)
		}
	}
	left := map[int]bool{1: true, 3: true, 5: true, 6: true, 7: true}
	for i := range left {
		cmds[i].Process.Signal(syscall.SIGKILL)
	}
	for range 5 {
		i := next(t, ends)
		if !left[i] {
			t.Errorf("told of %d again", i)
		}
		delete(left, i)
	}
	if w.mu.Lock(); len(w.watched) > 0 {
		t.Errorf("%d are watched still", len(w.watched))
	}
	w.mu.Unlock()
	// Empty again, it takes new ones.
	cmd, fd := sleeper(t)
	w.Watch(fd, func(time.Time) { ends <- 100 })
	cmd.Process.Kill()
	if got := next(t, ends); got != 100 {
		t.Errorf("told of %d", got)
	}
}

func next(t *testing.T, ends chan int) int {
	t.Helper()
	select {
	case i := <-ends:
		return i
	case <-time.After(15 * time.Second):
		t.Fatal("an end was not told of")
		return 0
	}
}

func TestOneThatHasEnded(t *testing.T) {
	w := newWatcher(t)
	cmd, fd := sleeper(t)
	cmd.Process.Kill()
	cmd.Wait()
	ends := make(chan int, 1)
	w.Watch(fd, func(time.Time) { ends <- 1 })
	next(t, ends)
}

// TestEndedIsCalledBeside: one that hears slowly holds up no other.
func TestEndedIsCalledBeside(t *testing.T) {
	w := newWatcher(t)
	ends, hold := make(chan int, 2), make(chan struct{})
	defer close(hold)
	slow, fd1 := sleeper(t)
	other, fd2 := sleeper(t)
	w.Watch(fd1, func(time.Time) { ends <- 1; <-hold })
	w.Watch(fd2, func(time.Time) { ends <- 2 })
	slow.Process.Kill()
	next(t, ends)
	other.Process.Kill()
	if got := next(t, ends); got != 2 {
		t.Errorf("told of %d", got)
	}
}

// TestEndsAreNoticedWhereWaitingFails: poll(2) refuses more descriptors than the
// limit of files allows, which may be lowered under a running program.
func TestEndsAreNoticedWhereWaitingFails(t *testing.T) {
	told := make(chan error, 1)
	w, err := New(func(err error) { told <- err })
	if err != nil {
		t.Fatal(err)
	}
	ends := make(chan int, 1)
	cmd, fd := sleeper(t)
	w.Watch(fd, func(time.Time) { ends <- 1 })
	_, other := sleeper(t)
	w.Watch(other, func(time.Time) { ends <- 2 })
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 2, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was)
	go w.Run()
	select {
	case <-told:
	case <-time.After(15 * time.Second):
		t.Fatal("nobody is told that waiting failed")
	}
	cmd.Process.Kill()
	if got := next(t, ends); got != 1 {
		t.Errorf("told of %d", got)
	}
}

// TestWaitingCostsNothing: what woke the loop is taken out of its pipe, or it
// would turn for ever.
func TestWaitingCostsNothing(t *testing.T) {
	w := newWatcher(t)
	for range 3 {
		_, fd := sleeper(t)
		w.Watch(fd, func(time.Time) {})
	}
	before := cpu(t)
	time.Sleep(300 * time.Millisecond) // a probe: nothing may happen within
	if d := cpu(t) - before; d > 150*time.Millisecond {
		t.Errorf("waiting 300 ms took %v of CPU", d)
	}
}

func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
