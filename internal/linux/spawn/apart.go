package spawn

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// atOnce is how many messages a process writes.
const atOnce = 4000

// WriteApart writes messages to a descriptor, each with one call, in a process of its
// own: so this one can be killed while the kernel does not let go of who writes, which
// may be because it waits for this one. That there is nobody for a message (ENOENT) is
// no error.
func WriteApart(fd int, messages [][]byte) error {
	for len(messages) > 0 {
		n := min(len(messages), atOnce)
		if err := writeApart(fd, messages[:n]); err != nil {
			return err
		}
		messages = messages[n:]
	}
	return nil
}

func writeApart(fd int, messages [][]byte) error {
	r, err := NewRegion(1)
	if err != nil {
		return err
	}
	defer r.Close()
	p := NewPlan()
	for _, m := range messages {
		p.Do("write", unix.SYS_WRITE, Int(fd), p.Bytes(m), Int(len(m))).Ignore(int(unix.ENOENT))
	}
	p.Do("done", unix.SYS_EXIT_GROUP, Nil)
	s := r.Get()
	if err := s.load(p.Image(), firstOff); err != nil {
		return err
	}
	// The child needs no memory of its own: it changes nothing but its plan.
	ca := s.cloneArgs()
	*ca = cloneArgs{flags: unix.CLONE_VM | unix.CLONE_FILES | cloneClearSighand, exitSignal: uint64(unix.SIGCHLD)}
	pid, e := cloneRun(uintptr(unsafe.Pointer(ca)), unsafe.Sizeof(*ca), uintptr(s.addr+firstOff))
	if e != 0 {
		return fmt.Errorf("clone: %w", syscall.Errno(e))
	}
	var ws unix.WaitStatus
	for {
		if _, err := unix.Wait4(int(pid), &ws, 0, nil); err != unix.EINTR {
			if err != nil {
				return fmt.Errorf("wait4: %w", err)
			}
			break
		}
	}
	if ws != 0 {
		return fmt.Errorf("write apart: %w", syscall.Errno(*(*uint64)(unsafe.Pointer(&s.word(offErrno)[0]))))
	}
	return nil
}
