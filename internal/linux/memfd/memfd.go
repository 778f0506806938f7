// Package memfd makes files that exist only in memory, and seals them: sealed
// contents can never change again, by nobody.
package memfd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

const allSeals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL

// New returns an empty file, open for reading and writing, close-on-exec.
func New(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL { // before 6.3
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Program returns a sealed, executable copy of what r holds. Where the
// sysctl vm.memfd_noexec is 2 the kernel refuses.
func Program(name string, r io.Reader) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if err == unix.EINVAL { // before 6.3
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := io.Copy(f, r); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := Seal(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Seal forbids every change of the contents. The file must not be mapped for
// writing.
func Seal(f *os.File) error {
	var err error
	e := control(f, func(fd uintptr) { _, err = unix.FcntlInt(fd, unix.F_ADD_SEALS, allSeals) })
	return errors.Join(e, err)
}

// Sealed reports whether f can never change.
func Sealed(f *os.File) bool {
	var seals int
	err := errors.ErrUnsupported
	e := control(f, func(fd uintptr) { seals, err = unix.FcntlInt(fd, unix.F_GET_SEALS, 0) })
	return e == nil && err == nil && seals&allSeals == allSeals
}

// Exec replaces the calling program by f. It returns only on failure, and then
// the program is as it was.
func Exec(f *os.File, argv, env []string) error {
	// Go lowers the limit of files before an exec to what the program found.
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	var err error
	e := control(f, func(fd uintptr) { err = unix.Exec("/proc/self/fd/"+strconv.Itoa(int(fd)), argv, env) })
	return errors.Join(e, err, os.NewSyscallError("setrlimit", syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)))
}

func control(f *os.File, do func(fd uintptr)) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return c.Control(do)
}
