package tree

import (
	"fmt"
	"maps"
	"slices"

	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/union"
	"github.com/tare-engine/tare/internal/union/ledger"
)

// What is recorded of a tree. References and open files are those of whoever has
// them, who records them.
const (
	recBranches = 1 + iota // of all branches: what, descriptor, number, lock plus one; the create policy
	recNode                // number, inode number, kind; of a new one
	recDrop
	recAttach // number, directory, name
	recDetach
	recLocate // number, branch, device, inode, by the link directory
	recUnkey  // it is not the node of its file any more
	recOrphan // number, descriptor plus one
	recDead
	recSlots // number, limit, and of each: branch, device, inode
	recNext  // the number of the next node

	// Own are the kinds from here on: for those who have a tree.
	Own = 32
)

// begin begins a record about a node, if there is a ledger. Preconditions: t.mu is held.
func (t *table) begin(kind byte, n *Node) *ledger.Records {
	if t.log == nil || t.byID[n.ID] != n { // it has been dropped
		return nil
	}
	return t.pending.Begin(kind).Int(n.ID)
}

func (t *table) recordNode(n *Node) {
	if r := t.begin(recNode, n); r != nil {
		r.Int(n.Ino).Int(uint64(n.kind)).End()
	}
}

func (t *table) recordDrop(n *Node) {
	if r := t.begin(recDrop, n); r != nil {
		r.End()
	}
}

func (t *table) recordAttach(n *Node, pl place) {
	if r := t.begin(recAttach, n); r != nil {
		r.Int(pl.parent.ID).String(pl.name).End()
	}
}

func (t *table) recordDetach(n *Node, pl place) {
	if r := t.begin(recDetach, n); r != nil {
		r.Int(pl.parent.ID).String(pl.name).End()
	}
}

func (t *table) recordLocate(n *Node) {
	if r := t.begin(recLocate, n); r != nil {
		r.Int(n.at.b.id).Int(n.at.dev).Int(n.at.ino).Bool(n.linked).End()
	}
}

func (t *table) recordUnkey(n *Node) {
	if r := t.begin(recUnkey, n); r != nil {
		r.End()
	}
}

func (t *table) recordOrphan(n *Node) {
	if r := t.begin(recOrphan, n); r != nil {
		r.Int(uint64(n.orphan + 1)).End()
	}
}

func (t *table) recordDead(n *Node) {
	if r := t.begin(recDead, n); r != nil {
		r.End()
	}
}

// noteSlots records of what a directory consists. Preconditions: t.mu is held.
func (t *table) noteSlots(n *Node) {
	if r := t.begin(recSlots, n); r != nil {
		n.dir.record(r)
	}
}

// recordSlots is the same with a lock.
func (t *table) recordSlots(n *Node) {
	if t.log == nil {
		return
	}
	t.mu.Lock()
	t.noteSlots(n)
	t.unlock()
}

func (d *dir) record(r *ledger.Records) {
	r.Int(uint64(d.limit.Load()))
	for _, s := range d.list() {
		r.Int(s.b.id).Int(s.d.dev).Int(s.d.ino)
	}
	r.End()
}

// recordBranches records the list of branches. Preconditions: t.mu is held, if only
// for reading.
func (t *Tree) recordBranches() {
	if t.table.log == nil {
		return
	}
	var r ledger.Records
	t.writeBranches(&r)
	t.table.log.Append(&r)
}

func (t *Tree) writeBranches(r *ledger.Records) {
	r.Begin(recBranches).String(t.options.Create.String()).Int(uint64(len(t.branches)))
	for _, b := range t.branches {
		b.root.Inherit()
		if b.lock >= 0 {
			b.lock.Inherit()
		}
		r.String(b.spec.String()).Int(uint64(b.root)).Int(b.id).Int(uint64(b.lock + 1))
	}
	r.End()
}

// Record makes the tree write down all that it knows, now and from now on, so that
// Restore can make the same in another process. Descriptors that it needs are
// inherited.
func (t *Tree) Record(l *ledger.Ledger) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.table.log = l
	return t.snapshot(func(r *ledger.Records) error { l.Append(r); return nil })
}

// Write gives all that the tree knows to add. No operation is under way.
func (t *Tree) Write(add func(*ledger.Records) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.snapshot(add)
}

func (t *Tree) snapshot(add func(*ledger.Records) error) error {
	t.table.mu.Lock()
	defer t.table.mu.Unlock()
	var r ledger.Records
	t.writeBranches(&r)
	for _, id := range slices.Sorted(maps.Keys(t.table.byID)) {
		t.table.writeNode(&r, t.table.byID[id])
		if r.Len() > 64<<10 {
			if err := add(&r); err != nil {
				return err
			}
		}
	}
	r.Begin(recNext).Int(t.table.next).End()
	return add(&r)
}

func (t *table) writeNode(r *ledger.Records, n *Node) {
	r.Begin(recNode).Int(n.ID).Int(n.Ino).Int(uint64(n.kind)).End()
	for _, pl := range n.places {
		r.Begin(recAttach).Int(n.ID).Int(pl.parent.ID).String(pl.name).End()
	}
	if n.at.b != nil {
		r.Begin(recLocate).Int(n.ID).Int(n.at.b.id).Int(n.at.dev).Int(n.at.ino).Bool(n.linked).End()
		if t.byKey[n.at] != n {
			r.Begin(recUnkey).Int(n.ID).End()
		}
	}
	if n.orphan >= 0 {
		r.Begin(recOrphan).Int(n.ID).Int(uint64(n.orphan + 1)).End()
	}
	if !n.Dir() {
		return
	}
	if n.dir.dead {
		r.Begin(recDead).Int(n.ID).End()
	}
	n.dir.record(r.Begin(recSlots).Int(n.ID))
}

// Restoring is a tree that is read from a ledger.
type Restoring struct {
	branches []Source
	ids      []uint64
	create   string
	nodes    map[uint64]*memory
	next     uint64
}

// memory is what is known of a node.
type memory struct {
	ino             uint64
	kind            uint32
	places          []placeID
	branch, dev, at uint64
	located, keyed  bool
	linked, dead    bool
	orphan          dirat.FD
	limit           int64
	slots           []slotID
	refs            int64
}

type placeID struct {
	parent uint64
	name   string
}

type slotID struct{ branch, dev, ino uint64 }

// NewRestoring begins with nothing.
func NewRestoring() *Restoring { return &Restoring{nodes: map[uint64]*memory{}} }

// Read takes a record of a kind below Own.
func (s *Restoring) Read(r *ledger.Record) error {
	switch r.Kind {
	case recBranches:
		return s.readBranches(r)
	case recNext:
		s.next = max(s.next, r.Int())
		return nil
	case recNode:
		id := r.Int()
		s.nodes[id] = &memory{ino: r.Int(), kind: uint32(r.Int()), orphan: dirat.None}
		s.next = max(s.next, id+1)
		return nil
	}
	id := r.Int()
	m := s.nodes[id]
	if m == nil {
		return fmt.Errorf("record of kind %d about node %d, which is not there", r.Kind, id)
	}
	switch r.Kind {
	case recDrop:
		delete(s.nodes, id)
	case recAttach:
		m.attach(placeID{r.Int(), r.String()})
	case recDetach:
		pl := placeID{r.Int(), r.String()}
		m.places = slices.DeleteFunc(m.places, func(p placeID) bool { return p == pl })
	case recLocate:
		m.branch, m.dev, m.at, m.linked = r.Int(), r.Int(), r.Int(), r.Bool()
		m.located, m.keyed = true, true
	case recUnkey:
		m.keyed = false
	case recOrphan:
		m.orphan = dirat.FD(r.Int()) - 1
	case recDead:
		m.dead = true
	case recSlots:
		m.limit, m.slots = int64(r.Int()), nil
		for r.More() {
			m.slots = append(m.slots, slotID{r.Int(), r.Int(), r.Int()})
		}
	default:
		return fmt.Errorf("record of kind %d", r.Kind)
	}
	return nil
}

func (m *memory) attach(pl placeID) {
	if m.kind == dirKind {
		m.places = nil
	}
	if !slices.Contains(m.places, pl) {
		m.places = append(m.places, pl)
	}
}

func (s *Restoring) readBranches(r *ledger.Record) error {
	s.branches, s.ids = nil, nil
	s.create = r.String()
	for range r.Int() {
		b, err := union.ParseBranch(r.String())
		if err != nil {
			return err
		}
		s.branches = append(s.branches, Source{Branch: b, Root: dirat.FD(r.Int())})
		s.ids = append(s.ids, r.Int())
		s.branches[len(s.branches)-1].locked = dirat.FD(r.Int())
	}
	return nil
}

// Refer adds references to a node, or takes them back.
func (s *Restoring) Refer(id uint64, refs int64) {
	if m := s.nodes[id]; m != nil {
		m.refs += refs
	}
}

// Descriptors are those that the tree will need.
func (s *Restoring) Descriptors() (list []dirat.FD) {
	for _, b := range s.branches {
		list = append(list, b.Root)
		if b.locked > 0 {
			list = append(list, b.locked-1)
		}
	}
	for _, m := range s.nodes {
		if m.orphan >= 0 {
			list = append(list, m.orphan)
		}
	}
	return list
}
