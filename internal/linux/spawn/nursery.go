package spawn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Nursery is a small single-threaded process that clones children for its
// parent. It holds no memory but the interpreter's page and the region, so a
// child gives nothing away and an out-of-memory kill of one hits nobody else.
//
// A nursery ends when its socket closes: with its parent, or by [Nursery.Close].
type Nursery struct {
	pid  int
	slab *Slab

	mu   sync.Mutex // one request at a time
	sock *os.File   // nil: closed; +checklocks:mu
}

// softFiles is the kernel's own soft limit of open files.
const softFiles = 1024

// userTop is the end of the address space.
const userTop = 0x7ffffffff000

// NewNursery forks one. The caller reaps it, and then calls [Nursery.Free].
func (r *Region) NewNursery() (*Nursery, error) { return r.newNursery(nil, nil) }

// NewNurseryIn forks one that joins a user namespace before it clones anybody:
// its children are in that namespace, and what Options.Flags make for them
// belongs to it. Who is root there can end the nursery, but not look into it.
// It has nothing of our program where the kernel allows that (CanDisguise).
func (r *Region) NewNurseryIn(userns *os.File) (*Nursery, error) {
	if !CanDisguise() {
		return r.newNursery(nil, userns)
	}
	d, err := newDisguise()
	if err != nil {
		return nil, err
	}
	defer d.close()
	return r.newNursery(d, userns)
}

// newNursery forks one; with a disguise it has nothing of our program.
func (r *Region) newNursery(d *disguise, userns *os.File) (*Nursery, error) {
	sp, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("nursery: %w", err)
	}
	defer func() { unix.Close(sp[1]) }()
	sock := os.NewFile(uintptr(sp[0]), "nursery")
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, errors.Join(err, sock.Close())
	}
	defer null.Close()
	s := r.Get()
	if s == nil {
		return nil, errors.Join(syscall.EAGAIN, sock.Close())
	}
	if err := s.loadNursery(sp[1], descriptor(null), d, userns); err != nil {
		s.Put()
		return nil, errors.Join(err, sock.Close())
	}
	ca := s.cloneArgs()
	*ca = cloneArgs{flags: cloneClearSighand, exitSignal: uint64(unix.SIGCHLD)}
	pid, e := cloneRun(uintptr(unsafe.Pointer(ca)), unsafe.Sizeof(*ca), uintptr(s.addr+firstOff))
	if e != 0 {
		s.Put()
		return nil, errors.Join(fmt.Errorf("clone nursery: %w", syscall.Errno(e)), sock.Close())
	}
	n := &Nursery{pid: int(pid), slab: s, sock: sock}
	if userns == nil {
		return n, nil
	}
	unix.Close(sp[1]) // else nobody would see the end of one that died
	sp[1] = -1
	if _, err := n.answer(); err != nil {
		return nil, errors.Join(fmt.Errorf("join %s: %w", userns.Name(), err), n.end())
	}
	return n, nil
}

// end closes, reaps and frees a nursery that has not begun.
func (n *Nursery) end() error {
	err := n.Close()
	for {
		_, e := unix.Wait4(n.pid, nil, 0, nil)
		if e == unix.EINTR {
			continue
		}
		n.slab.Put()
		if e == unix.ECHILD { // somebody reaps all children of the program
			return err
		}
		return errors.Join(err, e)
	}
}

// loadNursery puts the nursery's two plans into its slab: what it does once,
// and the loop.
func (s *Slab) loadNursery(sock, null int, d *disguise, userns *os.File) error {
	set, setOff := NewPlan(), firstOff
	if d != nil {
		set = s.loadMove(d)
		setOff = movedOff
	}
	all := set.Bytes([]byte{255, 255, 255, 255, 255, 255, 255, 255})
	set.Do("block signals", unix.SYS_RT_SIGPROCMASK, Int(unix.SIG_SETMASK), all, Nil, Int(8))
	s.unmapAllButCode(set, d)
	if d != nil {
		d.apply(set, s.r.base())
	}
	const joined = 1 // slot
	if userns != nil {
		set.Do("nobody looks in", unix.SYS_PRCTL, Int(unix.PR_SET_DUMPABLE), Nil, Nil, Nil, Nil)
		set.Do("join user namespace", unix.SYS_SETNS, Int(descriptor(userns)), Int(unix.CLONE_NEWUSER)).To(joined).Flag(FlagAny)
	}
	for i := range 3 { // nothing of the parent's may reach a child
		set.Do("null", unix.SYS_DUP3, Int(null), Int(i), Nil).Ignore(int(unix.EINVAL))
	}
	set.Do("command socket", unix.SYS_DUP3, Int(sock), Int(CommandFD), Int(unix.O_CLOEXEC)).Ignore(int(unix.EINVAL))
	if userns != nil {
		set.Do("answer", unix.SYS_SENDTO, Int(CommandFD), SlotPtr(joined), Int(8), Int(unix.MSG_NOSIGNAL), Nil, Nil)
	}
	set.Do("close others", unix.SYS_CLOSE_RANGE, Int(CommandFD+1), Int(uint32(0xffffffff)), Nil)
	set.Do("name", unix.SYS_PRCTL, Int(unix.PR_SET_NAME), set.Str("tare-nursery"))
	// CLONE_CLEAR_SIGHAND leaves what is ignored ignored.
	def := set.Bytes(make([]byte, 32))
	for sig := 1; sig <= 64; sig++ {
		set.Do("default action", unix.SYS_RT_SIGACTION, Int(sig), def, Nil, Int(8)).IgnoreAll()
	}
	// Go raises the soft limit of its own process, which is nothing for children.
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err == nil {
		files.Cur = min(files.Max, softFiles)
		set.Do("limit of files", unix.SYS_PRLIMIT64, Int(0), Int(unix.RLIMIT_NOFILE), set.Words(Int(files.Cur), Int(files.Max)), Nil).IgnoreAll()
	}
	// Whatever the parent's is, children begin with the kernel's default.
	set.Do("open oom_score_adj", unix.SYS_OPEN, set.Str("/proc/self/oom_score_adj"), Int(unix.O_WRONLY|unix.O_CLOEXEC)).To(0).IgnoreAll()
	set.Do("oom_score_adj", unix.SYS_WRITE, Slot(0), set.Str("0"), Int(1)).IgnoreAll()
	set.Do("close oom_score_adj", unix.SYS_CLOSE, Slot(0)).IgnoreAll()
	set.Do("loop", NrSwitch, Slot(slotNext))
	if err := s.load(set.Image(), setOff); err != nil {
		return err
	}
	binary.LittleEndian.PutUint64(s.mem[setOff+offSlots+8*slotNext:], s.addr+secondOff)

	loop := NewPlan()
	loop.receive("request", SlotPtr(0), 16) // slot 0: clone_args, slot 1: the child's first plan
	loop.Do("clone", unix.SYS_CLONE3, Slot(0), Int(unsafe.Sizeof(cloneArgs{}))).To(2).Flag(FlagAny).Child(slotChild)
	loop.Do("answer", unix.SYS_SENDTO, Int(CommandFD), SlotPtr(2), Int(8), Int(unix.MSG_NOSIGNAL), Nil, Nil)
	loop.Do("close received", unix.SYS_CLOSE_RANGE, Int(ReportFD), Int(uint32(0xffffffff)), Nil)
	loop.Do("again", NrSwitch, Slot(slotNext))
	if err := s.load(loop.Image(), secondOff); err != nil {
		return err
	}
	binary.LittleEndian.PutUint64(s.mem[secondOff+offSlots+8*slotNext:], s.addr+secondOff)
	return nil
}

// unmapAllButCode adds the steps that unmap everything but the interpreter's
// page and the region.
func (s *Slab) unmapAllButCode(p *Plan, d *disguise) {
	lo, hi := codePages()
	if d != nil {
		lo, hi = d.pages()
	}
	a, b := span{uint64(lo), uint64(hi)}, span{s.r.base(), s.r.base() + uint64(len(s.r.mem))}
	if b.lo < a.lo {
		a, b = b, a
	}
	for _, gap := range []span{{0, a.lo}, {a.hi, b.lo}, {b.hi, userTop}} {
		if gap.hi > gap.lo {
			p.Do("unmap", unix.SYS_MUNMAP, Int(gap.lo), Int(gap.hi-gap.lo))
		}
	}
}

type span struct{ lo, hi uint64 }

// codePages are the pages in which the interpreter lies.
func codePages() (lo, hi uintptr) {
	page := uintptr(os.Getpagesize())
	lo, hi = codeRange()
	return lo &^ (page - 1), (hi + page - 1) &^ (page - 1)
}

// Pid is the nursery's own.
func (n *Nursery) Pid() int { return n.pid }

// Close ends the nursery, after the request it is at.
func (n *Nursery) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sock == nil {
		return nil
	}
	err := n.sock.Close()
	n.sock = nil
	return err
}

// Free gives the nursery's arena back. It must be reaped.
func (n *Nursery) Free() {
	_ = n.Close()
	n.slab.Put()
}

// Options of a start.
type Options struct {
	Flags  uint64 // CLONE_NEW…
	Cgroup int    // index in the descriptors of the cgroup to be born in; -1: none

	// PidFile, if above 0, is the index of a file into which the child writes
	// its pid (4 bytes, little endian, as its parent sees it) before all else.
	PidFile int
}

// NamespaceFlags are the flags that Options may have.
const NamespaceFlags = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWPID |
	unix.CLONE_NEWNET | unix.CLONE_NEWUSER | unix.CLONE_NEWCGROUP | unix.CLONE_NEWTIME

// ErrNurseryDied says that the nursery went away before it answered. The
// slab's Pid tells whether there is a child all the same.
var ErrNurseryDied = errors.New("nursery died")

// Start has the nursery clone a child of the nursery's parent that runs the
// slab's plan with the descriptors 4, 5, 6 …; they stay the caller's.
func (n *Nursery) Start(s *Slab, o Options, fds []*os.File) (pid int, err error) {
	if o.Flags&^uint64(NamespaceFlags) != 0 || o.Cgroup >= len(fds) || o.PidFile >= len(fds) {
		return 0, syscall.EINVAL
	}
	if err := s.prepare(o); err != nil {
		return 0, err
	}
	var m [16]byte
	binary.LittleEndian.PutUint64(m[:], s.addr+argsOff)
	binary.LittleEndian.PutUint64(m[8:], s.addr)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sock == nil {
		return 0, ErrNurseryDied
	}
	if err := sendFiles(n.sock, m[:], fds); err != nil {
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
			return 0, ErrNurseryDied
		}
		return 0, err
	}
	return n.answer()
}

func (n *Nursery) answer() (int, error) {
	var b [8]byte
	for {
		k, err := unix.Read(descriptor(n.sock), b[:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || k != len(b):
			return 0, ErrNurseryDied
		}
		break
	}
	r := int64(binary.LittleEndian.Uint64(b[:]))
	if r < 0 {
		return 0, syscall.Errno(-r)
	}
	return int(r), nil
}

// Wake sends a parked child on: addr is LoadSecond's, sock the other end of
// the socket with which it was started.
func Wake(sock *os.File, addr uint64, fds []*os.File) error {
	var m [8]byte
	binary.LittleEndian.PutUint64(m[:], addr)
	return sendFiles(sock, m[:], fds)
}

// ParkSocket returns the two ends of a parked child's socket.
func ParkSocket() (ours, child *os.File, err error) {
	sp, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(sp[0]), "park"), os.NewFile(uintptr(sp[1]), "park"), nil
}

func sendFiles(sock *os.File, m []byte, fds []*os.File) error {
	var oob []byte
	if len(fds) > 0 {
		n := make([]int, len(fds))
		for i, f := range fds {
			n[i] = descriptor(f)
		}
		oob = unix.UnixRights(n...)
	}
	err := unix.Sendmsg(descriptor(sock), m, oob, nil, unix.MSG_NOSIGNAL)
	runtime.KeepAlive(fds)
	return err
}

// descriptor is the number of f, -1 if f is closed. File.Fd would make the
// open file blocking, for everybody who shares it.
func descriptor(f *os.File) int {
	n := -1
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { n = int(fd) })
	}
	return n
}

func (s *Slab) cloneArgs() *cloneArgs { return (*cloneArgs)(unsafe.Pointer(&s.mem[argsOff])) }

// prepare writes clone_args and the preamble: the child unmaps all other
// arenas, then goes on with its plan.
func (s *Slab) prepare(o Options) error {
	p := NewPlan()
	s.unmapOthers(p)
	s.announce(p, o)
	if s.second != nil {
		s.privateSecond(p)
		binary.LittleEndian.PutUint64(s.word(offSlots+8*slotSecond), s.second.addr+firstOff)
	}
	p.Do("plan", NrSwitch, Slot(slotNext))
	im := p.Image()
	if len(im.Bytes) > argsOff {
		return badImage("preamble of %d bytes", len(im.Bytes))
	}
	copy(s.mem, im.Bytes)
	for _, r := range im.Relocs {
		w := s.mem[r : r+8]
		binary.LittleEndian.PutUint64(w, binary.LittleEndian.Uint64(w)+s.addr)
	}
	binary.LittleEndian.PutUint64(s.mem[offSlots+8*slotNext:], s.addr+firstOff)
	s.setReport(0, ReportFD)
	ca := s.cloneArgs()
	*ca = cloneArgs{
		flags:     o.Flags | cloneClearSighand | unix.CLONE_PARENT | unix.CLONE_PARENT_SETTID,
		parentTID: s.addr + firstOff + offPid,
	}
	if o.Cgroup >= 0 {
		ca.flags |= cloneIntoCgroup
		ca.cgroup = uint64(ReportFD + o.Cgroup)
	}
	return nil
}

// announce lets the child say that it is there, and ends it if its parent is
// not there any more. So each child that goes on is known: should the parent
// die later, the pid is in the file.
func (s *Slab) announce(p *Plan, o Options) {
	if o.PidFile > 0 {
		fd := Int(ReportFD + o.PidFile)
		p.Do("write pid", unix.SYS_WRITE, fd, Int(s.addr+firstOff+offPid), Int(4))
		p.Do("close pid file", unix.SYS_CLOSE, fd)
	}
	// A report pipe that nobody reads is an error event, always polled for.
	pollfd := p.Words(Int(ReportFD))
	p.Do("is the parent there", unix.SYS_POLL, pollfd, Int(1), Nil).Flag(FlagParentExits)
}

// unmapOthers adds the steps that leave the child its own arenas only.
func (s *Slab) unmapOthers(p *Plan) {
	keep := []int{s.i, s.r.n}
	if s.second != nil {
		keep = []int{min(s.i, s.second.i), max(s.i, s.second.i), s.r.n}
	}
	next := 0
	for _, k := range keep {
		if k > next {
			p.Do("unmap other arenas", unix.SYS_MUNMAP, Int(s.r.base()+uint64(next)*arenaSize), Int((k-next)*arenaSize))
		}
		next = k + 1
	}
}

// privateSecond gives the second half a private copy of its plan and nothing
// else. It becomes visible in a namespace where someone may trace it, and a
// shared mapping of the region could be grown over all other arenas by mremap.
func (s *Slab) privateSecond(p *Plan) {
	b, page := s.second, os.Getpagesize()
	used := (b.used + page - 1) &^ (page - 1)
	p.Do("private memory", unix.SYS_MMAP, Nil, Int(used), Int(unix.PROT_READ|unix.PROT_WRITE), Int(unix.MAP_PRIVATE|unix.MAP_ANONYMOUS), Int(-1), Nil).To(0)
	p.Do("copy second plan", nrCopy, Slot(0), Int(b.addr), Int(used))
	p.Do("unmap shared", unix.SYS_MUNMAP, Int(b.addr), Int(arenaSize))
	p.Do("copy in its place", unix.SYS_MREMAP, Slot(0), Int(used), Int(used), Int(unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED), Int(b.addr))
	p.Do("not for the second", unix.SYS_MADVISE, Int(s.addr), Int(arenaSize), Int(unix.MADV_DONTFORK))
}
