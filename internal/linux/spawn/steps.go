package spawn

import (
	"strings"

	"golang.org/x/sys/unix"
)

// Exec ends a plan: one execve if file has a slash, else one per entry of
// path. A missing file is ENOENT; EACCES met anywhere with nothing found is
// EACCES; other errors (ENOEXEC, E2BIG, ETXTBSY) end the search.
func (p *Plan) Exec(file, path string, argv, env []string) {
	a, e := p.Strs(argv), p.Strs(env)
	if strings.Contains(file, "/") {
		p.Do("execve "+file, unix.SYS_EXECVE, p.Str(file), a, e)
		return
	}
	if file != "" {
		for d := range strings.SplitSeq(path, ":") {
			if d == "" {
				d = "."
			}
			p.Do("execve "+d+"/"+file, unix.SYS_EXECVE, p.Str(d+"/"+file), a, e).Flag(FlagSearch)
		}
	}
	p.Do("execve "+file, NrNotFound)
}

// ResetSignals unblocks all signals. A nursery's children have every handler
// reset already, but inherit its blocked mask.
func (p *Plan) ResetSignals() {
	p.Do("unblock signals", unix.SYS_RT_SIGPROCMASK, Int(unix.SIG_SETMASK), p.Bytes(make([]byte, 8)), Nil, Int(8))
}

// Stdio puts the descriptors StdinFD to StderrFD on 0 to 2.
func (p *Plan) Stdio() {
	for i := range 3 {
		p.Do("stdio", unix.SYS_DUP3, Int(StdinFD+i), Int(i), Nil)
	}
}

// CloseOnExec makes every descriptor from 3 on end with the execve. It is a
// second bolt: all that plans receive and open is close-on-exec already.
// Kernels before 5.11 lack the flag (EINVAL) and go without.
func (p *Plan) CloseOnExec() {
	p.Do("close on exec", unix.SYS_CLOSE_RANGE, Int(3), Int(uint32(0xffffffff)), Int(unix.CLOSE_RANGE_CLOEXEC)).Ignore(int(unix.EINVAL))
}

// TerminalOptions say how a child's terminal is made.
type TerminalOptions struct {
	Devpts     Arg // descriptor of the container's devpts; Nil: the path /dev/pts
	Console    Arg // descriptor of the file on which the terminal is bound; Nil: none
	UID        int
	Rows, Cols uint16 // 0: as the kernel makes it
}

// Terminal opens a pty of the container's own devpts, makes it the user's,
// sends its master over the socket StdinFD and puts the slave on 0 to 2. It
// goes after pivot_root (or setns of the mount namespace) and ends before
// setsid: of a pair of clones the second half must lead the session, see
// [Plan.ControllingTTY].
func (p *Plan) Terminal(o TerminalOptions) {
	const flags = unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC
	if o.Devpts == Nil {
		p.Do("open ptmx", unix.SYS_OPENAT, Int(unix.AT_FDCWD), p.Str("/dev/pts/ptmx"), Int(flags)).To(slotMaster)
	} else {
		p.Do("open ptmx", unix.SYS_OPENAT, o.Devpts, p.Str("ptmx"), Int(flags|unix.O_NOFOLLOW)).To(slotMaster)
	}
	p.Do("unlock pty", unix.SYS_IOCTL, Slot(slotMaster), Int(unix.TIOCSPTLCK), p.Bytes(make([]byte, 4)))
	p.Do("open slave", unix.SYS_IOCTL, Slot(slotMaster), Int(unix.TIOCGPTPEER), Int(flags)).To(slotSlave)
	p.Do("chown slave", unix.SYS_FCHOWN, Slot(slotSlave), Int(o.UID), Int(-1))
	if o.Rows > 0 {
		size := []byte{byte(o.Rows), byte(o.Rows >> 8), byte(o.Cols), byte(o.Cols >> 8), 0, 0, 0, 0}
		p.Do("window size", unix.SYS_IOCTL, Slot(slotSlave), Int(unix.TIOCSWINSZ), p.Bytes(size))
	}
	if o.Console != Nil {
		p.Do("console tree", unix.SYS_OPEN_TREE, Slot(slotSlave), p.Str(""), Int(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)).To(slotTree)
		p.Do("bind console", unix.SYS_MOVE_MOUNT, Slot(slotTree), p.Str(""), o.Console, p.Str(""), Int(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
		p.Do("close console tree", unix.SYS_CLOSE, Slot(slotTree))
	}
	p.sendMaster()
	for i := range 3 {
		p.Do("terminal on stdio", unix.SYS_DUP3, Slot(slotSlave), Int(i), Nil)
	}
	p.Do("close slave", unix.SYS_CLOSE, Slot(slotSlave))
}

// sendMaster sends the descriptor in slotMaster over StdinFD and closes it.
func (p *Plan) sendMaster() {
	// One control message: length, level and type, the descriptor (known only
	// when the plan runs), padding.
	control := p.Words(Int(unix.SizeofCmsghdr+4), Int(uint64(unix.SOL_SOCKET)|uint64(unix.SCM_RIGHTS)<<32), Nil)
	iov := p.Words(p.Str("m"), Int(1))
	msg := p.Words(Nil, Nil, iov, Int(1), control, Int(24), Nil)
	p.Do("master into message", NrStore, control.Plus(unix.SizeofCmsghdr), Slot(slotMaster))
	p.Do("send master", unix.SYS_SENDMSG, Int(StdinFD), msg, Int(unix.MSG_NOSIGNAL))
	p.Do("close master", unix.SYS_CLOSE, Slot(slotMaster))
}

// ControllingTTY makes descriptor 0 the controlling terminal of a new session.
func (p *Plan) ControllingTTY() {
	p.Do("setsid", unix.SYS_SETSID)
	p.Do("controlling terminal", unix.SYS_IOCTL, Int(0), Int(unix.TIOCSCTTY), Nil)
}

// Gate writes one byte to out and waits for a byte on in; end of file there
// ends the child.
func (p *Plan) Gate(out, in Arg) {
	b := p.Bytes(make([]byte, 8))
	p.Do("gate reached", unix.SYS_WRITE, out, b, Int(1))
	// Pipes made by Go do not block. A filter may forbid the call: then they must.
	p.Do("gate blocks", unix.SYS_FCNTL, in, Int(unix.F_SETFL), Nil).IgnoreAll()
	p.Do("gate", unix.SYS_READ, in, b, Int(1)).Flag(FlagZeroExits)
}

// ParkStep ends the first plan of a parked child. Its starter passes a socket
// as StdinFD; the child keeps it at 3, closes all else from 4 on (so the
// report pipe's end of file says: parked) and waits for the second plan. What
// comes then has the descriptors of a cold start. End of file on the socket
// ends the child.
func (p *Plan) ParkStep() {
	p.Do("park socket", unix.SYS_DUP3, Int(StdinFD), Int(CommandFD), Int(unix.O_CLOEXEC))
	p.Do("close all but the park socket", unix.SYS_CLOSE_RANGE, Int(ReportFD), Int(uint32(0xffffffff)), Nil)
	p.receive("park", SlotPtr(slotNext), 8)
	p.Do("second plan", NrSwitch, Slot(slotNext))
}

// receive takes a message of n bytes and descriptors from CommandFD.
func (p *Plan) receive(name string, to Arg, n int) {
	const room = 16 + 4*256
	control := p.Bytes(make([]byte, room))
	iov := p.Words(to, Int(n))
	msg := p.Words(Nil, Nil, iov, Int(1), control, Int(room), Nil)
	// The kernel shortens the length to what came.
	p.Do("room for descriptors", NrStore, msg.Plus(40), Int(room))
	p.Do(name, unix.SYS_RECVMSG, Int(CommandFD), msg, Int(unix.MSG_CMSG_CLOEXEC)).Flag(FlagZeroExits)
}

// CloneSecond ends the first half of a pair: it keeps the report pipe, closes
// all else, clones the second half into the PID namespace joined before (a
// child of the keeper) and exits. The second half reports at 3; its plan was
// loaded with [Slab.Pair].
func (p *Plan) CloneSecond() {
	p.KeepForSecond()
	p.CloneKept()
}

// KeepForSecond moves the report pipe to 3 and the descriptors keep
// (ascending) to 4 and following, closes all else, and returns where the kept
// are. It is for plans that cannot do so right before the clone: a filter that
// is in force by then may not know the calls.
func (p *Plan) KeepForSecond(keep ...Arg) []Arg {
	p.Do("report at 3", unix.SYS_DUP3, Int(ReportFD), Int(CommandFD), Int(unix.O_CLOEXEC))
	p.Do("report there", NrStore, HeaderPtr(offReport), Int(CommandFD+1))
	at := make([]Arg, len(keep))
	for i, k := range keep {
		at[i] = Int(ReportFD + i)
		p.Do("keep", unix.SYS_DUP3, k, at[i], Int(unix.O_CLOEXEC))
	}
	p.Do("close all but the report", unix.SYS_CLOSE_RANGE, Int(ReportFD+len(keep)), Int(uint32(0xffffffff)), Nil)
	return at
}

// CloneKept clones the second half after KeepForSecond.
//
// It is clone, not clone3: Docker's seccomp profile, which is in force by now,
// answers ENOSYS to the latter. The kernel writes the second's pid into memory
// that the second does not have.
func (p *Plan) CloneKept() {
	flags := unix.CLONE_PARENT | unix.CLONE_PARENT_SETTID | int(unix.SIGCHLD)
	p.Do("clone second", unix.SYS_CLONE, Int(flags), Nil, HeaderPtr(offPid2), Nil, Nil).Child(slotSecond).Flag(FlagParentExits)
}

// WaitByte waits for a byte on in; end of file there ends the child.
func (p *Plan) WaitByte(in Arg) {
	p.Do("wait blocks", unix.SYS_FCNTL, in, Int(unix.F_SETFL), Nil).IgnoreAll()
	p.Do("wait", unix.SYS_READ, in, p.Bytes(make([]byte, 8)), Int(1)).Flag(FlagZeroExits)
}

// Preserve gives the program the descriptors at (ascending, each above its
// place) as 3, 4, 5 …, and moves the report out of their way. It goes behind
// everything that uses a descriptor.
func (p *Plan) Preserve(report int, at []Arg) {
	if len(at) == 0 {
		return
	}
	high := int(at[len(at)-1].v) + 1
	p.Do("report out of the way", unix.SYS_DUP3, Int(report), Int(high), Int(unix.O_CLOEXEC))
	p.Do("report there", NrStore, HeaderPtr(offReport), Int(high+1))
	for i, a := range at {
		if int(a.v) == CommandFD+i { // dup3 refuses
			p.Do("preserve", unix.SYS_FCNTL, a, Int(unix.F_SETFD), Nil)
			continue
		}
		p.Do("preserve", unix.SYS_DUP3, a, Int(CommandFD+i), Nil)
	}
}
