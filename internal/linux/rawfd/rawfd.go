// Package rawfd reads and writes descriptors that are no os.File: an os.File of
// something that can be polled is also watched by Go's poller, which a program
// with a loop of its own for thousands of descriptors does not want.
package rawfd

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// First is where descriptors are put that live long, out of the way of numbers
// that mean something to a child.
const First = 64

// Read is read(2), repeated when a signal interrupts it.
func Read(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Read(fd, p)
		if err == unix.EINTR {
			continue
		}
		return max(n, 0), err
	}
}

// Write is write(2), repeated when a signal interrupts it.
func Write(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Write(fd, p)
		if err == unix.EINTR {
			continue
		}
		return max(n, 0), err
	}
}

// Close closes fd.
func Close(fd int) error { return os.NewSyscallError("close", unix.Close(fd)) }

// Dup returns a duplicate that an exec closes.
func Dup(fd int) (int, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, First)
	return n, os.NewSyscallError("fcntl", err)
}

// DupFile returns a duplicate of the descriptor of f.
func DupFile(f *os.File) (int, error) {
	n := -1
	err := control(f, func(fd int) (err error) {
		n, err = Dup(fd)
		return err
	})
	return n, err
}

// Number is the number of f's descriptor; it is valid while f is open. File.Fd
// would make the open file blocking for all who share it.
func Number(f *os.File) (int, error) {
	n := -1
	err := control(f, func(fd int) error {
		n = fd
		return nil
	})
	return n, err
}

func control(f *os.File, do func(fd int) error) error {
	if f == nil {
		return os.ErrInvalid
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var done error
	if err := raw.Control(func(fd uintptr) { done = do(int(fd)) }); err != nil {
		return err
	}
	return done
}

// Nonblock makes reads and writes of fd return EAGAIN instead of waiting, for
// all its duplicates.
func Nonblock(fd int) error { return os.NewSyscallError("fcntl", unix.SetNonblock(fd, true)) }

// KeepOverExec lets fd stay open in an exec, or not.
func KeepOverExec(fd int, keep bool) error {
	flag := unix.FD_CLOEXEC
	if keep {
		flag = 0
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, flag)
	return os.NewSyscallError("fcntl", err)
}

// Null opens /dev/null, checked to be that device.
func Null() (int, error) {
	fd, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) {
		unix.Close(fd)
		return -1, &os.PathError{Op: "open", Path: os.DevNull, Err: unix.ENODEV}
	}
	return fd, nil
}

// Nameless makes a file without a name in a directory: it is gone when its
// last descriptor is.
func Nameless(dir *os.File) (*os.File, error) {
	raw, err := dir.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	cerr := raw.Control(func(d uintptr) {
		fd, err = unix.Openat(int(d), ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err == unix.EOPNOTSUPP || err == unix.EISDIR {
			fd, err = namelessLegacy(int(d))
		}
	})
	if cerr != nil {
		return nil, cerr
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir.Name(), Err: err}
	}
	return os.NewFile(uintptr(fd), "nameless"), nil
}

// namelessLegacy makes and unlinks a file, where the file system (FUSE, NFS)
// has no O_TMPFILE.
func namelessLegacy(dir int) (int, error) {
	const name = ".nameless"
	for {
		fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err != nil && err != unix.EEXIST {
			return -1, err
		}
		if uerr := unix.Unlinkat(dir, name, 0); uerr != nil && uerr != unix.ENOENT && err == nil {
			unix.Close(fd)
			return -1, uerr
		}
		if err == nil {
			return fd, nil
		}
	}
}

// Errors that the callers of Read and Write tell apart.
const (
	Again   = syscall.EAGAIN
	NoPeer  = syscall.EPIPE // nobody reads any more
	NoSlave = syscall.EIO   // a terminal without a process
)
