package tree

import (
	"syscall"

	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/union"
)

// New says what is to be made: for whom, with which mode, kind and device
// number among it.
type New struct {
	Mode     uint32
	Umask    uint32 // what Mode loses, unless the directory has a default access control list
	Dev      uint32
	Target   string // of a symbolic link
	UID, GID uint32
}

// step is one that changes names of a directory in a branch that it has.
type step struct {
	b  *Branch
	fd dirat.FD // the directory there
	f  *found   // what the name stood for
}

// change locks directory p, looks for name, lets choose decide on the branch
// that is written to, and calls do with it. If p is not in that branch yet it is
// made there, unlocked, and all begins anew.
func (t *Tree) change(p *Node, name string, choose func(*found) (*Branch, error), do func(step) error) error {
	for range attempts {
		b, err := t.try(p, name, choose, do)
		if err != nil || b == nil {
			return err
		}
		if err := t.ensure(p, b); err != nil {
			return err
		}
	}
	return syscall.ESTALE
}

// try returns the branch in which p must be made first, or nil when all is done.
func (t *Tree) try(p *Node, name string, choose func(*found) (*Branch, error), do func(step) error) (*Branch, error) {
	if err := t.write(p); err != nil {
		return nil, err
	}
	defer p.dir.mu.Unlock()
	f, err := t.resolve(p, name)
	if err != nil {
		return nil, err
	}
	defer func() { t.release(f.slots) }()
	b, err := choose(&f)
	if err != nil {
		return nil, err
	}
	s, ok := p.dir.in(b)
	if !ok {
		return b, nil
	}
	fd, err := t.use(p, s)
	if err != nil {
		return nil, err
	}
	defer t.done(s)
	return nil, do(step{b, fd, &f})
}

// chooseNew decides where something new of directory p goes. The decision stands
// when p has been made there.
func (t *Tree) chooseNew(p *Node, in *Intent) func(*found) (*Branch, error) {
	var chosen *Branch
	return func(f *found) (b *Branch, err error) {
		if t.made(f, in) {
			return f.at, nil
		}
		if f.at != nil {
			return nil, syscall.EEXIST
		}
		limit := noLimit
		if f.white != nil {
			limit = f.white.index
		}
		if chosen == nil || chosen.index > limit {
			chosen, err = t.forNew(p, limit)
		}
		return chosen, err
	}
}

// made tells whether a name is there because the operation has begun already, and
// says what else is to be done.
func (t *Tree) made(f *found, in *Intent) bool {
	b := t.begun(in)
	if b == nil || f.at != b {
		return false
	}
	f.made, f.white = true, nil
	if in.flags&intentWhite != 0 {
		f.white = b
	}
	return true
}

// newIntent is that of an operation which makes a name.
func newIntent(s step) Intent {
	if s.f.white == s.b {
		return Intent{flags: intentWhite}
	}
	return Intent{}
}

// Make makes a file, directory, link or device in directory p. The node has one
// reference.
func (t *Tree) Make(p *Node, name string, w New, in *Intent) (n *Node, st *dirat.Stat, err error) {
	n, st, _, err = t.make(p, name, w, false, in.orNone())
	return n, st, err
}

// Create makes a file in directory p and opens it for reading and writing. The
// node has one reference.
func (t *Tree) Create(p *Node, name string, w New, in *Intent) (n *Node, st *dirat.Stat, f *File, err error) {
	w.Mode = w.Mode&^syscall.S_IFMT | syscall.S_IFREG
	return t.make(p, name, w, true, in.orNone())
}

func (t *Tree) make(p *Node, name string, w New, open bool, in *Intent) (n *Node, st *dirat.Stat, file *File, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := checkNew(name); err != nil {
		return nil, nil, nil, err
	}
	err = t.change(p, name, t.chooseNew(p, in), func(s step) error {
		if !s.f.made {
			in.note(s.b, newIntent(s))
		}
		fd, err := t.makeIn(p, s, name, w, open)
		if err != nil {
			return err
		}
		if n, st, err = t.lookup(p, name); err != nil {
			fd.Close()
			return err
		}
		if open {
			file = t.newFile(n, s.b, fd, true)
		}
		return nil
	})
	return n, st, file, err
}

// makeIn makes something new in a branch and takes away its whiteout; nothing
// is left if it fails.
func (t *Tree) makeIn(p *Node, s step, name string, w New, open bool) (fd dirat.FD, err error) {
	w.mask(s.fd)
	if fd, err = makeAt(s.fd, name, w, open); err == syscall.EEXIST && s.f.made {
		fd, err = dirat.None, nil
		if open {
			fd, err = s.fd.OpenAt(name, syscall.O_RDWR, 0)
		}
	}
	if err != nil {
		return dirat.None, err
	}
	defer func() {
		if err != nil {
			fd.Close()
			fd = dirat.None
			remove(s.fd, name)
		}
	}()
	if err = own(s.fd, name, w); err != nil {
		return fd, err
	}
	if dirat.Kind(w.Mode) == syscall.S_IFDIR {
		if err = t.hideBelow(p, s, name); err != nil {
			return fd, err
		}
	}
	if s.f.white == s.b {
		err = unlinkIfThere(s.fd, union.WhiteoutPrefix+name)
	}
	return fd, err
}

func unlinkIfThere(dir dirat.FD, name string) error {
	if err := dir.Unlink(name); err != syscall.ENOENT {
		return err
	}
	return nil
}

// mask applies the mask of the caller, as acl(5) says.
func (w *New) mask(dir dirat.FD) {
	if w.Umask&w.Mode == 0 || dirat.Kind(w.Mode) == syscall.S_IFLNK {
		return
	}
	if n, err := dir.Getxattr("system.posix_acl_default", nil); err != nil || n == 0 {
		w.Mode &^= w.Umask & 0o777
	}
}

func makeAt(dir dirat.FD, name string, w New, open bool) (dirat.FD, error) {
	mode := w.Mode & 0o1777 // set-user-id comes after the owner
	switch kind := dirat.Kind(w.Mode); {
	case open:
		return dir.OpenAt(name, syscall.O_CREAT|syscall.O_EXCL|syscall.O_RDWR, mode)
	case kind == syscall.S_IFDIR:
		return dirat.None, dir.Mkdir(name, mode)
	case kind == syscall.S_IFLNK:
		return dirat.None, dir.Symlink(name, w.Target)
	default:
		return dirat.None, dir.Mknod(name, kind|mode, w.Dev)
	}
}

func remove(dir dirat.FD, name string) {
	if dir.Unlink(name) == syscall.EISDIR {
		removeAll(dir, name)
	}
}

// own gives something new its owner, and the group of the directory if that
// says so.
func own(dir dirat.FD, name string, w New) error {
	special := w.Mode & (syscall.S_ISUID | syscall.S_ISGID)
	if w.UID == 0 && w.GID == 0 && special == 0 {
		return nil
	}
	fd, err := dir.Place(name)
	if err != nil {
		return err
	}
	defer fd.Close()
	gid := int(w.GID)
	var st dirat.Stat
	if err := dir.Stat(&st); err != nil {
		return err
	}
	if st.Mode&syscall.S_ISGID != 0 {
		gid = -1
	}
	if err := fd.Chown(int(w.UID), gid); err != nil {
		return err
	}
	if special == 0 || dirat.Kind(w.Mode) == syscall.S_IFLNK {
		return nil
	}
	if err := fd.Stat(&st); err != nil {
		return err
	}
	return fd.Chmod(st.Mode&0o7777 | special)
}

// hideBelow makes a new directory opaque if others of its name are below.
func (t *Tree) hideBelow(p *Node, s step, name string) error {
	if !t.options.AlwaysOpaque {
		if s.f.white != s.b {
			return nil
		}
		if below, err := t.below(p, s.b, name); err != nil || !below {
			return err
		}
	}
	fd, err := s.fd.Dir(name)
	if err != nil {
		return err
	}
	defer fd.Close()
	return t.mark(s.b, fd, union.Opaque)
}

// mark makes one of the union's own empty files in a directory of a branch: a
// whiteout, or the mark of an opaque directory.
func (t *Tree) mark(b *Branch, dir dirat.FD, name string) error {
	if b.spec.NoLWH {
		return markAlone(dir, name)
	}
	err := b.root.Link(union.WhiteoutBase, dir, name)
	if err == syscall.ENOENT {
		if err = markAlone(b.root, union.WhiteoutBase); err != nil {
			return err
		}
		err = b.root.Link(union.WhiteoutBase, dir, name)
	}
	switch err {
	case syscall.EMLINK, syscall.EPERM, syscall.EXDEV, syscall.EOPNOTSUPP:
		return markAlone(dir, name)
	case syscall.EEXIST:
		return nil
	}
	return err
}

func markAlone(dir dirat.FD, name string) error {
	err := dir.Mknod(name, syscall.S_IFREG|0o444, 0)
	if err == syscall.EEXIST {
		return nil
	}
	return err
}

// Link gives a file one more name. The reference is one more of n.
func (t *Tree) Link(n, p *Node, name string, in *Intent) (st *dirat.Stat, err error) {
	in = in.orNone()
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := checkNew(name); err != nil {
		return nil, err
	}
	if n.Dir() {
		return nil, syscall.EPERM
	}
	for range attempts {
		if err := t.copyUp(n, true); err != nil {
			return nil, err
		}
		up, err := t.linkOnce(n, p, name, in)
		if err != nil {
			return nil, err
		}
		if up == nil {
			t.table.mu.Lock()
			n.refs++
			t.table.mu.Unlock()
			var st dirat.Stat
			err := t.stat(n, &st)
			t.show(n, &st)
			return &st, err
		}
		if err := t.copyTo(n, up); err != nil {
			return nil, err
		}
	}
	return nil, syscall.ESTALE
}

// linkOnce returns the branch to which n must be brought first, because its name
// would be hidden where it is.
func (t *Tree) linkOnce(n, p *Node, name string, in *Intent) (up *Branch, err error) {
	where := t.where(n)
	at := where.b
	choose := func(f *found) (*Branch, error) {
		if f.at == at && f.st.Ino == where.ino && t.made(f, in) {
			return at, nil
		}
		if f.at != nil {
			return nil, syscall.EEXIST
		}
		limit := t.limit(p)
		if f.white != nil {
			limit = min(limit, f.white.index)
		}
		if at.index > limit {
			if up, err = nearest(t.writable(limit), limit); err != nil {
				return nil, err
			}
			return up, nil
		}
		return at, nil
	}
	err = t.change(p, name, choose, func(s step) error {
		if s.b != at {
			return nil
		}
		fd, err := t.place(n)
		if err != nil {
			return err
		}
		defer fd.Close()
		if !s.f.made {
			in.note(s.b, newIntent(s))
		}
		if err := fd.LinkTo(s.fd, name); err != nil && !(err == syscall.EEXIST && s.f.made) {
			return err
		}
		if s.f.white == s.b {
			if err := unlinkIfThere(s.fd, union.WhiteoutPrefix+name); err != nil {
				s.fd.Unlink(name)
				return err
			}
		}
		t.table.mu.Lock()
		held := n.orphan // of a file that had no name
		t.table.setOrphan(n, dirat.None)
		t.table.attach(n, p, name)
		t.table.unlock()
		held.Close()
		return nil
	})
	return up, err
}

// Tmpfile makes a file without a name, on the branch where one in directory p
// would be. The node has one reference.
func (t *Tree) Tmpfile(p *Node, w New) (n *Node, st *dirat.Stat, file *File, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.read(p); err != nil {
		return nil, nil, nil, err
	}
	b, err := t.forNew(p, noLimit)
	p.dir.mu.RUnlock()
	if err != nil {
		return nil, nil, nil, err
	}
	if err := t.ensure(p, b); err != nil {
		return nil, nil, nil, err
	}
	s, ok := p.dir.in(b)
	if !ok {
		return nil, nil, nil, syscall.ESTALE
	}
	dir, err := t.use(p, s)
	if err != nil {
		return nil, nil, nil, err
	}
	defer t.done(s)
	w.mask(dir)
	fd, err := dir.OpenAt(".", dirat.Tmpfile|syscall.O_RDWR, w.Mode&0o1777)
	if err != nil {
		return nil, nil, nil, err
	}
	if n, st, err = t.internOrphan(b, fd, w); err != nil {
		fd.Close()
		return nil, nil, nil, err
	}
	return n, st, t.newFile(n, b, fd, true), nil
}

func (t *Tree) internOrphan(b *Branch, fd dirat.FD, w New) (*Node, *dirat.Stat, error) {
	if err := fd.Chown(int(w.UID), int(w.GID)); err != nil {
		return nil, nil, err
	}
	var st dirat.Stat
	if err := fd.Stat(&st); err != nil {
		return nil, nil, err
	}
	held, err := fd.Dup()
	if err != nil {
		return nil, nil, err
	}
	t.table.mu.Lock()
	n := t.table.add(syscall.S_IFREG, b.inode(st.Ino))
	t.table.locate(n, key{b, st.Dev, st.Ino}, false)
	t.table.setOrphan(n, held)
	n.refs = 1
	t.table.unlock()
	t.show(n, &st)
	return n, &st, nil
}
