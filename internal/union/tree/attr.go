package tree

import (
	"syscall"

	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/union"
)

// Stat describes a node.
func (t *Tree) Stat(n *Node) (*dirat.Stat, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var st dirat.Stat
	if err := t.stat(n, &st); err != nil {
		return nil, err
	}
	t.show(n, &st)
	return &st, nil
}

// show changes what a branch says of a file to what the union says.
func (t *Tree) show(n *Node, st *dirat.Stat) {
	st.Ino = n.Ino
	// Programs take two links of a directory as "no directories inside", one as
	// "unknown".
	if n.Dir() && len(n.dir.list()) > 1 {
		st.Nlink = 1
	}
}

// stat describes the file of a branch that a node is.
func (t *Tree) stat(n *Node, st *dirat.Stat) error {
	if n.Dir() {
		return t.with(n, func(fd dirat.FD) error { return fd.Stat(st) })
	}
	t.table.mu.Lock()
	at, linked, orphan := n.at, n.linked, n.orphan
	parent, name, ok := n.place()
	t.table.mu.Unlock()
	if orphan >= 0 || linked || !ok {
		return t.with(n, func(fd dirat.FD) error { return fd.Stat(st) })
	}
	s, ok := parent.dir.in(at.b)
	if !ok {
		return syscall.ESTALE
	}
	fd, err := t.use(parent, s)
	if err != nil {
		return err
	}
	defer t.done(s)
	if err := fd.StatAt(name, st); err != nil {
		return stale(err)
	}
	if st.Dev != at.dev || st.Ino != at.ino {
		return syscall.ESTALE
	}
	return nil
}

// with calls f with the node's file in its branch, open as a place.
func (t *Tree) with(n *Node, f func(dirat.FD) error) error {
	if n.Dir() {
		return t.withDir(n, f)
	}
	fd, err := t.place(n)
	if err != nil {
		return err
	}
	defer fd.Close()
	return f(fd)
}

func (t *Tree) withDir(n *Node, f func(dirat.FD) error) error {
	if err := t.fresh(n); err != nil {
		return err
	}
	t.table.mu.Lock()
	orphan, err := dupIfOpen(n.orphan)
	t.table.mu.Unlock()
	if err != nil {
		return err
	}
	if orphan >= 0 {
		defer orphan.Close()
		return f(orphan)
	}
	list := n.dir.list()
	if len(list) == 0 {
		return syscall.ESTALE
	}
	fd, err := t.use(n, list[0])
	if err != nil {
		return err
	}
	defer t.done(list[0])
	return f(fd)
}

func dupIfOpen(fd dirat.FD) (dirat.FD, error) {
	if fd < 0 {
		return fd, nil
	}
	return fd.Dup()
}

// place opens the file of a node that is no directory, as a place.
func (t *Tree) place(n *Node) (dirat.FD, error) {
	fd, _, err := t.placeOn(n)
	return fd, err
}

// placeOn is place, and says on which branch that is.
func (t *Tree) placeOn(n *Node) (fd dirat.FD, b *Branch, err error) {
	t.table.mu.Lock()
	at, linked := n.at, n.linked
	parent, name, ok := n.place()
	if n.orphan >= 0 || !ok {
		defer t.table.mu.Unlock()
		if n.orphan < 0 {
			return dirat.None, nil, syscall.ESTALE
		}
		fd, err = n.orphan.Dup()
		return fd, at.b, err
	}
	t.table.mu.Unlock()
	if linked {
		fd, err = at.b.home.links.Place(linkName(n.Ino))
	} else {
		fd, err = t.placeIn(parent, at.b, name)
	}
	if err != nil {
		return dirat.None, nil, stale(err)
	}
	var st dirat.Stat
	if err := fd.Stat(&st); err != nil || st.Dev != at.dev || st.Ino != at.ino {
		fd.Close()
		return dirat.None, nil, syscall.ESTALE
	}
	return fd, at.b, nil
}

func (t *Tree) placeIn(parent *Node, b *Branch, name string) (dirat.FD, error) {
	s, ok := parent.dir.in(b)
	if !ok {
		return dirat.None, syscall.ESTALE
	}
	dfd, err := t.use(parent, s)
	if err != nil {
		return dirat.None, err
	}
	defer t.done(s)
	return dfd.Place(name)
}

// Change is what SetAttr changes; nil leaves a thing as it is.
type Change struct {
	Mode          *uint32
	UID, GID      *uint32
	Size          *int64
	Atime, Mtime  *Time
	DropPrivilege bool // with Size: set-user-id and the like go away, as when written by a user
}

// Time is a time that is set: seconds and nanoseconds, or now.
type Time struct {
	Sec, Nsec int64
	Now       bool
}

// SetAttr changes attributes of a node, which is copied up before. A file that
// is open may be given, whose size is changed then.
func (t *Tree) SetAttr(n *Node, c Change, open *File) (*dirat.Stat, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if c.Mode != nil && n.kind == syscall.S_IFLNK {
		return nil, syscall.EOPNOTSUPP
	}
	if err := t.copyUp(n, c.Size == nil || *c.Size > 0); err != nil {
		return nil, err
	}
	err := t.with(n, func(fd dirat.FD) error { return c.apply(fd, open) })
	if err != nil {
		return nil, err
	}
	var st dirat.Stat
	if err := t.stat(n, &st); err != nil {
		return nil, err
	}
	t.show(n, &st)
	return &st, nil
}

func (c *Change) apply(fd dirat.FD, open *File) error {
	if c.UID != nil || c.GID != nil {
		if err := fd.Chown(orSame(c.UID), orSame(c.GID)); err != nil {
			return err
		}
	}
	if c.Mode != nil {
		if err := fd.Chmod(*c.Mode); err != nil {
			return err
		}
	}
	if c.Size != nil {
		if err := c.resize(fd, open); err != nil {
			return err
		}
	}
	if c.Atime == nil && c.Mtime == nil {
		return nil
	}
	a, m := c.Atime.or(), c.Mtime.or()
	return fd.SetTimes(dirat.Time(a.Sec, a.Nsec), dirat.Time(m.Sec, m.Nsec))
}

func orSame(id *uint32) int {
	if id == nil {
		return -1
	}
	return int(*id)
}

func (t *Time) or() Time {
	switch {
	case t == nil:
		return Time{Nsec: dirat.Omit}
	case t.Now:
		return Time{Nsec: dirat.Now}
	}
	return *t
}

func (c *Change) resize(fd dirat.FD, open *File) error {
	if c.DropPrivilege {
		if err := dropPrivilege(fd); err != nil {
			return err
		}
	}
	if open != nil && open.write {
		return open.FD.Truncate(*c.Size)
	}
	w, err := fd.Reopen(syscall.O_WRONLY)
	if err != nil {
		return err
	}
	defer w.Close()
	return w.Truncate(*c.Size)
}

// dropPrivilege takes from a file what lets its program do more than its caller
// may. The kernel does so for a writer without privileges, which we are not.
func dropPrivilege(fd dirat.FD) error {
	var st dirat.Stat
	if err := fd.Stat(&st); err != nil {
		return err
	}
	if drop := PrivilegeIn(st.Mode); drop != 0 {
		if err := fd.Chmod(st.Mode &^ drop); err != nil {
			return err
		}
	}
	return dropCapability(fd)
}

func dropCapability(fd dirat.FD) error {
	err := fd.Removexattr(Capability)
	if err == syscall.ENODATA || err == syscall.EOPNOTSUPP {
		return nil
	}
	return err
}

// Capability is the extended attribute by which a program has capabilities.
const Capability = "security.capability"

// PrivilegeIn returns the bits of a mode that let a program do more than its
// caller may. Set-group-id without execution by the group is none.
func PrivilegeIn(mode uint32) uint32 {
	if mode&0o010 == 0 {
		return mode & syscall.S_ISUID
	}
	return mode & (syscall.S_ISUID | syscall.S_ISGID)
}

// Readlink returns the target of a symbolic link.
func (t *Tree) Readlink(n *Node) (target string, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if n.kind != syscall.S_IFLNK {
		return "", syscall.EINVAL
	}
	err = t.with(n, func(fd dirat.FD) error {
		target, err = fd.Readlink()
		return err
	})
	return target, err
}

// Getxattr reads an extended attribute into p; with an empty p it returns the
// size.
func (t *Tree) Getxattr(n *Node, name string, p []byte) (size int, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	err = t.with(n, func(fd dirat.FD) error {
		size, err = fd.Getxattr(name, p)
		return err
	})
	return size, err
}

// Listxattr reads the names of the extended attributes into p, each ended by a
// zero byte; with an empty p it returns the size.
func (t *Tree) Listxattr(n *Node, p []byte) (size int, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	err = t.with(n, func(fd dirat.FD) error {
		size, err = fd.Listxattr(p)
		return err
	})
	return size, err
}

// Setxattr sets an extended attribute, with the flags of setxattr.
func (t *Tree) Setxattr(n *Node, name string, p []byte, flags int, in *Intent) error {
	in = in.orNone()
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.copyUp(n, true); err != nil {
		return err
	}
	return t.with(n, func(fd dirat.FD) error {
		if flags&xattrCreate != 0 {
			if in.resumed != 0 {
				flags &^= xattrCreate // it was not there, or it is ours
			} else if _, err := fd.Getxattr(name, nil); err == nil {
				return syscall.EEXIST
			}
			in.note(t.branches[0], Intent{})
		}
		return fd.Setxattr(name, p, flags)
	})
}

// xattrCreate is XATTR_CREATE of setxattr(2).
const xattrCreate = 1

// Removexattr removes an extended attribute.
func (t *Tree) Removexattr(n *Node, name string, in *Intent) error {
	in = in.orNone()
	t.mu.RLock()
	defer t.mu.RUnlock()
	// Not copied up for nothing.
	if err := t.with(n, func(fd dirat.FD) error { _, err := fd.Getxattr(name, nil); return err }); err != nil {
		if err == syscall.ENODATA && in.resumed != 0 {
			return nil
		}
		return err
	}
	in.note(t.branches[0], Intent{})
	if err := t.copyUp(n, true); err != nil {
		return err
	}
	return t.with(n, func(fd dirat.FD) error { return fd.Removexattr(name) })
}

// Statfs describes the space of the union: that of the topmost writable branch,
// or the sum of all.
func (t *Tree) Statfs() (*dirat.Statfs, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var st dirat.Statfs
	var err error
	if t.options.Sum {
		err = t.sum(&st)
	} else {
		err = t.topWritable().root.Statfs(&st)
	}
	st.Namelen = min(st.Namelen-int64(len(union.WhiteoutPrefix)), int64(nameMax))
	return &st, err
}

// topWritable is the topmost writable branch, or the topmost.
func (t *Tree) topWritable() *Branch {
	for _, b := range t.branches {
		if b.rw() {
			return b
		}
	}
	return t.branches[0]
}

// sum adds the file systems of the branches, each once.
func (t *Tree) sum(all *dirat.Statfs) error {
	seen := map[uint64]bool{}
	for _, b := range t.branches {
		if seen[b.dev] {
			continue
		}
		seen[b.dev] = true
		var st dirat.Statfs
		if err := b.root.Statfs(&st); err != nil {
			return err
		}
		if all.Bsize == 0 {
			*all = st
			continue
		}
		scale := func(n uint64) uint64 { return n * uint64(st.Bsize) / uint64(all.Bsize) }
		all.Blocks += scale(st.Blocks)
		all.Bfree += scale(st.Bfree)
		all.Bavail += scale(st.Bavail)
		all.Files += st.Files
		all.Ffree += st.Ffree
		all.Namelen = min(all.Namelen, st.Namelen)
	}
	return nil
}
