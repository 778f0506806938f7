// Package pidfd wraps descriptors of processes: unlike a number, a descriptor
// never comes to mean another process.
package pidfd

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Open returns a descriptor of the process. It is readable (poll) from the
// moment the process has ended.
func Open(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open "+strconv.Itoa(pid), err)
	}
	return os.NewFile(uintptr(fd), "pid "+strconv.Itoa(pid)), nil
}

// Signal sends a signal. A process that has been reaped is os.ErrProcessDone.
func Signal(f *os.File, s syscall.Signal) error {
	err := unix.PidfdSendSignal(int(f.Fd()), s, nil, 0)
	runtime.KeepAlive(f)
	if errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	}
	return os.NewSyscallError("pidfd_send_signal", err)
}

// Ended reports whether the process has ended, reaped or not.
func Ended(f *os.File) (bool, error) {
	p := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, 0)
		if err == unix.EINTR {
			continue
		}
		runtime.KeepAlive(f)
		return n > 0, os.NewSyscallError("poll", err)
	}
}
