package tree

import (
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/union/ledger"
)

// Node is a file or directory of a union that is in use.
type Node struct {
	ID   uint64 // of this node while the tree is open; the root's is 1
	Ino  uint64 // shown as its inode number
	kind uint32 // syscall.S_IFDIR and so on

	copying sync.Mutex // held while a file is copied up
	dir     *dir       // of directories

	// The rest is under Tree.table.mu.
	refs   int64            // from Lookup and the like
	opens  int64            // Files of it
	places []place          // where it is; none if it was removed, one at most for a directory
	kids   map[string]*Node // of directories: nodes in it
	at     key              // of files: where the data is
	linked bool             // of files: at is reached by the link directory of the branch
	orphan dirat.FD         // of what was removed and is still referenced
}

// place is a name in a directory.
type place struct {
	parent *Node
	name   string
}

// key tells files of all branches apart.
type key struct {
	b        *Branch
	dev, ino uint64
}

// Dir tells whether the node is a directory.
func (n *Node) Dir() bool { return n.kind == syscall.S_IFDIR }

// dir is what a node has that is a directory.
type dir struct {
	mu    sync.RWMutex           // the names in it
	slots atomic.Pointer[[]slot] // replaced under mu, topmost first; read by anyone
	gen   atomic.Uint64          // of the branches that slots were found with
	limit atomic.Int64           // index of the lowest branch that may contribute, if its parents may too
	dead  bool                   // under mu: removed
}

// slot is a branch's directory that contributes to a node.
type slot struct {
	b *Branch
	d *dirfd
}

func (d *dir) list() []slot { return *d.slots.Load() }

// in returns the slot of a branch.
func (d *dir) in(b *Branch) (slot, bool) {
	for _, s := range d.list() {
		if s.b == b {
			return s, true
		}
	}
	return slot{}, false
}

func (d *dir) has(b *Branch) bool {
	_, ok := d.in(b)
	return ok
}

// add puts a slot where it belongs. Preconditions: d.mu is held.
func (d *dir) add(s slot) {
	list := slices.Clone(d.list())
	i := slices.IndexFunc(list, func(o slot) bool { return o.b.index > s.b.index })
	if i < 0 {
		i = len(list)
	}
	list = slices.Insert(list, i, s)
	d.slots.Store(&list)
}

// table knows the nodes. What changes is recorded; unlock says so.
type table struct {
	mu      sync.Mutex
	byID    map[uint64]*Node
	byKey   map[key]*Node // files
	next    uint64
	log     *ledger.Ledger // or nil
	pending ledger.Records
}

func (t *table) unlock() {
	if t.pending.Len() > 0 {
		t.log.Append(&t.pending)
	}
	t.mu.Unlock()
}

func (t *table) init() {
	t.byID, t.byKey, t.next = map[uint64]*Node{}, map[key]*Node{}, 1
}

func (t *table) newRoot() *Node {
	n := t.add(syscall.S_IFDIR, 1)
	n.refs = 1
	return n
}

// add makes a node. Preconditions: t.mu is held.
func (t *table) add(kind uint32, ino uint64) *Node {
	n := &Node{ID: t.next, Ino: ino, kind: kind, orphan: dirat.None}
	if n.Dir() {
		n.dir, n.kids = &dir{}, map[string]*Node{}
		n.dir.slots.Store(&[]slot{})
	}
	t.byID[n.ID] = n
	t.next++
	t.recordNode(n)
	return n
}

// setOrphan gives a node the descriptor of its file, which has no name.
func (t *table) setOrphan(n *Node, fd dirat.FD) {
	if n.orphan == fd {
		return
	}
	n.orphan = fd
	if fd >= 0 && t.log != nil {
		fd.Inherit()
	}
	t.recordOrphan(n)
}

// kill marks a directory that was removed. Preconditions: its dir.mu is held too.
func (t *table) kill(n *Node) {
	n.dir.dead = true
	t.recordDead(n)
}

func (t *table) close() {
	for _, n := range t.byID {
		n.orphan.Close()
	}
}

// ByID returns the node of a number, or nil.
func (t *Tree) ByID(id uint64) *Node {
	t.table.mu.Lock()
	defer t.table.mu.Unlock()
	return t.table.byID[id]
}

// Len is how many nodes there are.
func (t *Tree) Len() int {
	t.table.mu.Lock()
	defer t.table.mu.Unlock()
	return len(t.table.byID)
}

// Place returns a directory and the name in it under which the node is known;
// ok is false for the root and for what was removed.
func (t *Tree) Place(n *Node) (parent *Node, name string, ok bool) {
	t.table.mu.Lock()
	defer t.table.mu.Unlock()
	return n.place()
}

// place is the same. Preconditions: table.mu is held.
func (n *Node) place() (*Node, string, bool) {
	if len(n.places) == 0 {
		return nil, "", false
	}
	return n.places[0].parent, n.places[0].name, true
}

// branch is where the data of a file is.
func (t *Tree) branch(n *Node) *Branch { return t.where(n).b }

func (t *Tree) where(n *Node) key {
	t.table.mu.Lock()
	defer t.table.mu.Unlock()
	return n.at
}

// References calls f with each node's.
func (t *Tree) References(f func(id uint64, refs int64)) {
	t.table.mu.Lock()
	defer t.table.mu.Unlock()
	for id, n := range t.table.byID {
		if n.refs > 0 && id != 1 {
			f(id, n.refs)
		}
	}
}

// Forget takes back references.
func (t *Tree) Forget(n *Node, refs uint64) {
	t.table.mu.Lock()
	n.refs -= int64(refs)
	gone := t.table.drop(n)
	t.table.unlock()
	t.bury(gone)
}

// Renew parts a file's node from its names: whoever looks them up from now on
// gets another node of the same file, with the same inode number. Those who have
// this one keep it.
func (t *Tree) Renew(n *Node) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	fd, err := t.place(n)
	if err != nil {
		return err
	}
	t.table.mu.Lock()
	if n.orphan < 0 {
		t.table.setOrphan(n, fd)
		fd = dirat.None
	}
	for _, pl := range slices.Clone(n.places) {
		t.table.detach(n, pl.parent, pl.name)
	}
	t.table.unkey(n)
	t.table.unlock()
	fd.Close()
	return nil
}

// bury closes what nodes held that are not in the table any more.
func (t *Tree) bury(gone []*Node) {
	for _, n := range gone {
		n.orphan.Close()
		if n.Dir() {
			t.release(n.dir.list())
		}
	}
}

// release closes the directories of slots nobody uses any more.
func (t *Tree) release(list []slot) {
	for _, s := range list {
		t.handles.drop(s.d)
	}
}

// drop removes a node that nothing needs, and its parents if they were there for
// its sake only. Preconditions: t.mu is held.
func (t *table) drop(n *Node) (gone []*Node) {
	for n.ID != 1 && n.refs <= 0 && n.opens == 0 && len(n.kids) == 0 && t.byID[n.ID] == n {
		t.recordDrop(n)
		delete(t.byID, n.ID)
		t.unkey(n)
		gone = append(gone, n)
		var parent *Node
		for _, pl := range slices.Clone(n.places) {
			t.detach(n, pl.parent, pl.name)
			if parent != nil && parent != pl.parent {
				gone = append(gone, t.drop(pl.parent)...)
				continue
			}
			parent = pl.parent
		}
		if parent == nil {
			return gone
		}
		n = parent
	}
	return gone
}

func (t *table) unkey(n *Node) {
	if n.at.b != nil && t.byKey[n.at] == n {
		delete(t.byKey, n.at)
		t.recordUnkey(n)
	}
}

// attach makes n what a name stands for. Preconditions: t.mu is held.
func (t *table) attach(n, parent *Node, name string) {
	if old := parent.kids[name]; old != nil && old != n {
		t.detach(old, parent, name)
	}
	pl := place{parent, name}
	if parent.kids[name] == n && slices.Contains(n.places, pl) {
		return
	}
	parent.kids[name] = n
	t.recordAttach(n, pl)
	if n.Dir() {
		for _, old := range n.places {
			if old != pl {
				delete(old.parent.kids, old.name)
			}
		}
		n.places = append(n.places[:0], pl)
	} else if !slices.Contains(n.places, pl) {
		n.places = append(n.places, pl)
	}
}

// detach makes a name stand for nothing. Preconditions: t.mu is held.
func (t *table) detach(n, parent *Node, name string) {
	if parent.kids[name] == n {
		delete(parent.kids, name)
	}
	t.recordDetach(n, place{parent, name})
	n.places = slices.DeleteFunc(n.places, func(p place) bool { return p == place{parent, name} })
}

// locate says where a file's data is. Preconditions: t.mu is held.
func (t *table) locate(n *Node, k key, linked bool) {
	t.unkey(n)
	n.at, n.linked = k, linked
	t.byKey[k] = n
	t.recordLocate(n)
}
