package process

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// FlockHolder returns a pidfd of a process that holds an flock on the open file
// f. That nobody does, or nobody whom this process may look into, is
// os.ErrNotExist.
func FlockHolder(f *os.File) (pidfd *os.File, pid int, err error) {
	st, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	id := FileIDOf(st)
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return nil, 0, err
	}
	defer locks.Close()
	lines := bufio.NewScanner(locks)
	for lines.Scan() {
		pid, inode := parseLock(lines.Text())
		if pid == 0 || inode != id.Ino {
			continue
		}
		// Looked at behind the pidfd: the pid cannot have become another's.
		if fd, err := Open(pid); err == nil {
			if holdsFlock(pid, id) {
				return fd, pid, nil
			}
			fd.Close()
		}
	}
	return nil, 0, fmt.Errorf("holder of the lock on %s: %w", f.Name(), os.ErrNotExist)
}

// parseLock reads a line of /proc/locks, as "1: FLOCK  ADVISORY  WRITE 42
// 00:1b:4711 0 EOF". Who waits has an arrow before the kind. A holder in a PID
// namespace that cannot be seen has the pid 0.
func parseLock(line string) (pid int, inode uint64) {
	f := strings.Fields(line)
	if len(f) < 6 || f[1] != "FLOCK" {
		return 0, 0
	}
	// The device is not compared: a file system may have others for stat(2).
	_, number, _ := strings.Cut(f[5][strings.IndexByte(f[5], ':')+1:], ":")
	inode, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0, 0
	}
	pid, err = strconv.Atoi(f[4])
	if err != nil || pid < 0 {
		return 0, 0
	}
	return pid, inode
}

// holdsFlock reports whether a process has the file open with an flock on it.
func holdsFlock(pid int, id FileID) bool {
	for fd := range descriptors(pid, id) {
		if info, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/fdinfo/" + fd); err == nil && bytes.Contains(info, []byte("FLOCK")) {
			return true
		}
	}
	return false
}
