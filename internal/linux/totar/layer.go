package totar

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Names of the specification: a file of the first kind takes a name of the
// layers below away, the second all that a directory has there.
const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = whiteoutPrefix + whiteoutPrefix + ".opq"
)

// Upper writes an upper directory of overlayfs, or a branch of aufs, as a layer.
// below is the root that it lies on, nil if there is none: where the root has the
// same metadata, it has no entry. Names that begin with ".wh." are left out, but
// whiteouts of a branch: no layer can have them.
func Upper(ctx context.Context, upper, below *os.File, out io.Writer, o Options) error {
	w := newWriter(ctx, out, o)
	w.layer = true
	n, err := w.open(int(upper.Fd()), ".")
	if err != nil {
		return err
	}
	defer n.close()
	if err := w.root(n, below); err != nil {
		return err
	}
	var merged *node
	if o.Merged != nil {
		if merged, err = w.open(int(o.Merged.Fd()), "."); err != nil {
			return err
		}
		defer merged.close()
	}
	write := func() error { return w.upper(n, merged, ".", 0) }
	if o.Branch {
		write = func() error { return w.branch(n, ".", 0) }
	}
	if err := write(); err != nil {
		return err
	}
	return w.tar.Close()
}

// root writes the entry of the root if it differs from that of below.
func (w *writer) root(n *node, below *os.File) error {
	h, err := w.rootHeader(n, below)
	if err != nil || h == nil {
		return err
	}
	return w.write(n, h)
}

// rootHeader describes the root; nil if it is as that of below.
func (w *writer) rootHeader(n *node, below *os.File) (*tar.Header, error) {
	h, err := w.header(n, ".")
	if err != nil {
		return nil, err
	}
	if below != nil && !w.o.Root {
		low, err := w.open(int(below.Fd()), ".")
		if err != nil {
			return nil, err
		}
		defer low.close()
		was, err := newWriter(w.ctx, nil, Options{}).header(low, ".")
		if err != nil {
			return nil, err
		}
		if sameHeader(h, was) {
			return nil, nil
		}
	}
	return h, nil
}

func sameHeader(a, b *tar.Header) bool {
	return a.Mode == b.Mode && a.Uid == b.Uid && a.Gid == b.Gid && a.ModTime.Equal(b.ModTime) && maps.Equal(a.PAXRecords, b.PAXRecords)
}

// upper writes what is in the directory n of an upper directory; merged is what
// overlayfs shows of it, nil if that is not needed.
func (w *writer) upper(n, merged *node, p string, depth int) error {
	if p != "." && n.opaque() {
		if err := w.whiteout(path.Join(p, whiteoutOpaque)); err != nil {
			return err
		}
	}
	return w.each(n, p, depth, func(child *node, q string) error {
		dir, name := path.Split(q)
		switch {
		case strings.HasPrefix(name, whiteoutPrefix):
			return nil
		case child.whiteout():
			return w.whiteout(dir + whiteoutPrefix + name)
		}
		if merged == nil {
			if err := w.entry(child, q); err != nil || !child.dir() {
				return err
			}
			return w.upper(child, nil, q, depth+1)
		}
		shown, err := w.before(merged, name)
		if err != nil || shown == nil { // it has gone
			return err
		}
		defer shown.close()
		return w.merge(child, shown, q, depth)
	})
}

// branch writes what is in the directory n of a branch of aufs.
func (w *writer) branch(n *node, p string, depth int) error {
	return w.each(n, p, depth, func(child *node, q string) error {
		dir, name := path.Split(q)
		hides, hidden := strings.CutPrefix(name, whiteoutPrefix)
		if hidden {
			if there, err := w.has(n, hides); err != nil || there || strings.HasPrefix(hides, whiteoutPrefix) {
				return err // what stands beside its whiteout is written as opaque; other names are the union's own
			}
			return w.whiteout(q)
		}
		if err := w.entry(child, q); err != nil || !child.dir() {
			return err
		}
		opaque, err := w.has(child, whiteoutOpaque)
		if err == nil && !opaque {
			opaque, err = w.has(n, whiteoutPrefix+name)
		}
		if err != nil {
			return err
		}
		if opaque {
			if err := w.whiteout(path.Join(dir, name, whiteoutOpaque)); err != nil {
				return err
			}
		}
		return w.branch(child, q, depth+1)
	})
}

// has reports whether the directory n has an entry.
func (w *writer) has(n *node, name string) (bool, error) {
	err := unix.Fstatat(n.fd, name, &unix.Stat_t{}, unix.AT_SYMLINK_NOFOLLOW)
	if vanished(err) {
		return false, nil
	}
	return err == nil, err
}

// merge writes an entry of an upper directory that may be there in part.
func (w *writer) merge(n, shown *node, q string, depth int) error {
	switch {
	case n.st.Mode&unix.S_IFMT != shown.st.Mode&unix.S_IFMT: // it has been replaced
		return nil
	case n.marked("trusted.overlay.metacopy"):
		return w.entry(shown, q)
	case !n.dir():
		return w.entry(n, q)
	}
	if err := w.entry(n, q); err != nil {
		return err
	}
	if !n.marked("trusted.overlay.redirect") {
		return w.upper(n, shown, q, depth+1)
	}
	// Its content lies elsewhere below; what lies at its own name is not shown.
	if err := w.whiteout(path.Join(q, whiteoutOpaque)); err != nil {
		return err
	}
	return w.all(shown, q, depth+1)
}

// marked reports whether a file of an upper directory has an attribute of
// overlayfs.
func (n *node) marked(name string) bool {
	if n.attr != "" { // only regular files and directories have them
		return false
	}
	_, err := unix.Fgetxattr(n.fd, name, nil)
	return err == nil
}

// opaque reports whether overlayfs shows nothing of the directories below.
func (n *node) opaque() bool {
	var v [1]byte
	k, err := unix.Fgetxattr(n.fd, "trusted.overlay.opaque", v[:])
	return err == nil && k == 1 && v[0] == 'y'
}

func (n *node) whiteout() bool {
	return n.st.Mode&unix.S_IFMT == unix.S_IFCHR && n.st.Rdev == 0
}

// whiteout writes an entry that takes something away. It has no time: when a
// thing was taken away is not known everywhere.
func (w *writer) whiteout(p string) error {
	return w.write(nil, &tar.Header{Name: p, Typeflag: tar.TypeReg, Format: tar.FormatPAX})
}

// Changes writes as a layer in what a copy differs from its original, nil if
// that was empty. A file is taken as unchanged if its metadata is, as by rsync.
func Changes(ctx context.Context, now, before *os.File, out io.Writer, o Options) error {
	w := newWriter(ctx, out, o)
	w.layer = true
	n, err := w.open(int(now.Fd()), ".")
	if err != nil {
		return err
	}
	defer n.close()
	h, err := w.rootHeader(n, before)
	if err != nil {
		return err
	}
	// Whoever applies the layer to a copy changes the root's time.
	written := false
	root := func() error {
		if written {
			return nil
		}
		written = true
		return w.entry(n, ".")
	}
	if h != nil {
		if err := root(); err != nil {
			return err
		}
	}
	c := &comparison{writer: w, again: map[inode]bool{}, old: map[inode]inode{}, new: map[inode]inode{}}
	var was *node
	if before != nil {
		if was, err = w.open(int(before.Fd()), "."); err != nil {
			return err
		}
		defer was.close()
		if err := c.links(n, was, ".", 0); err != nil {
			return err
		}
	}
	if err := c.dir(n, was, ".", 0, root); err != nil {
		return err
	}
	return w.tar.Close()
}

// comparison is a writer of what differs.
type comparison struct {
	*writer
	again    map[inode]bool  // files with several names, of which one is new or changed: all names are written
	old, new map[inode]inode // which file of the copy each file with several names became, and back
}

// links finds the files with several names that are to be written.
func (c *comparison) links(now, before *node, p string, depth int) error {
	return c.each(now, p, depth, func(child *node, q string) error {
		was, err := c.before(before, path.Base(q))
		if err != nil {
			return err
		}
		defer was.close()
		id := inode{child.st.Dev, child.st.Ino}
		switch {
		case child.dir() && was != nil && was.dir():
			lost, err := child.lost(was)
			if err != nil && !vanished(err) {
				return err
			}
			if lost {
				return c.newLinks(child, q, depth+1)
			}
			return c.links(child, was, q, depth+1)
		case child.dir():
			return c.newLinks(child, q, depth+1)
		case child.st.Nlink < 2:
			return nil
		case was == nil:
			c.again[id] = true
			return nil
		}
		same, err := child.same(was)
		if err != nil && !vanished(err) {
			return err
		}
		low := inode{was.st.Dev, was.st.Ino}
		if to, ok := c.new[low]; ok && to != id {
			same, c.again[to] = false, true
		}
		if from, ok := c.old[id]; ok && from != low {
			same = false
		}
		c.old[id], c.new[low] = low, id
		if !same {
			c.again[id] = true
		}
		return nil
	})
}

// newLinks is links where there was nothing before.
func (c *comparison) newLinks(now *node, p string, depth int) error {
	return c.each(now, p, depth, func(child *node, q string) error {
		if child.dir() {
			return c.newLinks(child, q, depth+1)
		}
		if child.st.Nlink > 1 {
			c.again[inode{child.st.Dev, child.st.Ino}] = true
		}
		return nil
	})
}

// dir writes in what a directory differs from what it was, nil if it was not.
// above writes the directory and those that lead to it, unless they are written.
func (c *comparison) dir(now, before *node, p string, depth int, above func() error) error {
	only, err := c.only(p)
	if err != nil {
		return err
	}
	gone := map[string]bool{}
	if before != nil {
		names, err := before.names()
		if err != nil {
			return err
		}
		for _, name := range names {
			gone[name] = only == nil || only[name]
		}
	}
	maps.DeleteFunc(gone, func(_ string, differs bool) bool { return !differs })
	present, err := now.names()
	if err != nil {
		return err
	}
	for _, name := range present {
		delete(gone, name)
	}
	for _, name := range slices.Sorted(maps.Keys(gone)) {
		if strings.HasPrefix(name, whiteoutPrefix) {
			continue
		}
		if err := above(); err != nil {
			return err
		}
		if err := c.whiteout(path.Join(p, whiteoutPrefix+name)); err != nil {
			return err
		}
	}
	return c.each(now, p, depth, func(child *node, q string) error {
		if strings.HasPrefix(path.Base(q), whiteoutPrefix) {
			return nil
		}
		was, err := c.before(before, path.Base(q))
		if err != nil {
			return err
		}
		defer was.close()
		return c.entry(child, was, q, depth, above)
	})
}

func (c *comparison) entry(child, was *node, q string, depth int, above func() error) error {
	if was != nil && (child.st.Mode^was.st.Mode)&unix.S_IFMT != 0 {
		was = nil
	}
	if was != nil && child.dir() {
		// An entry for a directory that is there adds attributes and takes none away.
		lost, err := child.lost(was)
		if vanished(err) {
			return nil
		}
		if err == nil && lost {
			if err = above(); err == nil {
				err = c.whiteout(path.Join(path.Dir(q), whiteoutPrefix+path.Base(q)))
			}
			was = nil
		}
		if err != nil {
			return err
		}
	}
	same := false
	if was != nil {
		var err error
		if same, err = child.same(was); err != nil {
			if vanished(err) {
				return nil
			}
			return err
		}
	}
	if !child.dir() && c.again[inode{child.st.Dev, child.st.Ino}] {
		same = false
	}
	written := false
	write := func() error {
		if written {
			return nil
		}
		written = true
		if err := above(); err != nil {
			return err
		}
		return c.writer.entry(child, q)
	}
	if !same {
		if err := write(); err != nil {
			return err
		}
	}
	if !child.dir() {
		return nil
	}
	return c.dir(child, was, q, depth+1, write)
}

// before opens an entry of a directory of the original, nil if there is none.
func (w *writer) before(n *node, name string) (*node, error) {
	if n == nil {
		return nil, nil
	}
	was, err := w.open(n.fd, name)
	if vanished(err) {
		return nil, nil
	}
	return was, err
}

// lost reports whether a directory has fewer attributes than it had.
func (n *node) lost(was *node) (bool, error) {
	before, err := was.xattrs()
	if err != nil || len(before) == 0 {
		return false, err
	}
	now, err := n.xattrs()
	for name := range before {
		if _, ok := now[name]; !ok {
			return true, err
		}
	}
	return false, err
}

// same compares metadata. That of directories leaves their size out.
func (n *node) same(was *node) (bool, error) {
	a, b := &n.st, &was.st
	if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Mtim != b.Mtim || a.Rdev != b.Rdev {
		return false, nil
	}
	if !n.dir() && (a.Size != b.Size || a.Nlink != b.Nlink) {
		return false, nil
	}
	x, err := n.xattrs()
	if err != nil {
		return false, err
	}
	y, err := was.xattrs()
	return maps.EqualFunc(x, y, bytes.Equal), err
}
