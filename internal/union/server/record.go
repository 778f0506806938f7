package server

import (
	"fmt"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/union/ledger"
	"github.com/tare-engine/tare/internal/union/tree"
)

// What is recorded beside the tree.
const (
	recWords   = tree.Own + iota // what the server was started with
	recHello                     // the kernel's first request
	recAnswer                    // cell, sequence, size; nodes; what is opened
	recForget                    // cell, sequence, node, references
	recClose                     // cell, sequence, number, backing
	recRefs                      // node, references
	recOpen                      // see recordOpen
	recList                      // number; of each: name, inode number, type
	recNumbers                   // of the last that was opened, of the last backing
	recUntold                    // how many changes the kernel has not been told of
)

// kinds of what is open.
const (
	isNothing = iota
	isDirectory
	isFile
)

func (s *Server) recordSelf(r *ledger.Records) {
	r.Begin(recWords)
	for _, w := range s.words {
		r.String(w)
	}
	r.End()
	r.Begin(recHello).String(string(s.hello)).End()
}

// recordAnswer records what an answer gives, and that it counts from now on.
func (w *worker) recordAnswer(size int) {
	r := w.log.Begin(recAnswer).Int(uint64(w.cell.Index)).Int(w.cell.Sequence()).Int(uint64(size)).Int(uint64(len(w.refs)))
	for _, id := range w.refs {
		r.Int(id)
	}
	recordOpen(r, w.gives, w.open.of(w.gives))
	r.End()
	w.append()
}

func (w *worker) append() {
	w.ledger.Append(&w.log)
	w.grown = true
}

// recordOpen writes what is open, if anything is.
func recordOpen(r *ledger.Records, fh uint64, x any) {
	switch x := x.(type) {
	case *directory:
		r.Int(isDirectory).Int(fh).Int(x.n.ID)
	case *file:
		x.FD.Inherit()
		r.Int(isFile).Int(fh).Int(x.Node.ID).Int(x.BranchID()).Int(uint64(x.FD)).Int(uint64(x.uid))
		r.Bool(x.Writable()).Bool(x.drops).Bool(x.unseen).Bool(x.backing.taken).Int(uint64(x.backing.id))
	default:
		r.Int(isNothing)
	}
}

// recordForget records that references are taken back.
func (w *worker) recordForget(id, refs uint64) {
	w.log.Begin(recForget).Int(uint64(w.cell.Index)).Int(w.cell.Sequence()).Int(id).Int(refs).End()
	w.append()
}

// recordClose records that something is closed, and with it a backing, if it is not 0.
func (w *worker) recordClose(fh uint64, backing int32) {
	w.log.Begin(recClose).Int(uint64(w.cell.Index)).Int(w.cell.Sequence()).Int(fh).Int(uint64(backing)).End()
	w.append()
}

// recordList records the names that whoever reads a directory is in the middle of.
func (w *worker) recordList(fh uint64, list []fuse.DirEntry) {
	writeList(&w.log, fh, list)
	w.append()
}

func writeList(r *ledger.Records, fh uint64, list []fuse.DirEntry) {
	r.Begin(recList).Int(fh)
	for _, e := range list {
		r.String(e.Name).Int(e.Ino).Int(uint64(e.Mode))
	}
	r.End()
}

// recordAll writes all that is known. Nothing is being answered.
func (s *Server) recordAll(add func(*ledger.Records) error) error {
	var r ledger.Records
	s.recordSelf(&r)
	if err := add(&r); err != nil {
		return err
	}
	if err := s.tree.Write(add); err != nil {
		return err
	}
	s.tree.References(func(id uint64, refs int64) { r.Begin(recRefs).Int(id).Int(uint64(refs)).End() })
	if err := add(&r); err != nil {
		return err
	}
	s.open.mu.RLock()
	defer s.open.mu.RUnlock()
	for fh, x := range s.open.m {
		r.Begin(recOpen)
		recordOpen(&r, fh, x)
		r.End()
		if d, ok := x.(*directory); ok && d.read {
			writeList(&r, fh, d.list)
		}
		if err := add(&r); err != nil {
			return err
		}
	}
	r.Begin(recUntold).Int(uint64(s.untold.Load())).End()
	r.Begin(recNumbers).Int(s.open.next).Int(uint64(s.backings.last.Load())).End()
	return add(&r)
}

// Restoring is a server that is read from a ledger, for which somebody else has
// worked before.
type Restoring struct {
	Words []string // what the first was started with

	l       *ledger.Ledger
	tree    *tree.Restoring
	hello   []byte
	open    map[uint64]*opened
	last    uint64
	backing int32 // the highest number
	untold  uint64
	cells   [ledger.Cells]restoredCell
}

// opened is what is open.
type opened struct {
	kind                         uint64
	node, branch                 uint64
	fd                           dirat.FD
	uid                          uint32
	write, drops, unseen, backed bool
	backing                      int32
	list                         []fuse.DirEntry
}

// restoredCell is what is known of the last requests that were in a cell.
type restoredCell struct {
	answered, forgetting, closing uint64 // sequences
	size, forgets                 int
	backing                       int32
}

// Read reads a ledger.
func Read(l *ledger.Ledger) (*Restoring, error) {
	s := &Restoring{l: l, tree: tree.NewRestoring(), open: map[uint64]*opened{}}
	return s, l.Read(func(r *ledger.Record) error {
		if r.Kind < tree.Own {
			return s.tree.Read(r)
		}
		return s.read(r)
	})
}

func (s *Restoring) read(r *ledger.Record) error {
	switch r.Kind {
	case recWords:
		s.Words = nil
		for r.More() {
			s.Words = append(s.Words, r.String())
		}
	case recHello:
		s.hello = []byte(r.String())
	case recAnswer, recForget, recClose:
		i := r.Int()
		if i >= ledger.Cells {
			return fmt.Errorf("cell %d", i)
		}
		s.readCell(r, &s.cells[i])
	case recRefs:
		s.tree.Refer(r.Int(), int64(r.Int()))
	case recOpen:
		s.readOpen(r)
	case recList:
		s.readList(r)
	case recNumbers:
		s.last, s.backing = max(s.last, r.Int()), max(s.backing, int32(r.Int()))
	case recUntold:
		s.untold = r.Int()
	default:
		return fmt.Errorf("record of kind %d", r.Kind)
	}
	return nil
}

func (s *Restoring) readCell(r *ledger.Record, c *restoredCell) {
	sequence := r.Int()
	switch r.Kind {
	case recAnswer:
		c.answered, c.size = sequence, int(r.Int())
		for range r.Int() {
			s.tree.Refer(r.Int(), 1)
		}
		s.readOpen(r)
	case recForget:
		if c.forgetting != sequence {
			c.forgetting, c.forgets = sequence, 0
		}
		c.forgets++
		s.tree.Refer(r.Int(), -int64(r.Int()))
	case recClose:
		delete(s.open, r.Int())
		c.closing, c.backing = sequence, int32(r.Int())
	}
}

func (s *Restoring) readOpen(r *ledger.Record) {
	kind := r.Int()
	if kind == isNothing {
		return
	}
	fh := r.Int()
	o := &opened{kind: kind, node: r.Int(), fd: dirat.None}
	if kind == isFile {
		o.branch, o.fd, o.uid = r.Int(), dirat.FD(r.Int()), uint32(r.Int())
		o.write, o.drops, o.unseen, o.backed = r.Bool(), r.Bool(), r.Bool(), r.Bool()
		o.backing = int32(r.Int())
		s.backing = max(s.backing, o.backing)
	}
	s.open[fh] = o
	s.last = max(s.last, fh)
}

func (s *Restoring) readList(r *ledger.Record) {
	var list []fuse.DirEntry
	fh := r.Int()
	for r.More() {
		list = append(list, fuse.DirEntry{Name: r.String(), Ino: r.Int(), Mode: uint32(r.Int()), Off: uint64(len(list) + 1)})
	}
	if o := s.open[fh]; o != nil {
		o.list = list
	}
}
