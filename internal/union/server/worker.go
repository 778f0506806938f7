package server

import (
	"encoding/binary"
	"errors"
	"log"
	"runtime"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/tare-engine/tare/internal/union/ledger"
	"github.com/tare-engine/tare/internal/union/tree"
)

// worker answers requests, one after the other, in a cell of its own. It is the file
// system that the protocol's functions call.
type worker struct {
	fuse.RawFileSystem // answers ENOSYS to what is not here
	*Server
	cell     ledger.Cell
	protocol *fuse.ProtocolServer

	// Of the request that is being answered:
	intent  *tree.Intent
	refs    []uint64 // nodes to which the answer gives references
	gives   uint64   // the number of what it opens
	forgets int      // of a request that is done again: how many have been forgotten
	log     ledger.Records
	grown   bool
}

func (s *Server) newWorker(c ledger.Cell) *worker {
	w := &worker{RawFileSystem: fuse.NewDefaultRawFileSystem(), Server: s, cell: c}
	w.protocol = fuse.NewProtocolServer(w, options())
	c.Present()
	return w
}

func (w *worker) String() string { return "tare-union" }

// greet tells the protocol what the kernel has said first. The answer is for the
// kernel, if it has none yet.
func (w *worker) greet() ([]byte, error) {
	var out [256]byte
	n, _ := w.protocol.HandleRequest([][]byte{w.hello}, [][]byte{out[:]})
	if n < 16 {
		return nil, errors.New("no answer")
	}
	if no := int32(binary.LittleEndian.Uint32(out[4:])); no != 0 {
		return nil, syscall.Errno(-no)
	}
	return out[:n], nil
}

// crew are the workers: at least one waits for a request as long as there is a free
// cell, and at most idlers do.
type crew struct {
	sync.WaitGroup
	mu   sync.Mutex
	idle int
	free []*worker // at hand
	next int       // the first cell that has none
}

const idlers = 2

func (c *crew) init() {}

// Serve answers until the file system is unmounted.
func (s *Server) Serve() {
	s.hire()
	s.crew.Wait()
}

// hire makes one more worker wait.
func (s *Server) hire() {
	w := s.recruit()
	if w == nil {
		return
	}
	s.crew.Add(1)
	go func() {
		defer s.crew.Done()
		w.work()
	}()
}

// recruit returns a worker that has nothing to do, nil if all cells are in use.
func (s *Server) recruit() *worker {
	c := &s.crew
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.free); n > 0 {
		w := c.free[n-1]
		c.free = c.free[:n-1]
		return w
	}
	if c.next == ledger.Cells {
		return nil
	}
	w := s.newWorker(s.ledger.Cell(c.next))
	if _, err := w.greet(); err != nil {
		log.Printf("worker %d: %v", c.next, err)
		return nil
	}
	c.next++
	return w
}

// wait counts those who wait for a request.
func (c *crew) wait(n int) (now int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle += n
	return c.idle
}

// leave takes a worker back, if enough others wait.
func (c *crew) leave(w *worker) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle < idlers {
		return false
	}
	c.free = append(c.free, w)
	return true
}

func (w *worker) work() {
	for {
		w.cell.Expect()
		w.crew.wait(1)
		_, err := w.dev.Read(w.cell.Request)
		nobody := w.crew.wait(-1) == 0
		switch {
		case err == syscall.ENOENT:
			continue
		case err == syscall.ENODEV:
			return
		case err != nil:
			log.Printf("read a request: %v", err)
			return
		}
		if nobody {
			w.hire()
		}
		w.answer()
		if w.crew.leave(w) {
			return
		}
	}
}

// attempts bounds how many processes try to answer a request: one that kills them
// is refused.
const attempts = 20

// answer answers the request in the cell.
func (w *worker) answer() {
	w.busy.RLock()
	w.respond()
	w.cell.Done()
	w.busy.RUnlock()
	if w.grown {
		w.grown = false
		w.tidy()
	}
}

const (
	opInterrupt = 36
	sizeHeader  = 16
)

func (w *worker) respond() {
	c := w.cell
	n := c.Waiting()
	switch {
	case n < 40:
		return
	case c.Opcode() == opInterrupt: // nothing here can be: the kernel need not ask again
		w.write(w.refuse(syscall.ENOSYS))
		return
	case c.Try() > attempts:
		w.write(w.refuse(syscall.EIO))
		return
	}
	w.refs, w.gives = w.refs[:0], 0
	w.intent = tree.IntentAt(c.Intent())
	size, st := w.protocol.HandleRequest([][]byte{c.Request[:n]}, [][]byte{c.Answer})
	w.intent.Settle()
	if !st.Ok() {
		size = w.refuse(syscall.Errno(st))
	}
	if size == 0 { // none is wanted
		return
	}
	if len(w.refs) > 0 || w.gives > 0 {
		w.recordAnswer(size)
	} else {
		c.Finish(size)
	}
	w.write(size)
}

// refuse composes an answer that is an error.
func (w *worker) refuse(no syscall.Errno) int {
	b := w.cell.Answer
	binary.LittleEndian.PutUint32(b, sizeHeader)
	binary.LittleEndian.PutUint32(b[4:], uint32(-int32(no)))
	copy(b[8:16], w.cell.Request[8:16])
	return sizeHeader
}

// write gives the answer to the kernel. ENOENT says that it has it already.
func (w *worker) write(n int) {
	if err := w.dev.Write(w.cell.Answer[:n]); err != nil && err != syscall.ENOENT && err != syscall.ENODEV {
		log.Printf("answer a request of kind %d: %v", w.cell.Opcode(), err)
	}
}

// tidy writes the ledger anew if it has grown: when nothing goes on, or at last when
// it must.
func (s *Server) tidy() {
	soon, now := s.ledger.Grown()
	switch {
	case !soon:
		return
	case now:
		s.busy.Lock()
		if _, now = s.ledger.Grown(); !now { // somebody was faster
			s.busy.Unlock()
			return
		}
	case !s.busy.TryLock():
		runtime.Gosched()
		return
	}
	defer s.busy.Unlock()
	if err := s.ledger.Rewrite(s.recordAll); err != nil {
		log.Printf("write the ledger: %v", err)
	}
}
