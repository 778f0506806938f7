// Package fifo makes named pipes and opens their ends.
//
// A FIFO in the place of an anonymous pipe can be opened again by its path, so
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

// Writer opens the writing end; it does not block. Without a reader it fails
// with ENXIO.
func Writer(path string) (int, error) { return open(path, unix.O_WRONLY|unix.O_NONBLOCK) }

// Both opens both ends in one descriptor, whose reads and writes block.
func Both(path string) (int, error) { return open(path, unix.O_RDWR) }

// BlockingReader opens the reading end without waiting for a writer; its reads
// block.
func BlockingReader(path string) (int, error) {
	fd, err := Reader(path)
	if err != nil {
		return -1, err
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("fcntl", err)
	}
	return fd, nil
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
