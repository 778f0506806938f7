package process

import (
	"fmt"
	"iter"
	"os"
	"strconv"
	"syscall"
)

// FileID is what tells a file from all others of a host, as long as it is there.
type FileID struct{ Dev, Ino uint64 }

// FileIDOf returns the ID of a file.
func FileIDOf(st os.FileInfo) FileID {
	s := st.Sys().(*syscall.Stat_t)
	return FileID{s.Dev, s.Ino}
}

// Holder returns a pidfd of a process, not this one, that has a file open. That nobody
// has, or nobody whom this process may look into, is os.ErrNotExist. All descriptors of
// all processes are looked at.
func Holder(id FileID) (pidfd *os.File, pid int, err error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, 0, err
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, 0, err
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == os.Getpid() || !holds(pid, id) {
			continue
		}
		// Looked at once more behind the pidfd: the pid cannot have become another's.
		if fd, err := Open(pid); err == nil {
			if holds(pid, id) {
				return fd, pid, nil
			}
			fd.Close()
		}
	}
	return nil, 0, fmt.Errorf("holder of file %d on device %d: %w", id.Ino, id.Dev, os.ErrNotExist)
}

// holds reports whether a process has a file open.
func holds(pid int, id FileID) bool {
	for range descriptors(pid, id) {
		return true
	}
	return false
}

// descriptors goes through the names of a process's descriptors of a file.
func descriptors(pid int, id FileID) iter.Seq[string] {
	return func(yield func(string) bool) {
		dir := "/proc/" + strconv.Itoa(pid) + "/fd"
		fds, err := os.ReadDir(dir)
		if err != nil {
			return
		}
		for _, fd := range fds {
			if open, err := os.Stat(dir + "/" + fd.Name()); err == nil && FileIDOf(open) == id && !yield(fd.Name()) {
				return
			}
		}
	}
}
