package spawn

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A plan in memory: header, steps, the end mark (a step whose number is -1),
// data. All words are little endian.
//
//	header  0  address of the first step     8  errno of the failed step
//	       16  address of the failed step   32  13 if a search met EACCES
//	       40  report descriptor + 1        48  pid of the child   56  of the second half
//	       64  slots
//	step    0  number    8..55  arguments   56  mask of arguments that are slots
//	       57  slot+1 that keeps the result 58  flags
//	       59  slot+1 of the child's plan   60, 62  errnos that count as success
const (
	headerSize = 64 + 8*allSlots
	stepSize   = 80

	offSteps   = 0
	offErrno   = 8
	offErrStep = 16
	offEacces  = 32
	offReport  = 40
	offPid     = 48
	offPid2    = 56
	offSlots   = 64
)

// Pseudo system calls.
const (
	// nrEnd ends the process with status 253: a plan must not fall off its end.
	nrEnd = ^uintptr(0)
	// NrSwitch goes on with the plan at the address Args[0]; 0 ends the process.
	NrSwitch = ^uintptr(2)
	// NrStore writes Args[1] to the word at the address Args[0].
	NrStore = ^uintptr(3)
	// NrNotFound fails with EACCES if a FlagSearch step met it, else with ENOENT.
	NrNotFound = ^uintptr(4)
	// nrCopy copies Args[2] bytes from Args[1] to Args[0].
	nrCopy = ^uintptr(5)
	// nrMove goes on with the plan at the address Args[1], interpreted by the
	// copy of the interpreter at Args[0]. No image may have it.
	nrMove = ^uintptr(6)
)

// Image is a plan for address 0 with the offsets of the words to which the
// real address must be added: what travels between processes.
type Image struct {
	Bytes  []byte
	Relocs []uint32 // ascending
}

// Image returns the plan in its relocatable form.
func (p *Plan) Image() Image {
	steps := headerSize
	data := steps + (len(p.steps)+1)*stepSize
	im := Image{Bytes: make([]byte, data+len(p.data)+8), Relocs: []uint32{offSteps}}
	le := binary.LittleEndian
	le.PutUint64(im.Bytes[offSteps:], uint64(steps))
	for i, s := range p.steps {
		off := steps + i*stepSize
		s.put(im.Bytes[off:off+stepSize], uint64(data))
		for j, a := range s.Args {
			if a.kind == argData || a.kind == argHeader {
				im.Relocs = append(im.Relocs, uint32(off+8+8*j))
			}
		}
	}
	le.PutUint64(im.Bytes[data-stepSize:], uint64(nrEnd))
	copy(im.Bytes[data:], p.data)
	im.Relocs = append(im.Relocs, p.relocateData(im.Bytes[data:], uint64(data))...)
	return im
}

// put writes the step; data is where the plan's data begin.
func (s *Step) put(m []byte, data uint64) {
	le := binary.LittleEndian
	le.PutUint64(m, s.Nr)
	for j, a := range s.Args {
		v := a.v
		switch a.kind {
		case argData:
			v += data
		case argSlot:
			m[56] |= 1 << j
		}
		le.PutUint64(m[8+8*j:], v)
	}
	m[57], m[58], m[59] = s.to, uint8(s.flags), s.child
	le.PutUint16(m[60:], s.ignore[0])
	le.PutUint16(m[62:], s.ignore[1])
}

// relocateData adds data to the words of m that hold offsets in the data and
// returns the offsets of all words that hold addresses, ascending.
func (p *Plan) relocateData(m []byte, data uint64) []uint32 {
	le := binary.LittleEndian
	out := make([]uint32, 0, len(p.dataRefs)+len(p.headerRefs))
	d, h := p.dataRefs, p.headerRefs
	for len(d)+len(h) > 0 {
		if len(h) == 0 || len(d) > 0 && d[0] < h[0] {
			le.PutUint64(m[d[0]:], le.Uint64(m[d[0]:])+data)
			out, d = append(out, uint32(data)+d[0]), d[1:]
			continue
		}
		out, h = append(out, uint32(data)+h[0]), h[1:]
	}
	return out
}

var errImage = errors.New("malformed plan")

func badImage(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errImage, fmt.Sprintf(format, args...))
}

// Validate checks what the process that will load the image relies on: every
// step, slot and relocation lies where it must, every relocated word points
// into the image, and there is an end. It says nothing about what the plan
// does: its system calls can hurt only the child's own memory, which shares
// nothing with the loader but the arena.
func (im Image) Validate() error {
	if len(im.Bytes) < headerSize+stepSize || len(im.Bytes) > maxImage {
		return badImage("%d bytes", len(im.Bytes))
	}
	n, err := im.countSteps()
	if err != nil {
		return err
	}
	end := headerSize + (n+1)*stepSize
	if err := im.checkRelocs(end); err != nil {
		return err
	}
	r := im.Relocs[1:]
	for i := range n {
		off := headerSize + i*stepSize
		var pointers uint8 // mask of relocated arguments
		for len(r) > 0 && int(r[0]) < off+stepSize {
			pointers |= 1 << ((int(r[0]) - off - 8) / 8)
			r = r[1:]
		}
		if err := checkStep(im.Bytes[off:off+stepSize], pointers, len(im.Bytes)); err != nil {
			return badImage("step %d: %v", i, err)
		}
	}
	return nil
}

// countSteps checks the header and finds the end mark.
func (im Image) countSteps() (int, error) {
	le := binary.LittleEndian
	if le.Uint64(im.Bytes) != headerSize {
		return 0, badImage("first step at %d", le.Uint64(im.Bytes))
	}
	for _, b := range im.Bytes[8:headerSize] {
		if b != 0 {
			return 0, badImage("header is not empty")
		}
	}
	for n, off := 0, headerSize; off+stepSize <= len(im.Bytes); n, off = n+1, off+stepSize {
		if le.Uint64(im.Bytes[off:]) == uint64(nrEnd) {
			return n, nil
		}
	}
	return 0, badImage("no end")
}

// checkRelocs checks order and place of all relocations and that the words
// point into the image. data is where the steps end.
func (im Image) checkRelocs(data int) error {
	if len(im.Relocs) == 0 || im.Relocs[0] != offSteps {
		return badImage("first relocation")
	}
	last := 0
	for _, r := range im.Relocs[1:] {
		off := int(r)
		if off <= last || off%8 != 0 || off > len(im.Bytes)-8 || off < headerSize {
			return badImage("relocation at %d", off)
		}
		if off < data {
			if in := (off - headerSize) % stepSize; in < 8 || in >= 56 || off >= data-stepSize {
				return badImage("relocation at %d", off)
			}
		}
		if v := binary.LittleEndian.Uint64(im.Bytes[off:]); v >= uint64(len(im.Bytes)) {
			return badImage("pointer at %d to %d", off, v)
		}
		last = off
	}
	return nil
}

// checkStep checks one step; pointers is the mask of its relocated arguments,
// size the image's.
func checkStep(m []byte, pointers uint8, size int) error {
	le := binary.LittleEndian
	nr, slots := le.Uint64(m), m[56]
	if slots&^0x3f != 0 || slots&pointers != 0 {
		return fmt.Errorf("mask %#x", slots)
	}
	for j := range 6 {
		if v := le.Uint64(m[8+8*j:]); slots&(1<<j) != 0 && v >= allSlots {
			return fmt.Errorf("slot %d", v)
		}
	}
	if m[57] > allSlots || m[59] > allSlots {
		return fmt.Errorf("kept in slot %d, child's plan in %d", m[57], m[59])
	}
	if m[58]&^uint8(allFlags) != 0 {
		return fmt.Errorf("flags %#x", m[58])
	}
	for _, b := range m[64:stepSize] {
		if b != 0 {
			return errors.New("padding")
		}
	}
	switch uintptr(nr) {
	case NrSwitch:
		if slots&1 == 0 {
			return errors.New("switch to a fixed address")
		}
	case NrStore:
		if pointers&1 == 0 || le.Uint64(m[8:])+8 > uint64(size) {
			return errors.New("store outside")
		}
	case NrNotFound:
	default:
		if nr >= maxSyscall {
			return fmt.Errorf("system call %d", int64(nr))
		}
	}
	return nil
}

// maxSyscall is above every number that any kernel has.
const maxSyscall = 1024
