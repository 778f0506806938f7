package process

import (
	"errors"
	"os"
	"os/exec"
	"testing"
)

// TestHolderFindsWhoHasAFile with a file that has no name, and that this process has
// open too.
func TestHolderFindsWhoHasAFile(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err := errors.Join(err, os.Remove(f.Name())); err != nil {
		t.Fatal(err)
	}
	if _, pid, err := Holder(FileIDOf(st)); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("held by", pid, err)
	}
	c := exec.Command("/bin/sleep", "100")
	c.Stdout = f
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	pidfd, pid, err := Holder(FileIDOf(st))
	if err != nil || pid != c.Process.Pid {
		t.Error("held by", pid, err)
	}
	if err == nil {
		pidfd.Close()
	}
	_ = c.Process.Kill()
	_ = c.Wait()
	if _, pid, err := Holder(FileIDOf(st)); !errors.Is(err, os.ErrNotExist) {
		t.Error("held by", pid, err)
	}
}
