package seccomp

import (
	"fmt"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// under runs f in a thread of its own that lives under the filter, and returns
// what it says. The thread ends afterwards; nobody else is confined.
func under(t *testing.T, prog []byte, f func() error) error {
	t.Helper()
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			result <- err
			return
		}
		filter := unix.SockFprog{Len: uint16(len(prog) / 8), Filter: (*unix.SockFilter)(unsafe.Pointer(&prog[0]))}
		if _, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&filter))); errno != 0 {
			result <- fmt.Errorf("the kernel refuses the filter: %w", errno)
			return
		}
		result <- f()
	}()
	return <-result
}

func TestKernelTakesTheFilter(t *testing.T) {
	prog, err := Compile(defaultProfile(t))
	if err != nil {
		t.Fatal(err)
	}
	call := func(nr, a, b uintptr) unix.Errno {
		_, _, errno := unix.RawSyscall(nr, a, b, 0)
		return errno
	}
	err = under(t, prog, func() error {
		for name, c := range map[string]struct {
			got, want unix.Errno
		}{
			"getpid":         {call(unix.SYS_GETPID, 0, 0), 0},
			"close(-1)":      {call(unix.SYS_CLOSE, ^uintptr(0), 0), unix.EBADF},
			"unshare":        {call(unix.SYS_UNSHARE, unix.CLONE_NEWNS, 0), unix.EPERM},
			"setns":          {call(unix.SYS_SETNS, ^uintptr(0), 0), unix.EPERM},
			"keyctl":         {call(unix.SYS_KEYCTL, 0, 0), unix.EPERM},
			"io_uring_setup": {call(unix.SYS_IO_URING_SETUP, 0, 0), unix.EPERM},
			"clone3":         {call(unix.SYS_CLONE3, 0, 0), unix.ENOSYS},
			"personality":    {call(unix.SYS_PERSONALITY, 0xffffffff, 0), 0},
			"personality(1)": {call(unix.SYS_PERSONALITY, 0x40000, 0), unix.EPERM},
			"socket(AF_ALG)": {call(unix.SYS_SOCKET, unix.AF_ALG, unix.SOCK_SEQPACKET), unix.EPERM},
		} {
			if c.got != c.want {
				return fmt.Errorf("%s: %v, want %v", name, c.got, c.want)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestKernelTakesAFilterOfTheGreatestLength(t *testing.T) {
	prog := make([]instruction, 0, maxInstructions)
	for len(prog) < maxInstructions-1 {
		prog = append(prog, instruction{opLoad, 0, 0, offNr})
	}
	prog = append(prog, instruction{opRet, 0, 0, retAllow})
	if err := under(t, encode(prog), func() error { return nil }); err != nil {
		t.Error(err)
	}
}
