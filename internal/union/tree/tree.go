// Package tree is a union mount as a tree of nodes, on directories by
// descriptor. It knows nothing of FUSE.
//
// A Node is a file or directory that someone has looked up. A directory has a
// slot for each branch that contributes to it, topmost first; a file is in one
// branch. Nodes live while they are referenced (Lookup, Forget), have a node
// below them, or are open.
//
//	t, err := tree.Open(branches, options)
//	n, err := t.Lookup(t.Root(), "etc")    // one reference
//	f, err := t.OpenFile(n, syscall.O_RDWR) // copied up, if it was below
//	t.Forget(n, 1)
//
// Nothing is resolved by a path: a directory of a branch is opened from the
// descriptor of the one above it, and must be the one that it was
// (device and inode number), else the answer is ESTALE. Only so many
// descriptors of directories are held; those used least are closed and opened
// again on demand.
//
// # Order of what is written
//
// Whoever dies between two steps leaves the union as it was before or after the
// operation. What comes new is made in the work directory of its branch and
// appears by a rename. A whiteout is made before the name goes away; as a name
// wins over the whiteout beside it, the step in between shows the old state. A
// directory that stands beside its whiteout does not merge with those below.
//
// # Locks, in this order
//
//	Tree.mu       the list of branches: shared by every operation, exclusive while it changes
//	Tree.renames  of two directories at once
//	Node.copying  of a file: while it is copied up
//	Node.dir.mu   of a directory: its names; a parent's before a child's
//	Tree.table    which nodes there are, where they are; short
package tree

import (
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/union"
)

// Tree is a union. Its methods can be called at the same time.
type Tree struct {
	options union.Options

	mu       sync.RWMutex
	branches []*Branch
	gen      atomic.Uint64 // counts changes of branches

	renames sync.Mutex
	table   table
	handles handles
	free    freeSpace
	turn    atomic.Uint64 // of the round-robin policy
	temp    atomic.Uint64
	root    *Node

	patience time.Duration // for locks of branches that come; under mu
}

// Branch is a branch of a tree.
type Branch struct {
	spec  union.Branch // under Tree.mu
	index int          // under Tree.mu
	root  dirat.FD
	dev   uint64
	ino   uint64
	id    uint64 // the upper 16 bits of its inode numbers
	home  home
	lock  dirat.FD     // of a writable one, see lockWork
	opens atomic.Int64 // files open on it
	wopen atomic.Int64 // those open for writing
}

// Source is a branch that is to be used: what it is and its directory, which
// the tree closes.
type Source struct {
	union.Branch
	Root dirat.FD

	locked dirat.FD // plus one: what locks it already
}

// Open makes a tree of branches. It owns the descriptors of the sources, also
// when it fails. At most descriptors of them are held for directories. It waits a
// while for a writable branch that another union has not let go yet.
func Open(sources []Source, o union.Options, descriptors int) (*Tree, error) {
	t := &Tree{options: o, patience: patience}
	defer func() { t.patience = 0 }() // others wait for who adds a branch
	t.handles.max = max(descriptors, 16)
	t.free.every = o.Create.Every
	t.table.init()
	t.root = t.table.newRoot()
	for i, s := range sources {
		if err := t.insert(i, s); err != nil {
			closeSources(sources[i+1:])
			t.Close()
			return nil, err
		}
	}
	t.gen.Add(1)
	return t, nil
}

// Close gives the descriptors back. No other method may be running or follow.
func (t *Tree) Close() {
	t.table.close()
	t.handles.close()
	for _, b := range t.branches {
		b.close()
	}
}

func (b *Branch) close() {
	b.home.close()
	b.root.Close()
	b.lock.Close()
}

// Root is the topmost directory. It need not be forgotten.
func (t *Tree) Root() *Node { return t.root }

// Options are those of the union.
func (t *Tree) Options() union.Options { return t.options }

// Branches lists the branches, topmost first.
func (t *Tree) Branches() []union.Branch {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.specs()
}

func (t *Tree) specs() []union.Branch {
	list := make([]union.Branch, len(t.branches))
	for i, b := range t.branches {
		list[i] = b.spec
	}
	return list
}

// insert puts a branch into the list, or closes it.
func (t *Tree) insert(index int, s Source) error { return t.insertAs(index, s, t.freeID(s.Dir)) }

// insertAs is the same with the branch's number.
func (t *Tree) insertAs(index int, s Source, id uint64) error {
	b, err := t.newBranch(s, id)
	if err != nil {
		s.Root.Close()
		return err
	}
	t.branches = slices.Insert(t.branches, index, b)
	t.number()
	return nil
}

func (t *Tree) newBranch(s Source, id uint64) (*Branch, error) {
	var st dirat.Stat
	if err := s.Root.Stat(&st); err != nil {
		return nil, &BranchError{Dir: s.Dir, Text: "describe it", Err: err}
	}
	b := &Branch{spec: s.Branch, root: s.Root, dev: st.Dev, ino: st.Ino, id: id, lock: s.locked - 1}
	for _, o := range t.branches {
		if o.dev == b.dev && o.ino == b.ino {
			return nil, &BranchError{Dir: s.Dir, Text: "it is the same directory as branch " + o.spec.Dir}
		}
	}
	if err := t.furnish(s, &b.home, &b.lock); err != nil {
		b.lock.Close()
		return nil, err
	}
	return b, nil
}

// freeID is a number for the inodes of a branch that depends on its directory,
// so that it is the same at the next mount; 0 is that of the root alone.
func (t *Tree) freeID(dir string) uint64 {
	h := fnv.New32a()
	h.Write([]byte(dir))
	id := uint64(h.Sum32()) & 0x7fff
	for {
		if id != 0 && !t.hasID(id) {
			return id
		}
		id = (id + 1) & 0x7fff
	}
}

func (t *Tree) hasID(id uint64) bool {
	for _, b := range t.branches {
		if b.id == id {
			return true
		}
	}
	return false
}

// number tells each branch its index.
func (t *Tree) number() {
	for i, b := range t.branches {
		b.index = i
	}
}

// inode is the number that the union shows for an inode of a branch.
func (b *Branch) inode(ino uint64) uint64 {
	if was := b.home.inodes.of(ino); was != 0 {
		return was
	}
	const mask = 1<<48 - 1
	return b.id<<48 | (ino^ino>>48)&mask
}

func (b *Branch) rw() bool { return b.spec.Perm == union.RW }

// BranchError is about a branch.
type BranchError struct {
	Dir  string
	Text string
	Err  error // may be nil
}

func (e *BranchError) Error() string {
	s := "branch " + e.Dir + ": " + e.Text
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *BranchError) Unwrap() error { return e.Err }

// nameMax is the longest name: its whiteout must fit too.
const nameMax = 255 - len(union.WhiteoutPrefix)

// checkName refuses what cannot be one name in a directory.
func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return syscall.EINVAL
	case len(name) > nameMax:
		return syscall.ENAMETOOLONG
	case strings.ContainsAny(name, "/\x00"):
		return syscall.EINVAL
	}
	return nil
}

// checkNew refuses what cannot be the name of something new.
func checkNew(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if union.Hidden(name) {
		return syscall.EPERM
	}
	return nil
}
