// Package process is what a parent of many processes needs of the kernel
// beside fork and exec: to see which child has ended without reaping it, to
// hold and watch processes that are not its children by descriptors, which
// unlike numbers never come to mean another process, and to hide itself from
// others.
package process

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Hide makes the process non-dumpable: others of its user cannot trace it or
// read its memory, and its /proc entries belong to root. It ends with an exec.
func Hide() error {
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

// Subreaper makes the process the parent of descendants whose own parent dies.
func Subreaper() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// PeekExit waits until a child has ended and returns its pid, leaving it to be
// reaped. ECHILD means that there are no children.
func PeekExit() (int, error) {
	var info [128]byte // siginfo_t
	for {
		err := unix.Waitid(unix.P_ALL, 0, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOWAIT|unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, err
		}
		const pid = 16 // behind si_signo, si_errno, si_code and padding
		return int(binary.NativeEndian.Uint32(info[pid:])), nil
	}
}

// Reap takes the status of an ended child.
func Reap(pid int) (syscall.WaitStatus, error) {
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &ws, unix.WNOHANG|unix.WALL, nil)
		if err != unix.EINTR {
			return syscall.WaitStatus(ws), err
		}
	}
}

// StartTicks is when a process was started, in ticks since boot. With the pid
// it names a process for good.
func StartTicks(pid int) (uint64, error) { return stat(pid, 22) }

// Parent returns the pid of a process's parent.
func Parent(pid int) (int, error) {
	n, err := stat(pid, 4)
	return int(n), err
}

// Descends reports whether a process is a child of another, or of its children.
func Descends(pid, from int) bool {
	for pid > 1 {
		parent, err := Parent(pid)
		if err != nil {
			return false
		}
		if pid = parent; pid == from {
			return true
		}
	}
	return false
}

// exiting is PF_EXITING of include/linux/sched.h: set before the files of a
// process are closed, while its pidfd says that it has ended only behind that.
const exiting = 0x4

// Ending reports whether a process has begun to end.
func Ending(pid int) bool {
	flags, err := stat(pid, 9)
	return err == nil && flags&exiting != 0
}

// stat returns a field of /proc/PID/stat, counted from 1, behind the second.
func stat(pid, field int) (uint64, error) {
	b, err := readProc("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// The second field is the name in parentheses and may hold anything.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) <= field-3 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, b)
	}
	return strconv.ParseUint(string(fields[field-3]), 10, 64)
}

// readProc reads a small file with the fewest calls.
func readProc(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	b := make([]byte, 4096)
	n, err := unix.Read(fd, b)
	return b[:max(n, 0)], err
}

// Open returns a pidfd that blocks nobody. It is readable (poll) from the
// moment the process has ended. A process that is gone is os.ErrProcessDone.
func Open(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, fmt.Errorf("pid %d: %w", pid, os.ErrProcessDone)
	}
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open "+strconv.Itoa(pid), err)
	}
	return os.NewFile(uintptr(fd), "pidfd:"+strconv.Itoa(pid)), nil
}

// Reopen returns a pidfd of the process that had the pid and StartTicks;
// os.ErrProcessDone if the pid is free or another's by now.
func Reopen(pid int, ticks uint64) (*os.File, error) {
	f, err := Open(pid)
	if err != nil {
		return nil, err
	}
	// Compared after the pidfd is open: now the pid cannot change hands.
	if now, err := StartTicks(pid); err != nil || now != ticks {
		f.Close()
		return nil, fmt.Errorf("pid %d is another process now: %w", pid, os.ErrProcessDone)
	}
	return f, nil
}

// Signal sends a signal to the process of a pidfd. One that has been reaped is
// os.ErrProcessDone.
func Signal(pidfd *os.File, sig syscall.Signal) error {
	err := unix.PidfdSendSignal(descriptor(pidfd), sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	}
	return os.NewSyscallError("pidfd_send_signal", err)
}

// Ended reports whether the process of a pidfd has ended, reaped or not.
func Ended(pidfd *os.File) (bool, error) {
	ended, err := Poll(nil, []*os.File{pidfd}, false, 0)
	return len(ended) > 0, err
}

// TakeFD returns a duplicate of a descriptor of the process of a pidfd. Kernel 5.6.
func TakeFD(pidfd *os.File, fd int) (*os.File, error) {
	n, err := unix.PidfdGetfd(descriptor(pidfd), fd, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_getfd", err)
	}
	return os.NewFile(uintptr(n), "taken"), nil
}

// SignalNumber returns the number of a signal's name ("SIGTERM", "SIGRTMIN+3"),
// 0 if there is none.
func SignalNumber(name string) syscall.Signal {
	const rtmin, rtmax = 34, 64
	for prefix, base := range map[string]int{"SIGRTMIN": rtmin, "SIGRTMAX": rtmax} {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		n, err := strconv.Atoi("0" + strings.TrimLeft(rest, "+-"))
		if base == rtmax {
			n = -n
		}
		if err != nil || base+n < rtmin || base+n > rtmax {
			return 0
		}
		return syscall.Signal(base + n)
	}
	return unix.SignalNum(name)
}

// pidfdInfo is the kernel's struct pidfd_info as of 6.15.
type pidfdInfo struct {
	mask, cgroup                                                              uint64
	pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid, status uint32
}

const (
	infoExit  = 1 << 3
	getInfo   = 0xc040ff0b // _IOWR(0xff, 11, 64 bytes)
	pollReady = unix.POLLIN | unix.POLLHUP
)

// Status is how the process of a pidfd ended. It is known (kernel 6.15) once
// somebody has reaped it.
func Status(pidfd *os.File) (syscall.WaitStatus, bool) {
	i := pidfdInfo{mask: infoExit}
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(descriptor(pidfd)), getInfo, uintptr(unsafe.Pointer(&i)))
	if e != 0 || i.mask&infoExit == 0 {
		return 0, false
	}
	return syscall.WaitStatus(i.status), true
}

// Poll waits for up to ms milliseconds (-1: for ever) until one of the pidfds'
// processes has ended, or wake is readable; reaped asks whether they have been
// reaped as well, which kernels before 6.9 do not tell. It returns the
// indexes. A descriptor that is none is an error, for nothing would be waited for.
func Poll(wake *os.File, pidfds []*os.File, reaped bool, ms int) ([]int, error) {
	events := int16(unix.POLLIN)
	if reaped {
		events = 0 // POLLHUP is always reported
	}
	p := make([]unix.PollFd, 0, len(pidfds)+1)
	for _, f := range pidfds {
		p = append(p, unix.PollFd{Fd: int32(descriptor(f)), Events: events})
	}
	if wake != nil {
		p = append(p, unix.PollFd{Fd: int32(descriptor(wake)), Events: unix.POLLIN})
	}
	if err := poll(p, ms); err != nil {
		return nil, err
	}
	var out []int
	var bad error
	for i, f := range pidfds {
		if p[i].Revents&pollReady != 0 {
			out = append(out, i)
		}
		if p[i].Revents&unix.POLLNVAL != 0 {
			bad = errors.Join(bad, &os.PathError{Op: "poll", Path: f.Name(), Err: unix.EBADF})
		}
	}
	return out, bad
}

// poll is poll(2), which a signal does not end.
func poll(p []unix.PollFd, ms int) error {
	end := time.Now().Add(time.Duration(ms) * time.Millisecond)
	for {
		_, err := unix.Poll(p, ms)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
		if ms >= 0 {
			ms = int(max(0, time.Until(end).Milliseconds()))
		}
	}
}

// descriptor is the number of f, -1 if f is closed. File.Fd may make the open
// file blocking, for everybody who shares it.
func descriptor(f *os.File) int {
	n := -1
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { n = int(fd) })
	}
	return n
}
