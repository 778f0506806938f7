package tree

import (
	"syscall"

	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/union"
)

// File is an open file of a union. It stays on the branch where it was opened.
type File struct {
	FD    dirat.FD // owned by the File
	Node  *Node
	b     *Branch
	write bool
	t     *Tree
}

// newFile counts what is open.
func (t *Tree) newFile(n *Node, b *Branch, fd dirat.FD, write bool) *File {
	b.opens.Add(1)
	if write {
		b.wopen.Add(1)
	}
	t.table.mu.Lock()
	n.opens++
	t.table.mu.Unlock()
	return &File{FD: fd, Node: n, b: b, write: write, t: t}
}

// Close gives the file back.
func (f *File) Close() {
	f.FD.Close()
	f.b.opens.Add(-1)
	if f.write {
		f.b.wopen.Add(-1)
	}
	f.t.table.mu.Lock()
	f.Node.opens--
	gone := f.t.table.drop(f.Node)
	f.t.table.unlock()
	f.t.bury(gone)
}

// Branch tells files of one node on different branches apart.
func (f *File) Branch() *Branch { return f.b }

// Writable tells whether the file is open for writing.
func (f *File) Writable() bool { return f.write }

// OpenFile opens a regular file with the flags of open; for writing it is copied
// up first.
func (t *Tree) OpenFile(n *Node, flags int) (*File, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if n.kind != syscall.S_IFREG {
		return nil, syscall.EINVAL
	}
	trunc := flags&syscall.O_TRUNC != 0
	write := flags&syscall.O_ACCMODE != syscall.O_RDONLY || trunc
	if write || t.options.CopyOnOpen != "none" {
		err := t.copyUp(n, !trunc)
		if err != nil && (write || err != syscall.EROFS) {
			return nil, err
		}
	}
	fd, b, err := t.placeOn(n)
	if err != nil {
		return nil, err
	}
	defer fd.Close()
	open, err := reopen(fd, b, flags&(syscall.O_ACCMODE|syscall.O_TRUNC))
	if err != nil {
		return nil, err
	}
	return t.newFile(n, b, open, write), nil
}

// reopen opens a place as a file; on branches that are not to change, reading
// leaves no time of access.
func reopen(fd dirat.FD, b *Branch, flags int) (dirat.FD, error) {
	if flags == syscall.O_RDONLY && !b.rw() {
		return reopenQuietly(fd)
	}
	return fd.Reopen(flags)
}

// DropPrivilege takes set-user-id, set-group-id and capabilities from the file,
// as a write by someone without privileges does.
func (f *File) DropPrivilege() error { return dropPrivilege(f.FD) }

// DropCapability takes capabilities from the file, as any write does.
func (f *File) DropCapability() error { return dropCapability(f.FD) }

// Privileged tells whether the file has something to drop.
func (f *File) Privileged() (bool, error) {
	var st dirat.Stat
	if err := f.FD.Stat(&st); err != nil {
		return false, err
	}
	if PrivilegeIn(st.Mode) != 0 {
		return true, nil
	}
	n, err := f.FD.Getxattr(Capability, nil)
	if err == syscall.ENODATA || err == syscall.EOPNOTSUPP {
		return false, nil
	}
	return n > 0, err
}

// SyncDir writes a directory to disk, as far as a writable branch has it.
func (t *Tree) SyncDir(n *Node) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.fresh(n); err != nil {
		return err
	}
	for _, s := range n.dir.list() {
		if !s.b.rw() {
			continue
		}
		if err := t.syncSlot(n, s); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tree) syncSlot(n *Node, s slot) error {
	fd, err := t.use(n, s)
	if err != nil {
		return err
	}
	defer t.done(s)
	open, err := fd.Reopen(syscall.O_RDONLY | syscall.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer open.Close()
	return open.Sync()
}

// OpenDir says that a directory is about to be read.
func (t *Tree) OpenDir(n *Node) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.options.CopyOnOpen != "all" {
		return nil
	}
	err := t.copyUp(n, true)
	if err == syscall.EROFS {
		return nil
	}
	return err
}

// Entry is a name in a directory.
type Entry struct {
	Name string
	Ino  uint64
	Type uint8 // syscall.DT_DIR and so on
}

// ReadDir lists a directory over all its branches.
func (t *Tree) ReadDir(n *Node) ([]Entry, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !n.Dir() {
		return nil, syscall.ENOTDIR
	}
	if err := t.fresh(n); err != nil {
		return nil, err
	}
	n.dir.mu.RLock()
	defer n.dir.mu.RUnlock()
	if n.dir.dead {
		return nil, nil
	}
	return t.merge(n.dir.list(), func(s slot) (dirat.FD, error) { return t.use(n, s) })
}

// merge lists directories that belong to one name; use opens one.
func (t *Tree) merge(list []slot, use func(slot) (dirat.FD, error)) ([]Entry, error) {
	var out []Entry
	var hidden map[string]bool // by names above, or by whiteouts
	if len(list) > 1 {
		hidden = map[string]bool{}
	}
	for i, s := range list {
		fd, err := use(s)
		if err != nil {
			return nil, err
		}
		m := merger{t: t, s: s, hidden: hidden, last: i == len(list)-1, out: out}
		err = fd.Names(m.add)
		t.done(s)
		if err != nil {
			return nil, err
		}
		for _, name := range m.white {
			hidden[name] = true
		}
		out = m.out
	}
	return out, nil
}

// merger adds the names of one branch.
type merger struct {
	t      *Tree
	s      slot
	hidden map[string]bool
	last   bool
	out    []Entry
	white  []string // counts below this branch only
}

func (m *merger) add(name string, ino uint64, typ uint8) {
	if union.Hidden(name) {
		m.addHidden(name, ino, typ)
		return
	}
	if m.hidden != nil {
		if m.hidden[name] {
			return
		}
		if !m.last {
			m.hidden[name] = true
		}
	}
	m.out = append(m.out, Entry{name, m.s.b.inode(ino), typ})
}

func (m *merger) addHidden(name string, ino uint64, typ uint8) {
	if ours(name) || !m.s.b.spec.Honours() {
		return
	}
	if m.hidden != nil && !m.last {
		m.white = append(m.white, name[len(union.WhiteoutPrefix):])
	}
	if m.t.options.ShowWhiteouts && !m.hidden[name] {
		m.out = append(m.out, Entry{name, m.s.b.inode(ino), typ})
	}
}
