// Package ledger is memory that outlives the process that writes to it: a file
// in memory, of which another process inherits the descriptor.
//
// It holds two things. A log of records says what the process knows; whoever
// takes over reads it from the beginning. Cells are for what is under way: each
// holds one request and its answer.
//
// A process may be killed after any instruction. What was appended with one call
// is in the log wholly or not at all.
//
//	header | cell 0, cell 1 … | log A | log B
//
// When the log has grown much beyond what is known, it is written anew into the
// other half, which counts from one moment on.
package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/tare-engine/tare/internal/linux/memfd"
)

const (
	magic      = 0x7461_7265_756e_0001 // the last digits are the version
	headerSize = 4096
	logSize    = 4 << 30 // what is not used takes no memory
	halfBit    = 1 << 63
	roomy      = 1 << 20 // a log below this is not written anew
)

// header is the beginning of the file.
type header struct {
	magic  atomic.Uint64
	buffer uint64        // size of each of a cell's two buffers
	tail   atomic.Uint64 // where the log ends; the highest bit says which half it is in
	starts atomic.Uint64 // processes that took over, since the last one that came far

	// Of processes that wait for the end of the one that writes.
	tokens atomic.Uint64 // the last
	chosen atomic.Uint64 // the one whose time it is
	heirs  [heirs]uint64 // process numbers, by token
}

const heirs = 128

// Ledger is the memory. Append may be called at the same time.
type Ledger struct {
	fd     int
	mem    []byte
	buffer int

	mu    sync.Mutex
	floor uint64 // how long the log was when it was written anew
}

// New makes an empty one whose cells have two buffers of a size.
func New(buffer int) (*Ledger, error) {
	f, err := memfd.New("ledger")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(size(buffer)); err != nil {
		return nil, err
	}
	fd, err := syscall.Dup(int(f.Fd())) // inherited
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	l, err := mapped(fd, buffer)
	if err != nil {
		return nil, err
	}
	h := l.header()
	h.buffer = uint64(buffer)
	h.magic.Store(magic)
	return l, nil
}

// Open maps one of which the descriptor was inherited.
func Open(fd int) (*Ledger, error) {
	var b [16]byte
	if n, err := syscall.Pread(fd, b[:], 0); err != nil || n < len(b) || binary.LittleEndian.Uint64(b[:]) != magic {
		return nil, fmt.Errorf("descriptor %d is no ledger of this version", fd)
	}
	buffer := binary.LittleEndian.Uint64(b[8:])
	if buffer == 0 || buffer > 1<<24 {
		return nil, fmt.Errorf("ledger with buffers of %d bytes", buffer)
	}
	return mapped(fd, int(buffer))
}

func size(buffer int) int64 { return int64(headerSize+Cells*cellSize(buffer)) + 2*logSize }

func mapped(fd, buffer int) (*Ledger, error) {
	const noReserve = 0x4000
	mem, err := syscall.Mmap(fd, 0, int(size(buffer)), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED|noReserve)
	if err != nil {
		syscall.Close(fd)
		return nil, os.NewSyscallError("mmap", err)
	}
	return &Ledger{fd: fd, mem: mem, buffer: buffer}, nil
}

// Close unmaps it and closes the descriptor.
func (l *Ledger) Close() error {
	return errors.Join(syscall.Munmap(l.mem), syscall.Close(l.fd))
}

// FD is the descriptor, which programs that are executed inherit.
func (l *Ledger) FD() int { return l.fd }

func (l *Ledger) header() *header { return (*header)(unsafe.Pointer(&l.mem[0])) }

// Starts counts this process among those that took over; Settled forgets them.
func (l *Ledger) Starts() uint64 { return l.header().starts.Add(1) }

// Settled says that the process that took over has come far enough.
func (l *Ledger) Settled() { l.header().starts.Store(0) }

// NewToken is for a process that waits for the end of this one.
func (l *Ledger) NewToken() uint64 { return l.header().tokens.Add(1) }

// Choose says that of all that wait, or have been executed, one is right.
func (l *Ledger) Choose(token uint64) { l.header().chosen.Store(token) }

// Chosen reports whether that is so.
func (l *Ledger) Chosen(token uint64) bool { return l.header().chosen.Load() == token }

// HeirAt is where a process that waits writes its number into the file.
func (l *Ledger) HeirAt(token uint64) int64 {
	return int64(unsafe.Offsetof(header{}.heirs)) + int64(token%heirs*8)
}

// Heir is the number of a process that waits.
func (l *Ledger) Heir(token uint64) int {
	return int(int32(atomic.LoadUint64(&l.header().heirs[token%heirs])))
}

// half is one of the two logs.
func (l *Ledger) half(tail uint64) []byte {
	at := headerSize + Cells*cellSize(l.buffer)
	if tail&halfBit != 0 {
		at += logSize
	}
	return l.mem[at : at+logSize : at+logSize]
}

// ErrFull says that the log cannot take more.
var ErrFull = errors.New("ledger: the log is full")

// Append adds records, all of them at one moment, and forgets them. If there is no
// room, nobody can open the ledger any more until it has been written anew.
func (l *Ledger) Append(r *Records) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.header()
	tail := h.tail.Load()
	if l.put(r, &tail) != nil {
		h.magic.Store(0)
		r.b = r.b[:0]
	}
	h.tail.Store(tail)
}

func (l *Ledger) put(r *Records, tail *uint64) error {
	at := *tail &^ halfBit
	if at+uint64(len(r.b)) > logSize {
		return ErrFull
	}
	copy(l.half(*tail)[at:], r.b)
	*tail += uint64(len(r.b))
	r.b = r.b[:0]
	return nil
}

// Grown reports whether the log is to be written anew: soon, or now.
func (l *Ledger) Grown() (soon, now bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	used := l.header().tail.Load() &^ halfBit
	return used > roomy+2*l.floor, used > 4*roomy+4*l.floor
}

// Rewrite replaces all that was appended by what write gives to add. Nobody
// appends meanwhile.
func (l *Ledger) Rewrite(write func(add func(*Records) error) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.header().tail.Load()
	tail := ^old & halfBit
	if err := write(func(r *Records) error { return l.put(r, &tail) }); err != nil {
		return err
	}
	l.header().tail.Store(tail)
	l.header().magic.Store(magic)
	l.floor = tail &^ halfBit
	l.free(old)
	return nil
}

// free gives the memory of a half back. If the kernel refuses, it is used again
// later.
func (l *Ledger) free(tail uint64) {
	const punchHole = 0x2 | 0x1 // FALLOC_FL_PUNCH_HOLE, and the size stays
	at := int64(headerSize + Cells*cellSize(l.buffer))
	if tail&halfBit != 0 {
		at += logSize
	}
	_ = syscall.Fallocate(l.fd, punchHole, at, (int64(tail&^halfBit)+4095)&^4095)
}

// Read calls f with each record, the oldest first.
func (l *Ledger) Read(f func(*Record) error) error {
	tail := l.header().tail.Load()
	b := l.half(tail)[:tail&^halfBit]
	for len(b) > 0 {
		n := int(binary.LittleEndian.Uint32(b))
		if n < 1 || n > len(b)-4 {
			return errDamaged
		}
		r := &Record{Kind: b[4], b: b[5 : 4+n]}
		if err := f(r); err != nil {
			return err
		}
		if r.err != nil {
			return fmt.Errorf("record of kind %d: %w", r.Kind, r.err)
		}
		b = b[4+n:]
	}
	return nil
}

var errDamaged = errors.New("ledger: the log is damaged")
