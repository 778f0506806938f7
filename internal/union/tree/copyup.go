package tree

import (
	"strconv"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/dirat"
)

// attempts bounds how often an operation begins anew because others changed
// what it had decided on.
const attempts = 16

// copyUp brings a node to a writable branch, if it is in none; without data a file is
// empty in its new place.
func (t *Tree) copyUp(n *Node, data bool) error {
	if n.Dir() {
		return t.copyUpDir(n)
	}
	n.copying.Lock()
	defer n.copying.Unlock()
	t.table.mu.Lock()
	at := n.at.b
	parent, _, ok := n.place()
	t.table.mu.Unlock()
	if at.rw() {
		return nil
	}
	if !ok {
		return t.copyOrphan(n, data)
	}
	if err := t.fresh(parent); err != nil {
		return err
	}
	b, err := t.forCopy(parent, at.index)
	if err != nil {
		return err
	}
	return t.copyFile(n, b, data)
}

// copyUpDir makes a directory exist in a writable branch above or where it is
// topmost.
func (t *Tree) copyUpDir(n *Node) error {
	if err := t.fresh(n); err != nil {
		return err
	}
	list := n.dir.list()
	if len(list) == 0 {
		return syscall.ESTALE
	}
	top := list[0].b
	if top.rw() {
		return nil
	}
	parent, _, ok := t.Place(n)
	if !ok { // the root, or removed
		return syscall.EROFS
	}
	if err := t.fresh(parent); err != nil {
		return err
	}
	b, err := t.forCopy(parent, top.index)
	if err != nil {
		return err
	}
	return t.ensure(n, b)
}

// copyTo brings a file to a branch above the one where it is, if it is not there.
func (t *Tree) copyTo(n *Node, b *Branch) error {
	n.copying.Lock()
	defer n.copying.Unlock()
	if t.branch(n).index <= b.index {
		return nil
	}
	return t.copyFile(n, b, true)
}

// ensure makes directory n exist in branch b. No lock of a directory is held.
func (t *Tree) ensure(n *Node, b *Branch) error {
	for range attempts {
		if n.dir.has(b) {
			return nil
		}
		parent, _, ok := t.Place(n)
		if !ok {
			return syscall.ENOENT
		}
		if err := t.ensure(parent, b); err != nil {
			return err
		}
		done, err := t.ensureIn(parent, n, b)
		if err != nil || done {
			return err
		}
	}
	return syscall.ESTALE
}

// ensureIn makes n in b, whose parent is there. It is not done if n is somewhere
// else meanwhile.
func (t *Tree) ensureIn(parent, n *Node, b *Branch) (done bool, err error) {
	if err := t.write(parent); err != nil {
		return false, err
	}
	defer parent.dir.mu.Unlock()
	now, name, ok := t.Place(n)
	if !ok || now != parent || n.dir.has(b) {
		return ok && n.dir.has(b), nil
	}
	into, ok := parent.dir.in(b)
	if !ok {
		return false, nil
	}
	to, err := t.use(parent, into)
	if err != nil {
		return false, err
	}
	defer t.done(into)
	s, err := t.copyDir(n, b, to, name)
	if err != nil {
		return false, err
	}
	n.dir.mu.Lock()
	n.dir.add(s)
	t.table.recordSlots(n)
	n.dir.mu.Unlock()
	return true, nil
}

// copyDir makes an empty copy of directory n under a name of branch b.
func (t *Tree) copyDir(n *Node, b *Branch, to dirat.FD, name string) (_ slot, err error) {
	temp := t.tempName()
	work := b.home.work
	if err := work.Mkdir(temp, 0o700); err != nil {
		return slot{}, err
	}
	defer func() {
		if err != nil {
			work.Rmdir(temp)
		}
	}()
	fd, err := work.Dir(temp)
	if err != nil {
		return slot{}, err
	}
	var st dirat.Stat
	if err = t.settleDir(n, b, fd, &st); err == nil {
		err = keepTimes(to, func() error { return work.Rename(temp, to, name, dirat.NoReplace) })
	}
	if err != nil {
		fd.Close()
		return slot{}, err
	}
	return slot{b, t.newDirfd(fd, &st)}, nil
}

// settleDir gives a copy of n, open as fd, what belongs to it.
func (t *Tree) settleDir(n *Node, b *Branch, fd dirat.FD, st *dirat.Stat) error {
	err := t.withDir(n, func(from dirat.FD) error {
		var old dirat.Stat
		if err := from.Stat(&old); err != nil {
			return err
		}
		return fd.CopyMeta(from, &old)
	})
	if err != nil {
		return err
	}
	if err := fd.Stat(st); err != nil {
		return err
	}
	if top := n.dir.list()[0].b; b.index > top.index {
		return nil // the number is that of the topmost
	}
	return b.home.inodes.set(st.Ino, n.Ino)
}

// keepTimes leaves the times of a directory as they were: a copy is nothing
// that happened to it.
func keepTimes(dir dirat.FD, f func() error) error {
	var st dirat.Stat
	if err := dir.Stat(&st); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	return dir.SetTimes(dirat.Times(&st))
}

func (t *Tree) tempName() string { return "t" + strconv.FormatUint(t.temp.Add(1), 10) }

// copyFile brings a file to branch b. Preconditions: n.copying is held.
func (t *Tree) copyFile(n *Node, b *Branch, data bool) error {
	for range attempts {
		parent, _, ok := t.Place(n)
		if !ok {
			return t.copyOrphan(n, data)
		}
		if err := t.ensure(parent, b); err != nil {
			return err
		}
		done, err := t.copyFileIn(parent, n, b, data)
		if err != nil || done {
			return err
		}
	}
	return syscall.ESTALE
}

func (t *Tree) copyFileIn(parent, n *Node, b *Branch, data bool) (done bool, err error) {
	temp := t.tempName()
	var old, st dirat.Stat
	if err := t.makeCopy(n, b, temp, data, &old); err != nil {
		return false, err
	}
	defer func() {
		if !done {
			b.home.work.Unlink(temp)
		}
	}()
	if err := b.home.work.StatAt(temp, &st); err != nil {
		return false, err
	}
	if err := b.home.inodes.set(st.Ino, n.Ino); err != nil {
		return false, err
	}
	if err := t.write(parent); err != nil {
		return false, err
	}
	defer parent.dir.mu.Unlock()
	now, name, ok := t.Place(n)
	into, has := parent.dir.in(b)
	if !ok || now != parent || !has {
		return false, nil
	}
	to, err := t.use(parent, into)
	if err != nil {
		return false, err
	}
	defer t.done(into)
	if t.adopt(n, b, to, name) {
		b.home.inodes.forget(st.Ino)
		b.home.work.Unlink(temp)
		return true, nil
	}
	linked := old.Nlink > 1
	if linked {
		if err := t.link(n, b, temp); err != nil {
			return false, err
		}
	}
	err = keepTimes(to, func() error { return b.home.work.Rename(temp, to, name, dirat.NoReplace) })
	if err != nil {
		return false, stale(err)
	}
	t.table.mu.Lock()
	t.table.locate(n, key{b, st.Dev, st.Ino}, linked)
	t.table.unlock()
	return true, nil
}

// adopt takes a copy that is in its place already: whoever made it was killed before
// he could say so. The number that it was given tells. Preconditions: the directory's
// dir.mu is held.
func (t *Tree) adopt(n *Node, b *Branch, dir dirat.FD, name string) bool {
	var st dirat.Stat
	if dir.StatAt(name, &st) != nil || dirat.Kind(st.Mode) != n.kind || b.home.inodes.of(st.Ino) != n.Ino {
		return false
	}
	t.table.mu.Lock()
	t.table.locate(n, key{b, st.Dev, st.Ino}, b.home.isLinked(n.Ino))
	t.table.unlock()
	return true
}

// link gives a copy of a file that has more names below a name in the link
// directory, by which the others are led to it.
func (t *Tree) link(n *Node, b *Branch, temp string) error {
	name := linkName(n.Ino)
	err := b.home.work.Link(temp, b.home.links, name)
	if err == syscall.EEXIST { // of a copy that did not get its place
		if err = b.home.links.Unlink(name); err == nil {
			err = b.home.work.Link(temp, b.home.links, name)
		}
	}
	if err == nil {
		b.home.setLinked(n.Ino)
	}
	return err
}

// makeCopy makes a copy of a file in the work directory of branch b, and says
// what the original is.
func (t *Tree) makeCopy(n *Node, b *Branch, temp string, data bool, old *dirat.Stat) (err error) {
	from, err := t.place(n)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := from.Stat(old); err != nil {
		return err
	}
	work := b.home.work
	defer func() {
		if err != nil {
			work.Unlink(temp)
		}
	}()
	switch n.kind {
	case syscall.S_IFREG:
		return t.copyRegular(from, work, temp, data, old)
	case syscall.S_IFLNK:
		target, err := from.Readlink()
		if err != nil {
			return err
		}
		if err := work.Symlink(temp, target); err != nil {
			return err
		}
	default:
		if err := work.Mknod(temp, n.kind|0o600, uint32(old.Rdev)); err != nil {
			return err
		}
	}
	to, err := work.Place(temp)
	if err != nil {
		return err
	}
	defer to.Close()
	return to.CopyMeta(from, old)
}

// copyRegular copies a file with data. It is on disk before it takes the place
// of the original, or a power cut could lose what nobody has changed.
func (t *Tree) copyRegular(from, work dirat.FD, temp string, data bool, old *dirat.Stat) error {
	to, err := work.OpenAt(temp, syscall.O_CREAT|syscall.O_EXCL|syscall.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer to.Close()
	if data && old.Size > 0 {
		r, err := reopenQuietly(from)
		if err != nil {
			return err
		}
		err = to.CopyData(r, old.Size)
		r.Close()
		if err != nil {
			return err
		}
	}
	if err := to.CopyMeta(from, old); err != nil || t.options.Volatile || !data || old.Size == 0 {
		return err
	}
	return to.Sync()
}

// oNoatime leaves the time of access alone: a read-only branch stays as it is.
const oNoatime = 0x40000

func reopenQuietly(fd dirat.FD) (dirat.FD, error) {
	r, err := fd.Reopen(syscall.O_RDONLY | oNoatime)
	if err == syscall.EPERM { // for the owner and the privileged only
		return fd.Reopen(syscall.O_RDONLY)
	}
	return r, err
}

// copyOrphan copies a file that has no name any more, so that it can be changed
// by those who have it open.
func (t *Tree) copyOrphan(n *Node, data bool) error {
	b := t.topWritable()
	if !b.rw() {
		return syscall.EROFS
	}
	temp := t.tempName()
	var old, st dirat.Stat
	if err := t.makeCopy(n, b, temp, data, &old); err != nil {
		return err
	}
	defer b.home.work.Unlink(temp)
	fd, err := b.home.work.Place(temp)
	if err != nil {
		return err
	}
	if err := fd.Stat(&st); err != nil {
		fd.Close()
		return err
	}
	t.table.mu.Lock()
	held := n.orphan
	t.table.setOrphan(n, fd)
	t.table.locate(n, key{b, st.Dev, st.Ino}, false)
	t.table.unlock()
	held.Close()
	return nil
}
