package treecmp

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// Change is one path in which a tree differs from another.
type Change struct {
	Path     string // relative to the roots
	Old, New *Entry // nil: it is not there
}

// Entry is what there is at a path.
type Entry struct {
	Kind string // "file", "directory", "symbolic link" …
	Size int64  // of a file's data
}

// Changes calls report with each path in which the tree to differs from the tree
// from: in type, owner, mode, data, target, device or extended attributes, but
// not in times and hard links. Of what is there on one side only all is
// reported. Links are not followed and mounts not entered. Files that are one
// inode on both sides are not read, so both trees are of one file system, or of
// overlayfs with layers of one.
func Changes(ctx context.Context, from, to *os.File, report func(Change) error) error {
	c := &changes{ctx: ctx, report: report, a: make([]byte, 256<<10), b: make([]byte, 256<<10)}
	return c.both(int(from.Fd()), int(to.Fd()), ".")
}

type changes struct {
	ctx    context.Context // of one comparison
	report func(Change) error
	a, b   []byte
}

// node is an open entry of a directory.
type node struct {
	fd int
	st unix.Stat_t
}

func (n *node) dir() bool { return n.st.Mode&unix.S_IFMT == unix.S_IFDIR }

func (n *node) entry() *Entry {
	e := &Entry{Kind: kind(n.st.Mode)}
	if n.st.Mode&unix.S_IFMT == unix.S_IFREG {
		e.Size = n.st.Size
	}
	return e
}

// openNode opens an entry, for reading if that does no harm.
func openNode(dir int, name string) (*node, error) {
	n := &node{}
	if err := unix.Fstatat(dir, name, &n.st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, err
	}
	flags := unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOATIME
	switch n.st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		flags |= unix.O_DIRECTORY
	case unix.S_IFREG:
	default:
		flags = unix.O_PATH
	}
	var err error
	n.fd, err = open(dir, name, flags)
	return n, err
}

// both compares two directories.
func (c *changes) both(from, to int, p string) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	olds, err := names(from)
	if err != nil {
		return err
	}
	news, err := names(to)
	if err != nil {
		return err
	}
	all := slices.Concat(olds, news)
	slices.Sort(all)
	for _, n := range slices.Compact(all) {
		_, old := slices.BinarySearch(olds, n)
		_, present := slices.BinarySearch(news, n)
		q := path.Join(p, n)
		switch {
		case old && present:
			err = c.entry(from, to, n, q)
		case old:
			err = c.side(from, n, q, func(e *Entry) Change { return Change{q, e, nil} })
		default:
			err = c.side(to, n, q, func(e *Entry) Change { return Change{q, nil, e} })
		}
		if err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	return nil
}

func (c *changes) entry(from, to int, n, p string) error {
	x, err := openNode(from, n)
	if err != nil {
		return err
	}
	defer unix.Close(x.fd)
	y, err := openNode(to, n)
	if err != nil {
		return err
	}
	defer unix.Close(y.fd)
	same, err := c.same(x, y)
	if err != nil {
		return err
	}
	if !same {
		if err := c.report(Change{p, x.entry(), y.entry()}); err != nil {
			return err
		}
	}
	switch {
	case x.dir() && y.dir():
		return c.both(x.fd, y.fd, p)
	case x.dir():
		return c.below(x.fd, p, func(q string, e *Entry) Change { return Change{q, e, nil} })
	case y.dir():
		return c.below(y.fd, p, func(q string, e *Entry) Change { return Change{q, nil, e} })
	}
	return nil
}

// same compares two entries without what is in directories.
func (c *changes) same(x, y *node) (bool, error) {
	a, b := &x.st, &y.st
	if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid {
		return false, nil
	}
	if !x.dir() && a.Ino == b.Ino && a.Ctim == b.Ctim && a.Size == b.Size {
		return true, nil
	}
	want, err := xattrs(x.fd)
	if err != nil {
		return false, err
	}
	got, err := xattrs(y.fd)
	if err != nil || !slices.Equal(want, got) {
		return false, err
	}
	switch a.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if a.Size != b.Size {
			return false, nil
		}
		return c.sameData(x.fd, y.fd, a.Size)
	case unix.S_IFLNK:
		to, err := readlink(x.fd)
		if err != nil {
			return false, err
		}
		other, err := readlink(y.fd)
		return to == other, err
	case unix.S_IFCHR, unix.S_IFBLK:
		return a.Rdev == b.Rdev, nil
	}
	return true, nil
}

func (c *changes) sameData(x, y int, size int64) (bool, error) {
	for at := int64(0); at < size; {
		if err := c.ctx.Err(); err != nil {
			return false, err
		}
		n, err := read(x, c.a, at)
		if err != nil {
			return false, err
		}
		m, err := read(y, c.b, at)
		if err != nil {
			return false, err
		}
		if n == 0 || !bytes.Equal(c.a[:n], c.b[:m]) {
			return false, nil
		}
		at += int64(n)
	}
	return true, nil
}

// side reports an entry that is on one side only, with all below it.
func (c *changes) side(dir int, n, p string, change func(*Entry) Change) error {
	x, err := openNode(dir, n)
	if err != nil {
		return err
	}
	defer unix.Close(x.fd)
	first := change(x.entry())
	if err := c.report(first); err != nil || !x.dir() {
		return err
	}
	return c.below(x.fd, p, func(q string, e *Entry) Change {
		if first.New == nil {
			return Change{q, e, nil}
		}
		return Change{q, nil, e}
	})
}

func (c *changes) below(dir int, p string, change func(string, *Entry) Change) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	list, err := names(dir)
	if err != nil {
		return err
	}
	for _, n := range list {
		q := path.Join(p, n)
		if err := c.side(dir, n, q, func(e *Entry) Change { return change(q, e) }); err != nil {
			return err
		}
	}
	return nil
}
