package tree

import (
	"errors"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/union"
)

// Rename moves a name, with the flags NoReplace and Exchange of renameat2.
//
// A directory of which a part is in a branch that is not writable, or which is
// merged from several, is not moved: the answer is EXDEV, on which mv(1) copies.
func (t *Tree) Rename(p *Node, old string, q *Node, name string, flags uint) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := checkOld(old); err != nil {
		return err
	}
	if err := checkNew(name); err != nil {
		return err
	}
	if flags&^(dirat.NoReplace|dirat.Exchange) != 0 || flags == dirat.NoReplace|dirat.Exchange {
		return syscall.EINVAL
	}
	if p != q {
		t.renames.Lock()
		defer t.renames.Unlock()
	}
	for range attempts {
		r := rename{t: t, p: p, q: q, old: old, name: name, flags: flags}
		first, err := r.try()
		if err != nil || first == nil {
			return err
		}
		if err := first(); err != nil {
			return err
		}
	}
	return syscall.ESTALE
}

// rename is one attempt.
type rename struct {
	t         *Tree
	p, q      *Node
	old, name string
	flags     uint
	src, dst  found
	b         *Branch // where it happens
	from, to  dirat.FD
}

// try returns what must be done before, without locks, or nil when all is done.
func (r *rename) try() (first func() error, err error) {
	unlock, err := r.t.writeBoth(r.p, r.q)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if r.src, err = r.t.resolve(r.p, r.old); err != nil {
		return nil, err
	}
	defer func() { r.t.release(r.src.slots) }()
	if r.dst, err = r.t.resolve(r.q, r.name); err != nil {
		return nil, err
	}
	defer func() { r.t.release(r.dst.slots) }()
	if done, err := r.check(); err != nil || done {
		return nil, err
	}
	if r.b, err = r.choose(); err != nil {
		return nil, err
	}
	if r.src.dir() && r.dst.dir() && r.flags != dirat.Exchange {
		if err := r.t.empty(r.q, r.name, r.dst.slots); err != nil {
			return nil, err
		}
	}
	if first, err := r.prepare(); err != nil || first != nil {
		return first, err
	}
	return nil, r.do()
}

// writeBoth locks two directories, one above the other first.
func (t *Tree) writeBoth(p, q *Node) (unlock func(), err error) {
	if !p.Dir() || !q.Dir() {
		return nil, syscall.ENOTDIR
	}
	if p == q {
		return p.dir.mu.Unlock, t.write(p)
	}
	// Now, because looking for slots takes the locks of directories above.
	if err := errors.Join(t.fresh(p), t.fresh(q)); err != nil {
		return nil, syscall.ESTALE
	}
	if t.above(q, p) || !t.above(p, q) && q.ID < p.ID {
		p, q = q, p
	}
	if err := t.write(p); err != nil {
		return nil, err
	}
	if err := t.write(q); err != nil {
		p.dir.mu.Unlock()
		return nil, err
	}
	return func() { q.dir.mu.Unlock(); p.dir.mu.Unlock() }, nil
}

// above tells whether a is b or a directory on the way to it.
func (t *Tree) above(a, b *Node) bool {
	t.table.mu.Lock()
	defer t.table.mu.Unlock()
	for b != nil && b != a {
		b, _, _ = b.place()
	}
	return b == a
}

// check refuses what is wrong in itself; done means that nothing is to be done.
func (r *rename) check() (done bool, err error) {
	exchange := r.flags == dirat.Exchange
	switch {
	case r.src.at == nil, exchange && r.dst.at == nil:
		return false, syscall.ENOENT
	case r.flags == dirat.NoReplace && r.dst.at != nil:
		return false, syscall.EEXIST
	case r.p == r.q && r.old == r.name:
		return true, nil
	}
	if n := r.t.kid(r.p, r.old); n != nil && r.t.above(n, r.q) {
		return false, syscall.EINVAL
	}
	if n := r.t.kid(r.q, r.name); n != nil && r.t.above(n, r.p) {
		if exchange {
			return false, syscall.EINVAL
		}
		return false, syscall.ENOTEMPTY
	}
	if r.dst.at == nil || exchange {
		return false, nil
	}
	switch {
	case r.src.dir() && !r.dst.dir():
		return false, syscall.ENOTDIR
	case !r.src.dir() && r.dst.dir():
		return false, syscall.EISDIR
	case r.src.dir():
		return false, nil
	}
	same, err := r.sameFile()
	return same, err // two names of one file: rename(2) does nothing
}

func (r *rename) sameFile() (bool, error) {
	a, err := r.t.intern(r.p, r.old, &r.src)
	if err != nil {
		return false, err
	}
	defer r.t.Forget(a, 1)
	b, err := r.t.intern(r.q, r.name, &r.dst)
	if err != nil {
		return false, err
	}
	defer r.t.Forget(b, 1)
	return a == b, nil
}

// choose decides on the branch: that of the file, or one above where it is not
// hidden.
func (r *rename) choose() (*Branch, error) {
	limit := r.t.limit(r.q)
	if r.dst.at != nil {
		limit = min(limit, r.dst.at.index)
	}
	if r.dst.white != nil {
		limit = min(limit, r.dst.white.index)
	}
	if r.flags == dirat.Exchange {
		return r.chooseExchange()
	}
	at := r.src.at
	if at.rw() && at.index <= limit {
		return at, r.movable(&r.src, at)
	}
	if r.src.dir() {
		return nil, syscall.EXDEV
	}
	if limit >= at.index {
		return r.t.forCopy(r.p, at.index)
	}
	return nearest(r.t.writable(limit), limit)
}

func (r *rename) chooseExchange() (*Branch, error) {
	limit := min(r.src.at.index, r.dst.at.index)
	b, err := nearest(r.t.writable(limit), limit)
	if err != nil {
		return nil, err
	}
	if err := r.movable(&r.src, b); err != nil {
		return nil, err
	}
	return b, r.movable(&r.dst, b)
}

// movable refuses directories that are not wholly in one branch.
func (r *rename) movable(f *found, b *Branch) error {
	if f.dir() && (len(f.slots) != 1 || f.at != b) {
		return syscall.EXDEV
	}
	return nil
}

// prepare returns what has to be copied up before.
func (r *rename) prepare() (func() error, error) {
	t, b := r.t, r.b
	switch {
	case !r.p.dir.has(b):
		return func() error { return t.ensure(r.p, b) }, nil
	case !r.q.dir.has(b):
		return func() error { return t.ensure(r.q, b) }, nil
	case r.src.at != b:
		return r.copyFirst(r.p, r.old, &r.src)
	case r.flags == dirat.Exchange && r.dst.at != b:
		return r.copyFirst(r.q, r.name, &r.dst)
	}
	return nil, nil
}

func (r *rename) copyFirst(p *Node, name string, f *found) (func() error, error) {
	n, err := r.t.intern(p, name, f)
	if err != nil {
		return nil, err
	}
	return func() error {
		defer r.t.Forget(n, 1)
		if r.t.branch(n) == r.b { // by another name
			return r.linkUp(n, p, name)
		}
		return r.t.copyTo(n, r.b)
	}, nil
}

// linkUp gives a name of a branch below, whose file was copied up by another
// name, to the copy.
func (r *rename) linkUp(n, p *Node, name string) error {
	t := r.t
	if err := t.write(p); err != nil {
		return err
	}
	defer p.dir.mu.Unlock()
	s, ok := p.dir.in(r.b)
	if !ok {
		return nil // begins anew
	}
	dir, err := t.use(p, s)
	if err != nil {
		return err
	}
	defer t.done(s)
	fd, err := t.place(n)
	if err != nil {
		return err
	}
	defer fd.Close()
	return keepTimes(dir, func() error { return fd.LinkTo(dir, name) })
}

// do moves the name in branch r.b, where everything is.
func (r *rename) do() (err error) {
	t := r.t
	ps, _ := r.p.dir.in(r.b)
	qs, _ := r.q.dir.in(r.b)
	if r.from, err = t.use(r.p, ps); err != nil {
		return err
	}
	defer t.done(ps)
	if r.to, err = t.use(r.q, qs); err != nil {
		return err
	}
	defer t.done(qs)
	if err := r.hideBelow(r.from, r.old, &r.src, r.q, r.name); err != nil {
		return err
	}
	if r.flags == dirat.Exchange {
		if err := r.hideBelow(r.to, r.name, &r.dst, r.p, r.old); err != nil {
			return err
		}
		if err := r.from.Rename(r.old, r.to, r.name, dirat.Exchange); err != nil {
			return err
		}
		return r.exchanged()
	}
	return r.move()
}

// hideBelow makes a directory opaque that comes to a place with others of its name
// below.
func (r *rename) hideBelow(dir dirat.FD, name string, f *found, p *Node, as string) error {
	if !f.dir() {
		return nil
	}
	below, err := r.t.below(p, r.b, as)
	if err != nil || !below {
		return err
	}
	fd, err := dir.Dir(name)
	if err != nil {
		return err
	}
	defer fd.Close()
	return r.t.mark(r.b, fd, union.Opaque)
}

func (r *rename) move() error {
	t := r.t
	held := t.hold(r.q, r.name)
	target := t.kid(r.q, r.name)
	if target != nil {
		target.dir.mu.Lock()
		defer target.dir.mu.Unlock()
		if err := t.empty(r.q, r.name, r.dst.slots); err != nil { // once more: now nobody adds to it
			held.Close()
			return err
		}
	}
	s := step{r.b, r.from, &r.src}
	if err := t.takeAway(r.p, s, r.old, r.replace); err != nil {
		held.Close()
		return err
	}
	if r.dst.white == r.b {
		// A name wins over its whiteout: what is left if this fails does no harm
		// before the name goes, and is right then.
		r.to.Unlink(union.WhiteoutPrefix + r.name)
	}
	if r.dst.at == r.b && (r.dst.dir() || r.dst.st.Nlink == 1) {
		r.b.home.inodes.forget(r.dst.st.Ino)
	}
	if target != nil {
		target.dir.dead = true
	}
	t.orphaned(r.q, r.name, held)
	r.moved()
	return nil
}

// replace moves the name over what is at its new place in the branch. A
// directory that is there, with nothing but whiteouts in it, changes places
// first and is deleted then.
func (r *rename) replace() error {
	if r.dst.at != r.b || !r.dst.dir() {
		return r.from.Rename(r.old, r.to, r.name, 0)
	}
	err := r.from.Rename(r.old, r.to, r.name, 0)
	if err != syscall.ENOTEMPTY && err != syscall.EEXIST {
		return err
	}
	if err := r.from.Rename(r.old, r.to, r.name, dirat.Exchange); err != nil {
		return err
	}
	temp := r.t.tempName()
	if err := r.from.Rename(r.old, r.b.home.work, temp, dirat.NoReplace); err != nil {
		r.from.Rename(r.old, r.to, r.name, dirat.Exchange)
		return err
	}
	removeAll(r.b.home.work, temp)
	return nil
}

// moved tells the table.
func (r *rename) moved() {
	t := r.t
	t.table.mu.Lock()
	n := r.p.kids[r.old]
	if n != nil {
		t.table.detach(n, r.p, r.old)
		t.table.attach(n, r.q, r.name)
	}
	t.table.mu.Unlock()
	r.again(n, r.q, r.name)
}

func (r *rename) exchanged() error {
	t := r.t
	t.table.mu.Lock()
	a, b := r.p.kids[r.old], r.q.kids[r.name]
	if a != nil {
		t.table.detach(a, r.p, r.old)
	}
	if b != nil {
		t.table.detach(b, r.q, r.name)
		t.table.attach(b, r.p, r.old)
	}
	if a != nil {
		t.table.attach(a, r.q, r.name)
	}
	t.table.mu.Unlock()
	r.again(a, r.q, r.name)
	r.again(b, r.p, r.old)
	return nil
}

// again finds out what may contribute to a directory at its new place.
func (r *rename) again(n, p *Node, name string) {
	if n == nil || !n.Dir() {
		return
	}
	f, err := r.t.resolve(p, name)
	if err != nil || !f.dir() {
		r.t.release(f.slots)
		return // the next who comes by finds out
	}
	r.t.setSlots(n, &f)
}
