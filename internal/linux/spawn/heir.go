package spawn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Heir is a tiny process that shares all descriptors with this one. When this one
// has ended, however that was, the heir has a child execute a program, which then has
// those that are not close-on-exec, by the same numbers. When the child ends the heir
// does it again; so a child that goes on without an heir of that kind kills it.
//
// It has no memory but the interpreter's page and its plans, no signal ends it but
// SIGKILL; root directory, namespaces and rights are those of this process.
type Heir struct {
	pid   int
	r     *Region
	pidfd int
}

// Will is what an heir is to do.
type Will struct {
	Program   int // a descriptor
	Argv, Env []string

	// Note is a file in which the heir writes, at a place, its process number: eight
	// bytes, little endian.
	Note   int
	NoteAt int64
}

// NewHeir makes one.
func NewHeir(w Will) (*Heir, error) {
	r, err := NewRegion(1)
	if err != nil {
		return nil, err
	}
	h := &Heir{r: r}
	if h.pidfd, err = unix.PidfdOpen(unix.Getpid(), 0); err != nil {
		return nil, h.undo(fmt.Errorf("pidfd_open: %w", err))
	}
	s := r.Get()
	if err := s.loadHeir(w, h.pidfd); err != nil {
		return nil, h.undo(err)
	}
	ca := s.cloneArgs()
	*ca = cloneArgs{flags: unix.CLONE_FILES | cloneClearSighand, exitSignal: uint64(unix.SIGCHLD)}
	pid, e := cloneRun(uintptr(unsafe.Pointer(ca)), unsafe.Sizeof(*ca), uintptr(s.addr+firstOff))
	if e != 0 {
		return nil, h.undo(fmt.Errorf("clone heir: %w", syscall.Errno(e)))
	}
	h.pid = int(pid)
	if err := h.ready(w); err != nil {
		return nil, errors.Join(err, h.Kill(), h.Wait(), h.undo(nil))
	}
	return h, nil
}

// patience bounds how long an heir may take to become what it is.
const patience = 10 * time.Second

// ready waits until the heir has given up what is this process's. Until then it looks
// like it, and who wants to kill this one may kill both.
func (h *Heir) ready(w Will) error {
	var b [8]byte
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Microsecond) {
		if _, err := unix.Pread(w.Note, b[:], w.NoteAt); err != nil {
			return fmt.Errorf("read the heir's note: %w", err)
		}
		if int(binary.LittleEndian.Uint64(b[:])) == h.pid {
			return nil
		}
	}
	return fmt.Errorf("heir %d does not begin", h.pid)
}

func (h *Heir) undo(err error) error {
	h.Free()
	return err
}

// loadHeir puts three plans into the slab: what the heir does once, what it does each
// time, and what its child does.
func (s *Slab) loadHeir(w Will, pidfd int) error {
	once := NewPlan()
	all := once.Bytes([]byte{255, 255, 255, 255, 255, 255, 255, 255})
	once.Do("block signals", unix.SYS_RT_SIGPROCMASK, Int(unix.SIG_SETMASK), all, Nil, Int(8))
	s.unmapAllButCode(once, nil)
	once.Do("own session", unix.SYS_SETSID).IgnoreAll()
	once.Do("name", unix.SYS_PRCTL, Int(unix.PR_SET_NAME), once.Str("tare-heir"))
	once.Do("own number", unix.SYS_GETPID).To(0)
	once.Do("note", unix.SYS_PWRITE64, Int(w.Note), SlotPtr(0), Int(8), Int(w.NoteAt))
	once.Do("loop", NrSwitch, Slot(slotNext))

	loop := NewPlan()
	pollfd := loop.Words(Int(uint64(pidfd)|unix.POLLIN<<32), Nil)
	// The kernel puts the child's pidfd in the place of the first.
	child := loop.Words(Int(cloneClearSighand|unix.CLONE_PIDFD), pollfd, Nil, Nil, Int(uint64(unix.SIGCHLD)), Nil, Nil, Nil, Nil, Nil, Nil)
	loop.Do("wait for the end", unix.SYS_POLL, pollfd, Int(1), Int(-1))
	loop.Do("clone", unix.SYS_CLONE3, child, Int(unsafe.Sizeof(cloneArgs{}))).Child(slotChild)
	loop.Do("not too often", unix.SYS_NANOSLEEP, loop.Words(Nil, Int(20_000_000)), Nil)
	loop.Do("again", NrSwitch, Slot(slotNext))

	exec := NewPlan()
	exec.ResetSignals()
	exec.Do("execute", unix.SYS_EXECVEAT, Int(w.Program), exec.Str(""), exec.Strs(w.Argv), exec.Strs(w.Env), Int(unix.AT_EMPTY_PATH))

	for _, x := range []struct {
		p   *Plan
		off int
	}{{once, firstOff}, {loop, secondOff}, {exec, movedOff}} {
		if err := s.load(x.p.Image(), x.off); err != nil {
			return err
		}
		binary.LittleEndian.PutUint64(s.mem[x.off+offSlots+8*slotNext:], s.addr+secondOff)
		binary.LittleEndian.PutUint64(s.mem[x.off+offSlots+8*slotChild:], s.addr+movedOff)
	}
	return nil
}

// Pid is the heir's own.
func (h *Heir) Pid() int { return h.pid }

// Wait waits until somebody has ended the heir, and reaps it.
func (h *Heir) Wait() error {
	for {
		_, err := unix.Wait4(h.pid, nil, 0, nil)
		if err != unix.EINTR {
			return err
		}
	}
}

// Kill ends the heir: nothing is executed when this process ends. It must be
// waited for.
func (h *Heir) Kill() error { return unix.Kill(h.pid, unix.SIGKILL) }

// Free gives back what the heir needed. It must have been waited for.
func (h *Heir) Free() {
	if h.pidfd > 0 {
		unix.Close(h.pidfd)
	}
	_ = h.r.Close() // nothing follows from it
}

// KillParent kills the parent of this process, if it is the one that is expected.
func KillParent(pid int) error {
	if pid <= 1 {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(fd)
	if unix.Getppid() != pid { // it has ended, and the number is another's
		return nil
	}
	return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
}
