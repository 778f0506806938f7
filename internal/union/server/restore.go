package server

import (
	"errors"
	"fmt"
	"log"

	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/linux/fusedev"
	"github.com/tare-engine/tare/internal/union"
	"github.com/tare-engine/tare/internal/union/ledger"
	"github.com/tare-engine/tare/internal/union/tree"
)

// Descriptors are those that were inherited and will be needed.
func (s *Restoring) Descriptors() []dirat.FD {
	list := s.tree.Descriptors()
	for _, o := range s.open {
		if o.fd >= 0 {
			list = append(list, o.fd)
		}
	}
	for i := range ledger.Cells {
		if c := s.l.Cell(i); c.Waiting() > 0 {
			if fd := tree.IntentAt(c.Intent()).Held(); fd >= 0 {
				list = append(list, fd)
			}
		}
	}
	return list
}

// Restore makes the server; it has answered nothing yet.
func (s *Restoring) Restore(dev fusedev.Dev, o union.Options, descriptors int) (*Server, error) {
	if len(s.hello) == 0 {
		return nil, errors.New("no file system is recorded")
	}
	t, err := s.tree.Restore(o, descriptors, s.l)
	if err != nil {
		return nil, err
	}
	srv := newServer(t, dev, s.l)
	srv.words, srv.hello = s.Words, s.hello
	srv.open.next = s.last
	srv.backings.last.Store(s.backing)
	for fh, o := range s.open {
		if err := srv.restoreOpen(fh, o); err != nil {
			return nil, err
		}
	}
	s.closeBackings(srv)
	srv.settle()
	return srv, t.Sweep()
}

func (s *Server) restoreOpen(fh uint64, o *opened) error {
	if o.kind == isDirectory {
		n := s.tree.ByID(o.node)
		if n == nil {
			return fmt.Errorf("directory %d is open as node %d, which is not there", fh, o.node)
		}
		s.open.m[fh] = &directory{n: n, list: o.list, read: o.list != nil}
		return nil
	}
	tf, err := s.tree.Reopen(o.node, o.branch, o.fd, o.write)
	if err != nil {
		return err
	}
	f := &file{File: tf, uid: o.uid, drops: o.drops, unseen: o.unseen}
	s.backings.restore(f, o)
	s.open.m[fh] = f
	return nil
}

// closeBackings closes those that nobody uses: of files that were about to be closed,
// and of files that were about to be opened. The kernel counts their numbers up.
func (s *Restoring) closeBackings(srv *Server) {
	for i := range ledger.Cells {
		c := s.l.Cell(i)
		if r := s.cells[i]; c.Waiting() > 0 && r.closing == c.Sequence() && r.backing > 0 {
			_ = srv.dev.CloseBacking(r.backing) // ENOENT: it has been
		}
	}
	probe, err := srv.dev.OpenBacking(s.l.FD())
	if err != nil {
		return // the kernel takes none
	}
	for id := s.backing + 1; id <= probe; id++ {
		_ = srv.dev.CloseBacking(id)
	}
	srv.backings.last.Store(probe)
}

// Resume is Serve for a server that was restored: what was read, and not answered, is
// first.
func (s *Server) Resume(r *Restoring) {
	for _, w := range s.waiting(r) {
		s.crew.Add(1)
		go func() {
			defer s.crew.Done()
			w.finish()
			w.work()
		}()
	}
	s.hire()
	if r.untold > 0 { // somebody was in the middle of it
		go func() {
			if err := s.forgetAll(); err != nil {
				log.Printf("tell the kernel of changes: %v", err)
				return
			}
			s.recordUntold(0)
		}()
	}
	s.crew.Wait()
}

// waiting returns workers for the cells in which there is a request. Nobody works yet.
func (s *Server) waiting(r *Restoring) (list []*worker) {
	last := -1
	for i := range ledger.Cells {
		if s.ledger.Cell(i).Waiting() > 0 {
			last = i
		}
	}
	var free []*worker
	for s.crew.next <= last {
		w := s.recruit()
		if w == nil {
			break // it has said why
		}
		known, c := r.cells[w.cell.Index], w.cell
		if c.Waiting() == 0 {
			free = append(free, w)
			continue
		}
		if known.answered == c.Sequence() {
			c.Finish(known.size)
		}
		if known.forgetting == c.Sequence() {
			w.forgets = known.forgets
		}
		list = append(list, w)
	}
	s.crew.free = free
	return list
}

// finish answers what an earlier process has read.
func (w *worker) finish() {
	if n := w.cell.Finished(); n > 0 {
		w.write(n)
		return
	}
	w.answer()
	w.forgets = 0
}
