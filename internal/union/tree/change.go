package tree

import (
	"slices"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/union"
)

// Add puts a branch at an index, of which the tree closes the directory. All
// that was looked up may be something else afterwards; what is open stays.
func (t *Tree) Add(index int, s Source) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, err := union.Insert(t.specs(), index, s.Branch); err != nil {
		s.Root.Close()
		return err
	}
	if err := t.insert(index, s); err != nil {
		return err
	}
	t.changed()
	return nil
}

// Append puts a branch below all others.
func (t *Tree) Append(s Source) error {
	t.mu.RLock()
	n := len(t.branches)
	t.mu.RUnlock()
	return t.Add(n, s)
}

// changed makes every directory look for its slots again.
func (t *Tree) changed() { t.gen.Add(1) }

func (t *Tree) branchOf(dir string) (*Branch, error) {
	if i := union.Index(t.specs(), dir); i >= 0 {
		return t.branches[i], nil
	}
	return nil, &BranchError{Dir: dir, Text: "it is no branch of this union"}
}

// Delete removes a branch that is not in use: no file of it is open, and nobody
// refers to what is in no other branch. Errors are EBUSY then.
func (t *Tree) Delete(dir string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, err := t.branchOf(dir)
	if err != nil {
		return err
	}
	if len(t.branches) == 1 {
		return &BranchError{Dir: b.spec.Dir, Text: "it is the only branch", Err: syscall.EBUSY}
	}
	if b.opens.Load() > 0 {
		return &BranchError{Dir: b.spec.Dir, Text: "a file of it is open", Err: syscall.EBUSY}
	}
	if t.usedOnly(b) {
		return &BranchError{Dir: b.spec.Dir, Text: "something of it is in use", Err: syscall.EBUSY}
	}
	t.branches = slices.DeleteFunc(t.branches, func(o *Branch) bool { return o == b })
	t.number()
	t.changed()
	t.leave(b)
	b.close()
	return nil
}

// usedOnly tells whether someone refers to what only this branch has.
func (t *Tree) usedOnly(b *Branch) bool {
	t.table.mu.Lock()
	defer t.table.mu.Unlock()
	for _, n := range t.table.byID {
		if n.refs > 0 && n.only(b) {
			return true
		}
	}
	return false
}

// only tells whether a node is in a branch and in no other. Preconditions:
// table.mu is held.
func (n *Node) only(b *Branch) bool {
	if !n.Dir() {
		return n.at.b == b
	}
	list := n.dir.list()
	return n.ID != 1 && len(list) == 1 && list[0].b == b
}

// leave takes a branch out of all directories.
func (t *Tree) leave(b *Branch) {
	t.table.mu.Lock()
	var drop []slot
	for _, n := range t.table.byID {
		if !n.Dir() {
			continue
		}
		list := slices.Clone(n.dir.list())
		list = slices.DeleteFunc(list, func(s slot) bool {
			if s.b == b {
				drop = append(drop, s)
			}
			return s.b == b
		})
		n.dir.slots.Store(&list)
	}
	t.table.mu.Unlock()
	t.release(drop)
}

// Modify changes what the union may do with a branch. The source's directory,
// through which it is used from now on, is the same directory, possibly by
// another mount. Errors are EBUSY if the branch is not to be written any more
// while a file of it is open for writing.
func (t *Tree) Modify(s Source) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	err := t.modify(s)
	if err != nil {
		s.Root.Close()
	}
	return err
}

func (t *Tree) modify(s Source) error {
	b, err := t.branchOf(s.Dir)
	if err != nil {
		return err
	}
	if b.rw() && s.Perm != union.RW && b.wopen.Load() > 0 {
		return &BranchError{Dir: s.Dir, Text: "a file of it is open for writing", Err: syscall.EBUSY}
	}
	var st dirat.Stat
	if err := s.Root.Stat(&st); err != nil || st.Dev != b.dev || st.Ino != b.ino {
		return &BranchError{Dir: s.Dir, Text: "it is another directory than when the union was mounted", Err: syscall.ESTALE}
	}
	var h home
	if err := h.open(s.Root, s.Perm == union.RW); err != nil {
		return &BranchError{Dir: s.Dir, Text: "prepare it", Err: err}
	}
	t.shut(b)
	b.close()
	b.root, b.spec = s.Root, s.Branch
	b.home.take(&h)
	t.changed()
	return nil
}

// shut closes all directories of a branch, which are opened again by its root.
// Preconditions: t.mu is held exclusively, so nobody uses one.
func (t *Tree) shut(b *Branch) {
	t.table.mu.Lock()
	defer t.table.mu.Unlock()
	t.handles.mu.Lock()
	defer t.handles.mu.Unlock()
	for _, n := range t.table.byID {
		if !n.Dir() || n.ID == 1 {
			continue
		}
		if s, ok := n.dir.in(b); ok {
			t.handles.shut(s.d)
		}
	}
}

// Used lists the nodes that someone refers to, those below others first.
func (t *Tree) Used() []*Node {
	t.table.mu.Lock()
	defer t.table.mu.Unlock()
	list := make([]*Node, 0, len(t.table.byID))
	for _, n := range t.table.byID {
		list = append(list, n)
	}
	return list
}

// Places lists the names of a node.
func (t *Tree) Places(n *Node) (parents []*Node, names []string) {
	t.table.mu.Lock()
	defer t.table.mu.Unlock()
	for _, p := range n.places {
		parents, names = append(parents, p.parent), append(names, p.name)
	}
	return parents, names
}
