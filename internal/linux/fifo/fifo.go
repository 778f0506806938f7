// Package fifo makes the pipes of a process's standard streams.
//
// Output is written to named pipes. A FIFO in the place of an anonymous pipe can be opened again by its path, so
// its reader may die and be replaced while the writer notices nothing; and it
// has an owner, so that the writer's user can open it again by /dev/stderr.
//
// End of file is exact in one combination: the reader opens with Reader before
// anything else, the writer's end is opened with Both (a writer that also holds
// a reading end never gets SIGPIPE), and nobody else keeps that end.
package fifo

import (
	"os"

	"golang.org/x/sys/unix"
)

// Make makes a FIFO that only its owner may open. One that exists is replaced.
func Make(path string, uid, gid int) error {
	err := unix.Mkfifo(path, 0o600)
	if err == unix.EEXIST {
		if err = unix.Unlink(path); err == nil {
			err = unix.Mkfifo(path, 0o600)
		}
	}
	if err != nil {
		return &os.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	if uid == os.Geteuid() && gid == os.Getegid() {
		return nil
	}
	if err := unix.Lchown(path, uid, gid); err != nil {
		return &os.PathError{Op: "chown", Path: path, Err: err}
	}
	return nil
}

// Reader opens the reading end; it does not block, now or when read.
func Reader(path string) (int, error) { return open(path, unix.O_RDONLY|unix.O_NONBLOCK) }

// Both opens both ends in one descriptor, whose reads and writes block.
func Both(path string) (int, error) { return open(path, unix.O_RDWR) }

// Input makes a pipe without a name, for a process's standard input. Whoever
// opens a FIFO to read waits for a writer, and for ever if that has written all
// and gone; /dev/stdin of a pipe opens at once (fifo_open in the kernel's
// fs/pipe.c). The pipe belongs to uid and gid, so that they may open it. Reads
// block, writes do not.
func Input(uid, gid int) (r, w int, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return -1, -1, os.NewSyscallError("pipe2", err)
	}
	err = os.NewSyscallError("fchown", unix.Fchown(fds[0], uid, gid))
	if err == nil {
		err = os.NewSyscallError("fcntl", unix.SetNonblock(fds[1], true))
	}
	if err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return -1, -1, err
	}
	return fds[0], fds[1], nil
}

func open(path string, flags int) (int, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFIFO {
		err = unix.EINVAL
	}
	if err != nil {
		unix.Close(fd)
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// Size returns how many bytes the FIFO can hold.
func Size(fd int) (int, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0)
	return n, os.NewSyscallError("fcntl", err)
}

// Grow lets the FIFO hold n bytes. Pages are taken only as they are filled.
func Grow(fd, n int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, n)
	return os.NewSyscallError("fcntl", err)
}
