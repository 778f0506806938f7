package tree

import (
	"syscall"

	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/union"
)

// Unlink removes a name that is no directory's.
func (t *Tree) Unlink(p *Node, name string, in *Intent) error {
	in = in.orNone()
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := checkOld(name); err != nil {
		return err
	}
	choose := func(f *found) (*Branch, error) {
		if f.dir() {
			return nil, syscall.EISDIR
		}
		return t.chooseOld(p, f, in)
	}
	return t.change(p, name, choose, func(s step) error {
		return t.removeIn(p, s, name, in, s.f.st.Nlink == 1, func() error { return s.fd.Unlink(name) })
	})
}

// removeIn makes a name go away and tells the table. last tells whether the file of
// the branch goes with it. Preconditions: p.dir.mu is held.
func (t *Tree) removeIn(p *Node, s step, name string, in *Intent, last bool, remove func() error) error {
	if s.f.at != nil { // else it has gone already
		if in.holding() < 0 {
			in.hold(t.hold(p, name))
		}
		what := Intent{n: t.idOf(p, name), src: s.f.st.Ino}
		if s.f.at == s.b && last {
			what.flags = intentForget
		}
		in.note(s.b, what)
		if err := t.takeAway(p, s, name, remove); err != nil {
			in.undone()
			return err
		}
	}
	if in.flags&intentForget != 0 {
		s.b.home.inodes.forget(in.src)
	}
	t.orphaned(p, name, in.n, in)
	return nil
}

// idOf is the number of the node that a name stands for, or 0.
func (t *Tree) idOf(p *Node, name string) uint64 {
	t.table.mu.Lock()
	defer t.table.mu.Unlock()
	if n := p.kids[name]; n != nil {
		return n.ID
	}
	return 0
}

// checkOld refuses what cannot be the name of something that is to go.
func checkOld(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if union.Hidden(name) {
		return syscall.ENOENT
	}
	return nil
}

// chooseOld decides which branch is written to when a name goes away: the one
// that has it, or one above, which gets a whiteout.
func (t *Tree) chooseOld(p *Node, f *found, in *Intent) (*Branch, error) {
	if f.at == nil {
		if b := t.begun(in); b != nil { // it has gone already
			return b, nil
		}
		return nil, syscall.ENOENT
	}
	if f.at.rw() {
		return f.at, nil
	}
	return t.forCopy(p, f.at.index)
}

// takeAway makes a name go away: a whiteout if a branch below has it, then the
// removal, if it is in the branch that is written to.
func (t *Tree) takeAway(p *Node, s step, name string, remove func() error) error {
	if s.f.at != s.b {
		return t.mark(s.b, s.fd, union.WhiteoutPrefix+name)
	}
	below, err := t.below(p, s.b, name)
	if err != nil {
		return err
	}
	if below {
		if err := t.mark(s.b, s.fd, union.WhiteoutPrefix+name); err != nil {
			return err
		}
	}
	if err := remove(); err != nil {
		if below {
			s.fd.Unlink(union.WhiteoutPrefix + name)
		}
		return err
	}
	return nil
}

// hold keeps the file of a node whose last name is about to go, if the node is
// in use. Preconditions: p.dir.mu is held.
func (t *Tree) hold(p *Node, name string) dirat.FD {
	t.table.mu.Lock()
	n := p.kids[name]
	last := n != nil && len(n.places) == 1
	t.table.mu.Unlock()
	if !last {
		return dirat.None
	}
	held, err := t.keep(n)
	if err != nil {
		return dirat.None // changed behind the union: the answers will be ESTALE
	}
	return held
}

// keep opens what a node is, without looking whether branches have changed.
func (t *Tree) keep(n *Node) (dirat.FD, error) {
	if !n.Dir() {
		return t.place(n)
	}
	list := n.dir.list()
	if len(list) == 0 {
		return dirat.None, syscall.ESTALE
	}
	fd, err := t.use(n, list[0])
	if err != nil {
		return dirat.None, err
	}
	defer t.done(list[0])
	return fd.Dup()
}

// orphaned takes a name from its node, by the number that it had, which goes on
// with the descriptor that the intent has, if it was the last.
func (t *Tree) orphaned(p *Node, name string, id uint64, in *Intent) {
	t.table.mu.Lock()
	gone, kept := t.table.orphaned(p, name, id, in.holding())
	t.table.unlock()
	in.settled(kept)
	t.bury(gone)
}

// orphaned is the same, and says whether the node has the descriptor. Preconditions:
// t.mu is held, and that of a directory which goes.
func (t *table) orphaned(p *Node, name string, id uint64, held dirat.FD) (gone []*Node, kept bool) {
	n := t.byID[id]
	if n == nil {
		return nil, false
	}
	if p.kids[name] == n {
		t.detach(n, p, name)
		if len(n.places) == 0 {
			if n.orphan < 0 {
				t.setOrphan(n, held)
			}
			if n.Dir() {
				t.kill(n)
			}
		}
		gone = t.drop(n)
	}
	return gone, held >= 0 && n.orphan == held
}

// Rmdir removes a directory in which nothing is seen.
func (t *Tree) Rmdir(p *Node, name string, in *Intent) error {
	in = in.orNone()
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := checkOld(name); err != nil {
		return err
	}
	choose := func(f *found) (*Branch, error) {
		if f.at != nil && !f.dir() {
			return nil, syscall.ENOTDIR
		}
		b, err := t.chooseOld(p, f, in)
		if err == nil && !p.dir.has(b) { // p is not copied up for nothing
			err = t.empty(p, name, f.slots)
		}
		return b, err
	}
	return t.change(p, name, choose, func(s step) error {
		n := t.kid(p, name)
		if n != nil {
			n.dir.mu.Lock()
			defer n.dir.mu.Unlock()
		}
		if err := t.empty(p, name, s.f.slots); err != nil {
			return err
		}
		return t.removeIn(p, s, name, in, true, func() error { return t.rmdir(s, name) })
	})
}

// kid returns the node of a directory in a directory, if there is one.
func (t *Tree) kid(p *Node, name string) *Node {
	t.table.mu.Lock()
	defer t.table.mu.Unlock()
	if n := p.kids[name]; n != nil && n.Dir() {
		return n
	}
	return nil
}

// empty answers ENOTEMPTY if anything is seen in the directories that were found
// by a name.
func (t *Tree) empty(p *Node, name string, list []slot) error {
	entries, err := t.merge(list, func(s slot) (dirat.FD, error) { return t.useNamed(p, name, s) })
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !union.Hidden(e.Name) {
			return syscall.ENOTEMPTY
		}
	}
	return nil
}

// rmdir removes the directory of a branch in which whiteouts may be: then it
// goes to the work directory first, at one stroke.
func (t *Tree) rmdir(s step, name string) error {
	err := s.fd.Rmdir(name)
	if err != syscall.ENOTEMPTY && err != syscall.EEXIST {
		return err
	}
	temp := t.tempName()
	if err := s.fd.Rename(name, s.b.home.work, temp, dirat.NoReplace); err != nil {
		return err
	}
	// What cannot be deleted now is when the branch is used for the next time.
	removeAll(s.b.home.work, temp)
	return nil
}
