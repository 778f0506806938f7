package tree

import (
	"fmt"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/union"
	"github.com/tare-engine/tare/internal/union/ledger"
)

const dirKind = syscall.S_IFDIR

// Restore makes the tree that was recorded, which goes on to be recorded. Nodes that
// nobody refers to stay until Sweep.
func (s *Restoring) Restore(o union.Options, descriptors int, l *ledger.Ledger) (*Tree, error) {
	if s.nodes[1] == nil {
		return nil, fmt.Errorf("nothing of a tree is recorded")
	}
	var err error
	if o.Create, err = union.ParsePlacement(s.create); err != nil {
		return nil, err
	}
	t := &Tree{options: o}
	t.handles.max = max(descriptors, 16)
	t.free.every = o.Create.Every
	t.table.init()
	for i, b := range s.branches {
		if err := t.insertAs(i, b, s.ids[i]); err != nil {
			return nil, err
		}
	}
	// Directories are the same as before, but of what they consist is looked up once
	// more: a copy may have come of which nobody has told.
	t.gen.Store(2)
	for id, m := range s.nodes {
		t.restoreNode(id, m)
	}
	for id, m := range s.nodes {
		if err := t.restorePlaces(t.table.byID[id], m); err != nil {
			return nil, err
		}
	}
	t.root = t.table.byID[1]
	t.root.refs = 1
	t.freshRoot()
	t.table.next = s.next
	t.table.log = l
	return t, nil
}

// restoreNode makes a node without its places.
func (t *Tree) restoreNode(id uint64, m *memory) {
	n := &Node{ID: id, Ino: m.ino, kind: m.kind, refs: m.refs, orphan: m.orphan}
	t.table.byID[id] = n
	if n.Dir() {
		n.dir, n.kids = &dir{dead: m.dead}, map[string]*Node{}
		n.dir.limit.Store(m.limit)
		list := []slot{}
		for _, s := range m.slots {
			if b := t.branchByID(s.branch); b != nil {
				list = append(list, slot{b, &dirfd{dev: s.dev, ino: s.ino, fd: dirat.None}})
			}
		}
		n.dir.slots.Store(&list)
		return
	}
	if b := t.branchByID(m.branch); m.located && b != nil {
		n.at, n.linked = key{b, m.dev, m.at}, m.linked
		if m.keyed {
			t.table.byKey[n.at] = n
		}
	}
}

func (t *Tree) restorePlaces(n *Node, m *memory) error {
	for _, pl := range m.places {
		p := t.table.byID[pl.parent]
		if p == nil || !p.Dir() {
			return fmt.Errorf("node %d is in %d, which is no directory", n.ID, pl.parent)
		}
		n.places = append(n.places, place{p, pl.name})
		p.kids[pl.name] = n
	}
	return nil
}

// Reopen makes the file that was open as a descriptor, on a branch.
func (t *Tree) Reopen(id, branch uint64, fd dirat.FD, write bool) (*File, error) {
	n, b := t.ByID(id), t.branchByID(branch)
	if n == nil || b == nil {
		return nil, fmt.Errorf("file of node %d on branch %d, which are not there", id, branch)
	}
	return t.newFile(n, b, fd, write), nil
}

// BranchID tells the branches of one tree apart, also after Restore.
func (f *File) BranchID() uint64 { return f.b.id }

// Sweep drops nodes that nobody refers to, and forgets what was on its way in the work
// directories.
func (t *Tree) Sweep() error {
	for _, n := range t.Nodes() {
		t.Forget(n, 0)
	}
	return nil
}
