package process

import (
	"errors"
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
	if got, err := Poll(nil, []*os.File{fd}, true, 5000); err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	if ws, known := Status(fd); known && ws.Signal() != syscall.SIGKILL {
		t.Error(ws)
	}
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
