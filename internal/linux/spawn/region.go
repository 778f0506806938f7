package spawn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An arena:
//
//	0       preamble: a plan that unmaps the other arenas, and at argsOff the clone_args
//	4 KB    first plan
//	1 MB    second plan, of a parked child
const (
	arenaSize = 4 << 20 // 2 MB of arguments and environment, and as much again
	argsOff   = 3584
	firstOff  = 4 << 10
	secondOff = 1 << 20
	movedOff  = 2 << 20 // a disguised nursery's plan
	maxImage  = arenaSize - firstOff
	keepPages = 64 << 10 // what a free arena keeps of its memory
)

// Region is the memory of all plans: a memfd, so that parked children outlive
// an upgrade of the keeper, mapped shared, so that the keeper and the child
// see the same words, and sealed, so that no child can shrink it under the
// keeper.
type Region struct {
	file *os.File
	mem  []byte
	n    int

	mu   sync.Mutex
	free []int // +checklocks:mu
}

// NewRegion makes a region of n arenas; they take memory only when used.
func NewRegion(n int) (*Region, error) {
	fd, err := unix.MemfdCreate("plans", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "plans")
	if err := f.Truncate(int64(n) * arenaSize); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		f.Close()
		return nil, fmt.Errorf("seal: %w", err)
	}
	return mapRegion(f, n)
}

// OpenRegion maps the region of an earlier program of this process. The
// arenas in used are taken by parked children; see [Region.Parked].
func OpenRegion(f *os.File, used []int) (*Region, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	r, err := mapRegion(f, int(st.Size()/arenaSize))
	if err != nil {
		return nil, err
	}
	r.free = slices.DeleteFunc(r.free, func(i int) bool { return slices.Contains(used, i) })
	return r, nil
}

func mapRegion(f *os.File, n int) (*Region, error) {
	mem, err := unix.Mmap(int(f.Fd()), 0, n*arenaSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map plans: %w", err)
	}
	r := &Region{file: f, mem: mem, n: n}
	for i := n - 1; i >= 0; i-- {
		r.free = append(r.free, i)
	}
	return r, nil
}

// File is the memfd; it belongs to the region.
func (r *Region) File() *os.File { return r.file }

// Close unmaps the region. Nurseries and slabs must be gone.
func (r *Region) Close() error {
	return errors.Join(unix.Munmap(r.mem), r.file.Close())
}

func (r *Region) base() uint64 { return uint64(uintptr(unsafe.Pointer(&r.mem[0]))) }

// Slab is one arena in use.
type Slab struct {
	r    *Region
	i    int
	mem  []byte
	addr uint64 // of mem, in the child: an older program's mapping may lie elsewhere
	used int

	woken  bool  // there is a second plan, of a parked child
	second *Slab // the other half of a pair
}

// Get takes an arena, nil if none is free.
func (r *Region) Get() *Slab {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.free) == 0 {
		return nil
	}
	i := r.free[len(r.free)-1]
	r.free = r.free[:len(r.free)-1]
	s := r.slab(i, r.base()+uint64(i)*arenaSize)
	clear(s.mem[firstOff : firstOff+headerSize])
	return s
}

// Parked is the slab of a child that an earlier program of this process
// parked: arena and address as [Slab.Place] gave them there.
func (r *Region) Parked(arena int, addr uint64) (*Slab, error) {
	if arena < 0 || arena >= r.n {
		return nil, fmt.Errorf("arena %d of %d", arena, r.n)
	}
	return r.slab(arena, addr), nil
}

func (r *Region) slab(i int, addr uint64) *Slab {
	off := i * arenaSize
	return &Slab{r: r, i: i, mem: r.mem[off : off+arenaSize : off+arenaSize], addr: addr}
}

// Place is what [Region.Parked] needs.
func (s *Slab) Place() (arena int, addr uint64) { return s.i, s.addr }

// Put gives the arena back, and that of a pair's second half. Its child must have
// exec'ed or be dead: until then it reads the plan, and the kernel the arguments.
// A second half has a copy, so the first one's end is enough. ReadReport goes on
// telling what a report means.
func (s *Slab) Put() {
	if s.second != nil {
		s.second.Put()
	}
	if s.used > keepPages {
		// Best effort: the memory is used again, or freed with the region.
		_ = unix.Fallocate(int(s.r.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE,
			int64(s.i)*arenaSize+keepPages, arenaSize-keepPages)
	}
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.r.free = append(s.r.free, s.i)
}

// Load validates the image and puts it into the slab as the child's first
// plan, which reports a failure at ReportFD.
func (s *Slab) Load(im Image) error {
	if err := s.load(im, firstOff); err != nil {
		return err
	}
	s.setReport(firstOff, ReportFD)
	return nil
}

// LoadParked does the same for a plan that ends in a park step. It leaves room
// for the second plan.
func (s *Slab) LoadParked(im Image) error {
	if len(im.Bytes) > secondOff-firstOff {
		return badImage("%d bytes, more than a parked child's plan may have", len(im.Bytes))
	}
	return s.Load(im)
}

// LoadSecond puts a parked child's second plan into the slab and returns its
// address for [Wake].
func (s *Slab) LoadSecond(im Image) (addr uint64, err error) {
	if err := s.load(im, secondOff); err != nil {
		return 0, err
	}
	s.setReport(secondOff, ReportFD)
	s.woken = true
	return s.addr + secondOff, nil
}

// Pair validates the image and loads it as the plan of the second half that
// the slab's child clones; see [Plan.CloneSecond].
func (s *Slab) Pair(im Image) error {
	b := s.r.Get()
	if b == nil {
		return syscall.EAGAIN
	}
	s.second = b
	if err := b.load(im, firstOff); err != nil {
		return err
	}
	b.setReport(firstOff, CommandFD)
	return nil
}

func (s *Slab) load(im Image, off int) error {
	if err := im.Validate(); err != nil {
		return err
	}
	return s.place(im, off)
}

// place loads an image of our own making.
func (s *Slab) place(im Image, off int) error {
	if len(im.Bytes) > arenaSize-off {
		return badImage("%d bytes are too many", len(im.Bytes))
	}
	m := s.mem[off:]
	copy(m, im.Bytes)
	le := binary.LittleEndian
	for _, r := range im.Relocs {
		le.PutUint64(m[r:], le.Uint64(m[r:])+s.addr+uint64(off))
	}
	s.used = max(s.used, off+len(im.Bytes))
	return nil
}

func (s *Slab) word(off int) []byte { return s.mem[firstOff+off : firstOff+off+8] }

// Slot is what the child kept in slot k: its word, like everything in the
// arena.
func (s *Slab) Slot(k int) int { return int(int64(binary.LittleEndian.Uint64(s.word(offSlots + 8*k)))) }

func (s *Slab) setReport(plan, fd int) {
	binary.LittleEndian.PutUint64(s.mem[plan+offReport:], uint64(fd)+1)
}

// Pid is what the kernel stored before the child ran, 0 if there is no child.
// It holds even if the nursery died before it could answer.
func (s *Slab) Pid() int { return int(int32(binary.LittleEndian.Uint32(s.word(offPid)))) }

// SecondPid is the second half's pid; valid when the first has ended with
// status 0. Like everything in the arena it is the child's word.
func (s *Slab) SecondPid() int { return int(int32(binary.LittleEndian.Uint32(s.word(offPid2)))) }

// Report is what a failing child wrote to its report pipe.
type Report struct {
	Errno  syscall.Errno
	Step   int
	Second bool // the step is of the second plan
}

// ReadReport decodes the 16 bytes of a report. They come from the child and
// may be anything.
func (s *Slab) ReadReport(b []byte) Report {
	le := binary.LittleEndian
	r := Report{Errno: syscall.EPROTO, Step: -1}
	if len(b) < 16 {
		return r
	}
	if e := le.Uint64(b); e > 0 && e < 4096 {
		r.Errno = syscall.Errno(e)
	}
	at := le.Uint64(b[8:])
	if s.second != nil && at-s.second.addr < arenaSize {
		r.Second = true
		r.Step = stepAt(at - s.second.addr - firstOff)
		return r
	}
	switch off := at - s.addr; {
	case off >= arenaSize:
	case off >= secondOff && s.woken:
		r.Second = true
		r.Step = stepAt(off - secondOff)
	default:
		r.Step = stepAt(off - firstOff)
	}
	return r
}

// stepAt is the index of the step that lies off bytes behind its header, -1 if
// none can.
func stepAt(off uint64) int {
	if off < headerSize || off >= arenaSize || (off-headerSize)%stepSize != 0 {
		return -1
	}
	return int(off-headerSize) / stepSize
}
