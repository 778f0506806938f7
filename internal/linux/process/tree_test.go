package process

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// TestKillTree: a pipe that all of them have ends with the last one.
func TestKillTree(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("/bin/sh", "-c", "(sh -c 'sleep 1000 & echo >&3; wait' & wait) & sleep 1000")
	cmd.ExtraFiles = []*os.File{w}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	lines := bufio.NewReader(r)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	fd, err := Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	if ended, err := KillTree(fd, cmd.Process.Pid, 10*time.Second); !ended || err != nil {
		t.Error(ended, err)
	}
	if b, err := io.ReadAll(lines); err != nil || len(b) > 0 {
		t.Errorf("%q %v", b, err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the root of the tree has not been killed")
	}
}

func TestFlockHolder(t *testing.T) {
	f, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	holder := func() int {
		fd, pid, err := FlockHolder(f)
		if err == nil {
			fd.Close()
		} else if !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		return pid
	}
	if pid := holder(); pid != 0 {
		t.Errorf("%d holds what is not locked", pid)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if pid := holder(); pid != os.Getpid() {
		t.Errorf("%d holds it", pid)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if pid := holder(); pid != 0 {
		t.Errorf("%d holds what is not locked any more", pid)
	}
}

func TestLinesOfLocks(t *testing.T) {
	for line, want := range map[string]int{
		"1: FLOCK  ADVISORY  WRITE 42 00:1b:4711 0 EOF":       42,
		"1: -> FLOCK  ADVISORY  WRITE 43 00:1b:4711 0 EOF":    0,
		"2: POSIX  ADVISORY  WRITE 44 00:1b:4711 0 EOF":       0,
		"3: FLOCK  ADVISORY  WRITE 0 00:1b:4711 0 EOF":        0,
		"4: FLOCK  ADVISORY  READ 45 <none>:4711 0 EOF":       0,
		"5: FLOCK  ADVISORY  READ 45":                         0,
		"6: FLOCK  ADVISORY  READ -3 fd:00:18446744073 0 EOF": 0,
	} {
		if pid, inode := parseLock(line); pid != want || want != 0 && inode != 4711 {
			t.Errorf("%s: %d %d", line, pid, inode)
		}
	}
}
