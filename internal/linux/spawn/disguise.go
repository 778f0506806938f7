package spawn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// disguise is what a nursery and its children have in the place of our
// program: the interpreter in anonymous memory, and as the process's
// executable an empty file in memory that nobody can write to. So a container
// whose program is /proc/self/exe runs nothing, and finds no way to our file
// (CVE-2019-5736).
type disguise struct {
	code []byte
	exe  *os.File
}

// CanDisguise reports whether the kernel lets a process change its executable.
// CONFIG_CHECKPOINT_RESTORE.
func CanDisguise() bool {
	const setMM, mapSize = unix.PR_SET_MM, unix.PR_SET_MM_MAP_SIZE
	var size uint32
	err := unix.Prctl(setMM, mapSize, uintptr(unsafe.Pointer(&size)), 0, 0)
	return err == nil && size == mmMapSize
}

// NewDisguisedNursery forks a nursery that has nothing of our program.
func (r *Region) NewDisguisedNursery() (*Nursery, error) {
	d, err := newDisguise()
	if err != nil {
		return nil, err
	}
	defer d.close()
	return r.newNursery(d, nil)
}

func newDisguise() (*disguise, error) {
	lo, hi := codePages()
	code, err := unix.Mmap(-1, 0, int(hi-lo), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map code: %w", err)
	}
	d := &disguise{code: code}
	copy(code, unsafe.Slice(*(**byte)(unsafe.Pointer(&lo)), len(code)))
	if err := unix.Mprotect(code, unix.PROT_READ|unix.PROT_EXEC); err != nil {
		return nil, errors.Join(fmt.Errorf("map code: %w", err), d.close())
	}
	if d.exe, err = emptyProgram(); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// emptyProgram is an empty file that may be executed, open for reading only:
// the kernel takes no executable that somebody can write to.
func emptyProgram() (*os.File, error) {
	fd, err := unix.MemfdCreate("none", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if err == unix.EINVAL { // before 6.3
		fd, err = unix.MemfdCreate("none", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	defer unix.Close(fd)
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return os.Open("/proc/self/fd/" + strconv.Itoa(fd))
}

func (d *disguise) close() error {
	var err error
	if d.exe != nil {
		err = d.exe.Close()
	}
	return errors.Join(err, unix.Munmap(d.code))
}

func (d *disguise) pages() (lo, hi uintptr) {
	lo = uintptr(unsafe.Pointer(&d.code[0]))
	return lo, lo + uintptr(len(d.code))
}

// loadMove loads the plan with which the nursery begins: it goes on in the copy
// of the code with the plan at movedOff, which is returned empty.
func (s *Slab) loadMove(d *disguise) *Plan {
	lo, _ := codePages()
	at, _ := codeRange()
	copied, _ := d.pages()
	p := NewPlan()
	p.Do("go on in the copy", nrMove, Int(copied+(at-lo)), Int(s.addr+movedOff))
	// It fits: one step.
	_ = s.place(p.Image(), firstOff)
	return NewPlan()
}

const mmMapSize = 104 // struct prctl_mm_map

// apply changes the executable, once nothing of the old one is mapped. The
// addresses are not used for anything but what /proc shows.
func (d *disguise) apply(p *Plan, data uint64) {
	lo, hi := d.pages()
	words := []uint64{
		uint64(lo), uint64(hi), // code
		uint64(lo), uint64(lo), // data
		uint64(hi), uint64(hi), // brk, which must lie behind
		uint64(lo),             // stack
		data, data, data, data, // arguments, environment
		0, // auxiliary vector
	}
	b := make([]byte, 0, mmMapSize)
	for _, w := range words {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(descriptor(d.exe)))
	p.Do("another executable", unix.SYS_PRCTL, Int(unix.PR_SET_MM), Int(unix.PR_SET_MM_MAP), p.Bytes(b), Int(mmMapSize), Nil)
}
