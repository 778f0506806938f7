package tree

import (
	"slices"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/union"
)

// noLimit is the limit of a directory to which all branches may contribute.
const noLimit = 1 << 30

// found is what a name in a directory stands for.
type found struct {
	at    *Branch // the topmost that has it; nil: nobody
	st    dirat.Stat
	slots []slot  // of a directory
	limit int     // of a directory, see dir.limit
	white *Branch // whose whiteout ended the search
	made  bool    // an operation that is called again has made it
}

func (f *found) dir() bool { return f.at != nil && dirat.Kind(f.st.Mode) == syscall.S_IFDIR }

// Lookup returns what name is in a directory, with one reference. Whiteouts are found if
// they are shown.
func (t *Tree) Lookup(p *Node, name string) (*Node, *dirat.Stat, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := checkName(name); err != nil {
		return nil, nil, err
	}
	if union.Hidden(name) && (!t.options.ShowWhiteouts || ours(name)) {
		return nil, nil, syscall.ENOENT
	}
	if err := t.read(p); err != nil {
		return nil, nil, err
	}
	defer p.dir.mu.RUnlock()
	return t.lookup(p, name)
}

// lookup is the same. Preconditions: p.dir.mu is held, if only for reading.
func (t *Tree) lookup(p *Node, name string) (*Node, *dirat.Stat, error) {
	f, err := t.resolve(p, name)
	if err != nil {
		return nil, nil, err
	}
	if f.at == nil {
		return nil, nil, syscall.ENOENT
	}
	n, err := t.intern(p, name, &f)
	if err != nil {
		return nil, nil, err
	}
	if !n.Dir() && t.branch(n) != f.at { // another name of it was copied up
		if err := t.stat(n, &f.st); err != nil {
			t.Forget(n, 1)
			return nil, nil, err
		}
	}
	t.show(n, &f.st)
	return n, &f.st, nil
}

// ours tells whether a hidden name is not a whiteout, but something that the
// union keeps for itself.
func ours(name string) bool { return union.Hidden(name[len(union.WhiteoutPrefix):]) }

// read locks a directory for reading.
func (t *Tree) read(p *Node) error {
	if !p.Dir() {
		return syscall.ENOTDIR
	}
	if err := t.fresh(p); err != nil {
		return err
	}
	p.dir.mu.RLock()
	if p.dir.dead {
		p.dir.mu.RUnlock()
		return syscall.ENOENT
	}
	return nil
}

// write locks a directory for changing names in it.
func (t *Tree) write(p *Node) error {
	if !p.Dir() {
		return syscall.ENOTDIR
	}
	if err := t.fresh(p); err != nil {
		return err
	}
	p.dir.mu.Lock()
	if p.dir.dead {
		p.dir.mu.Unlock()
		return syscall.ENOENT
	}
	return nil
}

// fresh finds the slots of a directory again if branches have changed.
func (t *Tree) fresh(n *Node) error {
	gen := t.gen.Load()
	if n.dir.gen.Load() == gen {
		return nil
	}
	if n == t.root {
		n.dir.mu.Lock()
		defer n.dir.mu.Unlock()
		t.freshRoot()
		n.dir.gen.Store(gen)
		return nil
	}
	parent, name, ok := t.Place(n)
	if !ok {
		return nil // removed: it stays as it is
	}
	if err := t.fresh(parent); err != nil {
		return err
	}
	parent.dir.mu.RLock()
	defer parent.dir.mu.RUnlock()
	f, err := t.resolve(parent, name)
	if err != nil {
		return err
	}
	if !f.dir() {
		return syscall.ESTALE
	}
	t.setSlots(n, &f)
	return nil
}

func (t *Tree) freshRoot() {
	list := make([]slot, len(t.branches))
	for i, b := range t.branches {
		list[i] = slot{b, &dirfd{dev: b.dev, ino: b.ino, fixed: true, fd: b.root}}
	}
	t.root.dir.slots.Store(&list)
	t.root.dir.limit.Store(noLimit)
}

// setSlots gives a directory the slots that were found, keeping those it has
// already. Preconditions: its parent's dir.mu is held; its own is not.
func (t *Tree) setSlots(n *Node, f *found) {
	n.dir.mu.Lock()
	defer n.dir.mu.Unlock()
	old := n.dir.list()
	list := slices.Clone(f.slots)
	for i, s := range list {
		for j, o := range old {
			if o.b == s.b && o.d.dev == s.d.dev && o.d.ino == s.d.ino {
				t.handles.drop(s.d)
				list[i] = o
				old = slices.Delete(slices.Clone(old), j, j+1)
				break
			}
		}
	}
	n.dir.slots.Store(&list)
	n.dir.limit.Store(int64(f.limit))
	n.dir.gen.Store(t.gen.Load())
	t.table.recordSlots(n)
	t.release(old)
	f.slots = nil
}

// resolve looks for name in the branches of a directory by the rules.
// Preconditions: p.dir.mu is held, if only for reading.
func (t *Tree) resolve(p *Node, name string) (f found, err error) {
	f.limit = noLimit
	defer func() {
		if err != nil {
			t.release(f.slots)
		}
	}()
	list := p.dir.list()
	for i, s := range list {
		more, err := t.resolveIn(p, s, name, &f, i == len(list)-1)
		if err != nil || !more {
			return f, err
		}
	}
	return f, nil
}

// resolveIn looks in one branch; more tells whether those below count.
func (t *Tree) resolveIn(p *Node, s slot, name string, f *found, last bool) (more bool, err error) {
	if union.Hidden(name) && !s.b.spec.Honours() {
		return true, nil // whiteouts that mean nothing are not shown either
	}
	fd, err := t.use(p, s)
	if err != nil {
		return false, err
	}
	defer t.done(s)
	var st dirat.Stat
	if err := fd.StatAt(name, &st); err == syscall.ENOENT {
		return t.whitedOut(s, fd, name, f)
	} else if err != nil {
		return false, err
	}
	isDir := dirat.Kind(st.Mode) == syscall.S_IFDIR
	sub := dirat.None
	if isDir {
		if sub, err = openDir(fd, name, &st); err != nil {
			return false, err
		}
	}
	if f.at == nil {
		f.at, f.st = s.b, st
	} else if !isDir {
		f.limit = s.b.index - 1
		return false, nil
	}
	if !isDir {
		return false, nil
	}
	more = true
	if !last && s.b.spec.Honours() {
		more, err = t.opaque(s, fd, sub, name, f)
	}
	// Last, as sub may be closed from now on, to be opened again.
	f.slots = append(f.slots, slot{s.b, t.newDirfd(sub, &st)})
	return more, err
}

// openDir opens a directory and says what it is, which may be another one than a
// moment ago.
func openDir(fd dirat.FD, name string, st *dirat.Stat) (dirat.FD, error) {
	sub, err := fd.Dir(name)
	if err != nil {
		return dirat.None, stale(err)
	}
	if err := sub.Stat(st); err != nil {
		sub.Close()
		return dirat.None, err
	}
	return sub, nil
}

// whitedOut looks for the whiteout of a name that a branch does not have.
func (t *Tree) whitedOut(s slot, fd dirat.FD, name string, f *found) (more bool, err error) {
	if !s.b.spec.Honours() || union.Hidden(name) {
		return true, nil
	}
	has, err := fd.Has(union.WhiteoutPrefix + name)
	if err != nil || !has {
		return err == nil, err
	}
	if f.at == nil {
		f.white = s.b
	} else {
		f.limit = s.b.index - 1
	}
	return false, nil
}

// opaque tells whether directories below the one that is open as sub do not
// count: it says so, or it stands beside its whiteout, as after a creation that
// was interrupted.
func (t *Tree) opaque(s slot, fd, sub dirat.FD, name string, f *found) (more bool, err error) {
	has, err := sub.Has(union.Opaque)
	if err == nil && !has {
		has, err = fd.Has(union.WhiteoutPrefix + name)
	}
	if has {
		f.limit = s.b.index
	}
	return err == nil && !has, err
}

// below tells whether name would be seen if branches down to b were not there.
// Preconditions: p.dir.mu is held, if only for reading.
func (t *Tree) below(p *Node, b *Branch, name string) (bool, error) {
	for _, s := range p.dir.list() {
		if s.b.index <= b.index {
			continue
		}
		fd, err := t.use(p, s)
		if err != nil {
			return false, err
		}
		has, err := fd.Has(name)
		if err == nil && !has && s.b.spec.Honours() {
			var white bool
			if white, err = fd.Has(union.WhiteoutPrefix + name); white {
				t.done(s)
				return false, err
			}
		}
		t.done(s)
		if err != nil || has {
			return has, err
		}
	}
	return false, nil
}

// intern returns the node of what was found, with one reference, and takes over
// its slots. Who has another node of that name, because a branch has changed,
// keeps it.
func (t *Tree) intern(p *Node, name string, f *found) (*Node, error) {
	t.table.mu.Lock()
	old := p.kids[name]
	other := old != nil && !old.is(f)
	t.table.mu.Unlock()
	if !other {
		return t.internNew(p, name, f)
	}
	held := t.hold(p, name)
	n, err := t.internNew(p, name, f)
	t.table.mu.Lock()
	if err == nil && n != old && len(old.places) == 0 && old.orphan < 0 && t.table.byID[old.ID] == old {
		t.table.setOrphan(old, held)
		held = dirat.None
	}
	t.table.unlock()
	held.Close()
	return n, err
}

// is tells whether a node is, or may be, what was found.
func (n *Node) is(f *found) bool {
	if n.Dir() || f.dir() {
		return n.Dir() && f.dir() && meet(n.dir.list(), f.slots)
	}
	return n.at == key{f.at, f.st.Dev, f.st.Ino} || n.linked
}

func (t *Tree) internNew(p *Node, name string, f *found) (*Node, error) {
	if f.dir() {
		return t.internDir(p, name, f), nil
	}
	k := key{f.at, f.st.Dev, f.st.Ino}
	kind := dirat.Kind(f.st.Mode)
	linked := false
	if f.st.Nlink > 1 {
		up, ok, err := t.linkOf(f.at, f.st.Ino)
		if err != nil {
			return nil, err
		}
		if ok {
			k, linked = up, true
		}
	}
	t.table.mu.Lock()
	defer t.table.unlock()
	n := t.table.byKey[k]
	if n == nil || n.kind != kind {
		n = t.table.add(kind, k.b.inode(k.ino))
		t.table.locate(n, k, linked)
	}
	t.table.attach(n, p, name)
	n.refs++
	return n, nil
}

func (t *Tree) internDir(p *Node, name string, f *found) *Node {
	t.table.mu.Lock()
	n := p.kids[name]
	isNew := n == nil || !n.Dir() || !meet(n.dir.list(), f.slots)
	if isNew {
		n = t.table.add(syscall.S_IFDIR, f.at.inode(f.st.Ino))
		list := f.slots
		n.dir.slots.Store(&list)
		n.dir.limit.Store(int64(f.limit))
		n.dir.gen.Store(t.gen.Load())
		t.table.noteSlots(n)
	}
	t.table.attach(n, p, name)
	n.refs++
	t.table.unlock()
	if isNew {
		f.slots = nil
		return n
	}
	if same(n.dir.list(), f.slots) && n.dir.limit.Load() == int64(f.limit) {
		t.release(f.slots)
		f.slots = nil
		return n
	}
	t.setSlots(n, f)
	return n
}

// meet tells whether two lists have a directory in common.
func meet(a, b []slot) bool {
	for _, s := range a {
		for _, o := range b {
			if s.equal(o) {
				return true
			}
		}
	}
	return false
}

func same(a, b []slot) bool { return slices.EqualFunc(a, b, slot.equal) }

func (s slot) equal(o slot) bool { return s.b == o.b && s.d.dev == o.d.dev && s.d.ino == o.d.ino }
