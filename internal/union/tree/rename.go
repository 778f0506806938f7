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
func (t *Tree) Rename(p *Node, old string, q *Node, name string, flags uint, in *Intent) error {
	in = in.orNone()
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
		r := rename{t: t, p: p, q: q, old: old, name: name, flags: flags, in: in}
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
	in        *Intent
}

// try returns what must be done before, without locks, or nil when all is done.
func (r *rename) try() (first func() error, err error) {
	unlock, err := r.t.writeBoth(r.p, r.q)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if done, err := r.resume(); err != nil || done {
		return nil, err
	}
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

// open opens both directories in branch r.b.
func (r *rename) open() (done func(), err error) {
	t := r.t
	ps, ok := r.p.dir.in(r.b)
	qs, also := r.q.dir.in(r.b)
	if !ok || !also {
		return nil, syscall.ESTALE
	}
	if r.from, err = t.use(r.p, ps); err != nil {
		return nil, err
	}
	if r.to, err = t.use(r.q, qs); err != nil {
		t.done(ps)
		return nil, err
	}
	return func() { t.done(ps); t.done(qs) }, nil
}

// do moves the name in branch r.b, where everything is.
func (r *rename) do() error {
	done, err := r.open()
	if err != nil {
		return err
	}
	defer done()
	if err := r.hideBelow(r.from, r.old, &r.src, r.q, r.name); err != nil {
		return err
	}
	if r.flags != dirat.Exchange {
		return r.move()
	}
	if err := r.hideBelow(r.to, r.name, &r.dst, r.p, r.old); err != nil {
		return err
	}
	r.note(intentChanged)
	if err := r.from.Rename(r.old, r.to, r.name, dirat.Exchange); err != nil {
		r.in.undone()
		return err
	}
	r.exchanged()
	return nil
}

// note writes down what is about to be done.
func (r *rename) note(flags uint64) {
	what := Intent{flags: flags, n: r.t.idOf(r.p, r.old), m: r.t.idOf(r.q, r.name), src: r.src.st.Ino}
	if r.dst.at == r.b {
		what.dst = r.dst.st.Ino
	}
	r.in.note(r.b, what)
}

// resume goes on with a rename that had begun; it is done, or nothing has happened
// yet.
func (r *rename) resume() (done bool, err error) {
	in := r.in
	if r.b = r.t.begun(in); r.b == nil {
		return false, nil
	}
	close, err := r.open()
	if err != nil {
		return false, err
	}
	defer close()
	var st dirat.Stat
	if err := r.from.StatAt(r.old, &st); err == nil && st.Ino == in.src {
		return false, nil
	} else if err != nil && err != syscall.ENOENT {
		return false, err
	}
	if in.flags&intentChanged != 0 {
		r.exchanged()
		return true, nil
	}
	if in.flags&intentSwap != 0 && st.Ino == in.dst { // what was replaced is at the old name
		if err := r.throwAway(); err != nil {
			return false, err
		}
	}
	if target := r.t.kid(r.q, r.name); target != nil && target.ID == in.m {
		target.dir.mu.Lock()
		defer target.dir.mu.Unlock()
	}
	r.moved()
	return true, nil
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
	if r.in.holding() < 0 {
		r.in.hold(t.hold(r.q, r.name))
	}
	target := t.kid(r.q, r.name)
	if target != nil {
		target.dir.mu.Lock()
		defer target.dir.mu.Unlock()
		if err := t.empty(r.q, r.name, r.dst.slots); err != nil { // once more: now nobody adds to it
			r.in.undone()
			return err
		}
	}
	var flags uint64
	if r.dst.white == r.b {
		flags |= intentWhite
	}
	if r.dst.at == r.b && (r.dst.dir() || r.dst.st.Nlink == 1) {
		flags |= intentForget
	}
	if r.dst.at == r.b && r.dst.dir() {
		flags |= intentSwap
	}
	r.note(flags)
	s := step{r.b, r.from, &r.src}
	if err := t.takeAway(r.p, s, r.old, r.replace); err != nil {
		r.in.undone()
		return err
	}
	r.moved()
	return nil
}

// replace moves the name over what is at its new place in the branch. A
// directory that is there, with nothing but whiteouts in it, changes places
// first and is deleted then.
func (r *rename) replace() error {
	err := r.from.Rename(r.old, r.to, r.name, 0)
	if r.in.flags&intentSwap == 0 || err != syscall.ENOTEMPTY && err != syscall.EEXIST {
		return err
	}
	if err := r.from.Rename(r.old, r.to, r.name, dirat.Exchange); err != nil {
		return err
	}
	if err := r.throwAway(); err != nil {
		r.from.Rename(r.old, r.to, r.name, dirat.Exchange)
		return err
	}
	return nil
}

// throwAway deletes the directory that is at the old name.
func (r *rename) throwAway() error {
	temp := r.t.tempName()
	if err := r.from.Rename(r.old, r.b.home.work, temp, dirat.NoReplace); err != nil {
		return err
	}
	removeAll(r.b.home.work, temp)
	return nil
}

// moved does what is left when the name has moved, and tells the table.
func (r *rename) moved() {
	t, in := r.t, r.in
	if in.flags&intentWhite != 0 {
		// A name wins over its whiteout: what is left if this fails does no harm
		// before the name goes, and is right then.
		r.to.Unlink(union.WhiteoutPrefix + r.name)
	}
	if in.flags&intentForget != 0 {
		r.b.home.inodes.forget(in.dst)
	}
	t.table.mu.Lock()
	gone, kept := t.table.orphaned(r.q, r.name, in.m, in.holding())
	n := t.table.byID[in.n]
	if n != nil && r.p.kids[r.old] == n {
		t.table.detach(n, r.p, r.old)
		t.table.attach(n, r.q, r.name)
	}
	t.table.unlock()
	in.settled(kept)
	t.bury(gone)
	r.again(n, r.q, r.name)
}

// exchanged tells the table.
func (r *rename) exchanged() {
	t := r.t
	t.table.mu.Lock()
	a, b := t.table.byID[r.in.n], t.table.byID[r.in.m]
	if a != nil && r.p.kids[r.old] == a || b != nil && r.q.kids[r.name] == b {
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
	}
	t.table.unlock()
	r.again(a, r.q, r.name)
	r.again(b, r.p, r.old)
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
