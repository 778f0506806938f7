package tree

import (
	"maps"
	"slices"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/union"
)

// Add puts branches at an index, -1 is below all others, of which the tree closes
// the directories. All of them come, or none. All that was looked up may be
// something else afterwards; what is open stays.
func (t *Tree) Add(index int, list ...Source) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if index < 0 {
		index = len(t.branches)
	}
	specs := t.specs()
	for i, s := range list {
		var err error
		if specs, err = union.Insert(specs, index+i, s.Branch); err != nil {
			closeSources(list)
			return err
		}
	}
	for i, s := range list {
		if err := t.insert(index+i, s); err != nil {
			closeSources(list[i+1:])
			t.takeOut(t.branches[index : index+i])
			return err
		}
	}
	t.changed()
	t.recordBranches()
	return nil
}

func closeSources(list []Source) {
	for _, s := range list {
		s.Root.Close()
	}
}

// takeOut removes branches from the list and closes them. Preconditions: t.mu is
// held exclusively, and nobody has used them or leave was called.
func (t *Tree) takeOut(list []*Branch) {
	gone := slices.Clone(list)
	t.branches = slices.DeleteFunc(slices.Clone(t.branches), func(b *Branch) bool { return slices.Contains(gone, b) })
	t.number()
	t.recordBranches()
	for _, b := range gone {
		b.close()
	}
}

// SetCreate changes where something new is made.
func (t *Tree) SetCreate(p union.Placement) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.options.Create = p
	t.recordBranches()
	t.free.setEvery(p.Every)
}

// changed makes every directory look for its slots again.
func (t *Tree) changed() { t.gen.Add(1) }

func (t *Tree) branchOf(dir string) (*Branch, error) {
	if i := union.Index(t.specs(), dir); i >= 0 {
		return t.branches[i], nil
	}
	return nil, &BranchError{Dir: dir, Text: "it is no branch of this union"}
}

// Delete removes branches that are not in use: no file of them is open, and nobody
// refers to what is in no other branch. All of them go, or none. Errors are EBUSY
// if they are in use.
func (t *Tree) Delete(dirs ...string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []*Branch
	for _, dir := range dirs {
		b, err := t.branchOf(dir)
		if err != nil {
			return err
		}
		if b.opens.Load() > 0 {
			return &BranchError{Dir: b.spec.Dir, Text: "a file of it is open", Err: syscall.EBUSY}
		}
		list = append(list, b)
	}
	if len(list) == len(t.branches) {
		return &BranchError{Dir: dirs[0], Text: "it is the only branch", Err: syscall.EBUSY}
	}
	if b := t.usedOnly(list); b != nil {
		return &BranchError{Dir: b.spec.Dir, Text: "something of it is in use", Err: syscall.EBUSY}
	}
	t.changed()
	for _, b := range list {
		t.leave(b)
	}
	t.takeOut(list)
	return nil
}

// usedOnly returns one of the branches to which someone refers for what no other
// branch has, or nil.
func (t *Tree) usedOnly(list []*Branch) *Branch {
	t.table.mu.Lock()
	defer t.table.mu.Unlock()
	for _, n := range t.table.byID {
		if n.refs > 0 && n.only(list) {
			return n.topmost()
		}
	}
	return nil
}

// only tells whether a node is in these branches and in no other. Preconditions:
// table.mu is held.
func (n *Node) only(list []*Branch) bool {
	if !n.Dir() {
		return slices.Contains(list, n.at.b)
	}
	slots := n.dir.list()
	return n.ID != 1 && len(slots) > 0 && !slices.ContainsFunc(slots, func(s slot) bool { return !slices.Contains(list, s.b) })
}

// topmost is the branch of a node that is in one. Preconditions: table.mu is held.
func (n *Node) topmost() *Branch {
	if n.Dir() {
		return n.dir.list()[0].b
	}
	return n.at.b
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
		t.table.noteSlots(n)
	}
	t.table.unlock()
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
	lock := b.lock
	if err := t.furnish(s, &h, &lock); err != nil {
		return err
	}
	t.shut(b)
	old := Branch{root: b.root, lock: dirat.None}
	old.home.take(&b.home)
	b.root, b.spec, b.lock = s.Root, s.Branch, lock
	b.home.take(&h)
	if !b.rw() {
		old.lock, b.lock = b.lock, dirat.None
	}
	t.changed()
	t.recordBranches()
	old.close()
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

// Nodes lists all nodes, in no order.
func (t *Tree) Nodes() []*Node {
	t.table.mu.Lock()
	defer t.table.mu.Unlock()
	return slices.Collect(maps.Values(t.table.byID))
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
