package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

func start(t *testing.T, script string) int {
	t.Helper()
	c := exec.Command("/bin/sh", "-c", script)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c.Process.Pid
}

func TestPeekLeavesTheChild(t *testing.T) {
	pid := start(t, "exit 7")
	for range 2 {
		if got, err := PeekExit(); err != nil || got != pid {
			t.Fatal(got, err, pid)
		}
	}
	if ws, err := Reap(pid); err != nil || ws.ExitStatus() != 7 {
		t.Fatal(ws, err)
	}
	if _, err := PeekExit(); !errors.Is(err, syscall.ECHILD) {
		t.Fatal(err)
	}
}

// since reports whether the kernel is of this version or later.
func since(t *testing.T, major, minor int) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	var a, i int
	if _, err := fmt.Sscanf(string(b), "%d.%d", &a, &i); err != nil {
		t.Fatal(err)
	}
	return a > major || a == major && i >= minor
}

func TestStatusIsKnownAfterReaping(t *testing.T) {
	pid := start(t, "kill -9 $$")
	fd, err := Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	if got, err := Poll(nil, []*os.File{fd}, false, 5000); err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	if got, err := Poll(nil, []*os.File{fd}, true, 0); err != nil || len(got) != 0 {
		t.Fatal("reaped already?", got, err)
	}
	if _, err := Reap(pid); err != nil {
		t.Fatal(err)
	}
	got, err := Poll(nil, []*os.File{fd}, true, 0)
	if tells := since(t, 6, 9); err != nil || (len(got) == 1) != tells {
		t.Error(got, err)
	}
	if ws, known := Status(fd); known != since(t, 6, 15) || known && ws.Signal() != syscall.SIGKILL {
		t.Error(ws, known)
	}
}

func TestPollOfNoDescriptor(t *testing.T) {
	var p [2]int
	if err := syscall.Pipe(p[:]); err != nil {
		t.Fatal(err)
	}
	syscall.Close(p[0])
	f := os.NewFile(uintptr(p[1]), "gone")
	syscall.Close(p[1])
	if got, err := Poll(nil, []*os.File{f}, false, 0); !errors.Is(err, syscall.EBADF) {
		t.Error(got, err)
	}
	f.Close()
}

func TestPollWakes(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	time.AfterFunc(10*time.Millisecond, func() { w.Write([]byte{1}) })
	if got, err := Poll(r, nil, false, 5000); err != nil || len(got) != 0 {
		t.Fatal(got, err)
	}
}

func TestStartTicks(t *testing.T) {
	a, err := StartTicks(os.Getpid())
	if err != nil || a == 0 {
		t.Fatal(a, err)
	}
	b, err := StartTicks(1)
	if err != nil || b > a {
		t.Fatal(a, b, err)
	}
}

func TestSignalAndEnd(t *testing.T) {
	c := exec.Command("sleep", "100")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	f, err := Open(c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if ended, err := Ended(f); ended || err != nil {
		t.Fatal(ended, err)
	}
	if err := Signal(f, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.Wait()
	if ended, err := Ended(f); !ended || err != nil {
		t.Fatal(ended, err)
	}
	if err := Signal(f, syscall.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	if _, err := Open(1 << 30); err == nil {
		t.Fatal("no such process was opened")
	}
}

func TestReopenKnowsTheProcess(t *testing.T) {
	pid := os.Getpid()
	ticks, err := StartTicks(pid)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Reopen(pid, ticks)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := Reopen(pid, ticks+1); !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}

// A process that waits to be reaped has begun to end, one that runs has not.
func TestEnding(t *testing.T) {
	if Ending(os.Getpid()) {
		t.Error("this process is said to end")
	}
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	fd, err := Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	for range 1000 {
		if over, err := Ended(fd); err != nil || over {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if !Ending(cmd.Process.Pid) {
		t.Error("a process that has ended is not said to end")
	}
}
