package ledger

import (
	"encoding/binary"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// Cells is how many there are.
const Cells = 64

// cellHead is how much of a cell is not its buffers.
const cellHead = 4096

func cellSize(buffer int) int { return cellHead + 2*buffer }

// Cell holds one request from when it is read until its answer is written. In
// Request is a length in the first four bytes, which whoever reads into it leaves
// behind; zero is none.
type Cell struct {
	*words
	Index   int
	Request []byte
	Answer  []byte
}

type words struct {
	sequence atomic.Uint64 // of requests
	answered atomic.Uint64 // length of a whole answer
	attempts atomic.Uint64
	_        [5]uint64
	intent   [8]uint64
}

// Cell returns one of them.
func (l *Ledger) Cell(i int) Cell {
	at := headerSize + i*cellSize(l.buffer)
	b := l.mem[at+cellHead:]
	return Cell{
		words:   (*words)(unsafe.Pointer(&l.mem[at])),
		Index:   i,
		Request: b[:l.buffer:l.buffer],
		Answer:  b[l.buffer : 2*l.buffer : 2*l.buffer],
	}
}

// Present makes the memory for the request be there, as far as the limit of locked
// memory lets it: if a process is killed while the kernel copies a request to where no
// memory is yet, the copy fails. (What is in an answer has been written by the process
// itself.)
func (c Cell) Present() {
	const page = 4096
	for i := 0; i < len(c.Request); i += page {
		touch(&c.Request[i])
	}
	_ = syscall.Mlock(c.Request)
}

// touch writes what is there.
func touch(p *byte) {
	w := (*uint32)(unsafe.Pointer(p))
	atomic.AddUint32(w, 0)
}

// Expect prepares the cell for the next request.
func (c Cell) Expect() {
	c.Done()
	c.sequence.Add(1)
	c.intent = [8]uint64{}
	c.attempts.Store(0)
}

// Sequence tells requests apart that were in the cell.
func (c Cell) Sequence() uint64 { return c.sequence.Load() }

// Waiting is how long the request is that has no written answer, or 0.
func (c Cell) Waiting() int {
	n := int(atomic.LoadUint32(c.length()))
	if n > len(c.Request) {
		return 0
	}
	return n
}

// Try counts how often somebody begins to answer the request.
func (c Cell) Try() uint64 { return c.attempts.Add(1) }

// Finish says that n bytes are the answer, and Finished how many are.
func (c Cell) Finish(n int) { c.answered.Store(uint64(n)) }

// Finished is how long the answer is, or 0.
func (c Cell) Finished() int { return min(int(c.answered.Load()), len(c.Answer)) }

// Done says that the answer has been written, or none is wanted.
func (c Cell) Done() {
	atomic.StoreUint32(c.length(), 0)
	c.answered.Store(0)
}

// Intent is memory for what the request's answer consists of.
func (c Cell) Intent() *[8]uint64 { return &c.intent }

func (c Cell) length() *uint32 { return (*uint32)(unsafe.Pointer(&c.Request[0])) }

// Opcode is the second word of the request, as the kernel writes it.
func (c Cell) Opcode() uint32 { return binary.LittleEndian.Uint32(c.Request[4:]) }
