package pidfd

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

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
