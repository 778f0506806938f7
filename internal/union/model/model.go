// Package model is a union mount made of maps: the rules of package union
// written down as plainly as possible, to compare the real one with.
//
// Paths are absolute and clean. What is not modelled: times, owners, space and
// the policies that go by it, changes behind the union.
package model

import (
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"
)

// File is a file or directory; two paths of a branch with the same File are
// hard links.
type File struct {
	Kind uint32 // syscall.S_IFDIR, S_IFREG or S_IFLNK
	Mode uint32
	Data string // of a file; the target of a link
}

// Branch is one branch. White has the paths that whiteouts hide, Opaque the
// directories below which nothing is seen.
type Branch struct {
	RW, Honours bool
	Files       map[string]*File // "/" is always there
	White       map[string]bool
	Opaque      map[string]bool
}

// NewBranch is a branch with nothing in it.
func NewBranch(rw, honours bool) *Branch {
	return &Branch{RW: rw, Honours: honours, White: map[string]bool{}, Opaque: map[string]bool{},
		Files: map[string]*File{"/": {Kind: syscall.S_IFDIR, Mode: 0o755}}}
}

// Union is a union of branches, topmost first.
type Union struct {
	Branches []*Branch
	copies   map[*File]*File // of files with several names, by what they were
	at       map[*File]int   // where copies are
}

// New is a union of branches.
func New(branches ...*Branch) *Union {
	return &Union{Branches: branches, copies: map[*File]*File{}, at: map[*File]int{}}
}

// Insert puts a branch at an index.
func (u *Union) Insert(i int, b *Branch) {
	u.Branches = slices.Insert(u.Branches, i, b)
	for f, at := range u.at {
		if at >= i {
			u.at[f]++
		}
	}
}

// Delete takes a branch away, and the copies that are in it.
func (u *Union) Delete(i int) {
	u.Branches = slices.Delete(u.Branches, i, i+1)
	for f, at := range u.at {
		switch {
		case at == i:
			delete(u.at, f)
			maps.DeleteFunc(u.copies, func(_, c *File) bool { return c == f })
		case at > i:
			u.at[f]--
		}
	}
}

// seen is what a path stands for.
type seen struct {
	file  *File // nil: nothing
	top   int   // branch that has the name
	dirs  []int // of a directory: branches that contribute
	white int   // branch whose whiteout ended the search, or -1
}

func (s seen) dir() bool { return s.file != nil && s.file.Kind == syscall.S_IFDIR }

// look resolves a path.
func (u *Union) look(p string) (seen, error) {
	if p == "/" {
		s := seen{file: u.Branches[0].Files["/"], white: -1}
		for i := range u.Branches {
			s.dirs = append(s.dirs, i)
		}
		return s, nil
	}
	parent, err := u.look(path.Dir(p))
	if err != nil {
		return seen{}, err
	}
	if parent.file == nil {
		return seen{}, syscall.ENOENT
	}
	if !parent.dir() {
		return seen{}, syscall.ENOTDIR
	}
	return u.lookIn(parent, p), nil
}

func (u *Union) lookIn(parent seen, p string) seen {
	s := seen{white: -1}
	for _, i := range parent.dirs {
		b := u.Branches[i]
		f := b.Files[p]
		if f == nil {
			if b.Honours && b.White[p] {
				if s.file == nil {
					s.white = i
				}
				return s
			}
			continue
		}
		isDir := f.Kind == syscall.S_IFDIR
		if s.file == nil {
			s.file, s.top = f, i
		} else if !isDir {
			return s
		}
		if !isDir {
			return s
		}
		s.dirs = append(s.dirs, i)
		if b.Honours && (b.Opaque[p] || b.White[p]) {
			return s
		}
	}
	return s
}

// now is what a file is after it was copied up by another name.
func (u *Union) now(f *File) *File {
	for u.copies[f] != nil {
		f = u.copies[f]
	}
	return f
}

// where is the branch of a file's data.
func (u *Union) where(s seen) int {
	if f := u.now(s.file); f != s.file {
		return u.at[f]
	}
	return s.top
}

// View returns everything that is seen, by path. Links keep their identity.
func (u *Union) View() map[string]*File {
	view := map[string]*File{}
	u.walk("/", view)
	return view
}

func (u *Union) walk(p string, view map[string]*File) {
	s, err := u.look(p)
	if err != nil || s.file == nil {
		return
	}
	view[p] = u.now(s.file)
	for _, name := range u.names(s, p) {
		u.walk(path.Join(p, name), view)
	}
}

// names lists what is seen in a directory.
func (u *Union) names(s seen, p string) []string {
	found := map[string]bool{}
	for _, i := range s.dirs {
		for q := range u.Branches[i].Files {
			if q != "/" && path.Dir(q) == p && u.lookIn(s, q).file != nil {
				found[path.Base(q)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// below tells whether a path would be seen without the branches down to one.
func (u *Union) below(parent seen, top int, p string) bool {
	for _, i := range parent.dirs {
		if i <= top {
			continue
		}
		b := u.Branches[i]
		if b.Files[p] != nil {
			return true
		}
		if b.Honours && b.White[p] {
			return false
		}
	}
	return false
}

// writable lists writable branches down to one.
func (u *Union) writable(limit int) (list []int) {
	for i, b := range u.Branches {
		if b.RW && i <= limit {
			list = append(list, i)
		}
	}
	return list
}

// choose takes the topmost of the branches that has the directory, or else the
// lowest down to limit.
func (u *Union) choose(parent seen, list []int, limit int) (int, error) {
	for _, i := range list {
		if slices.Contains(parent.dirs, i) {
			return i, nil
		}
	}
	return nearest(list, limit)
}

func nearest(list []int, limit int) (int, error) {
	for _, i := range slices.Backward(list) {
		if i <= limit {
			return i, nil
		}
	}
	return 0, syscall.EROFS
}

func (u *Union) forNew(parent, s seen) (int, error) {
	limit := len(u.Branches)
	if s.white >= 0 {
		limit = s.white
	}
	return u.choose(parent, u.writable(limit), parent.dirs[0])
}

func (u *Union) forCopy(parent seen, below int) (int, error) {
	return u.choose(parent, u.writable(below-1), below-1)
}

// ensure makes directory p exist in a branch.
func (u *Union) ensure(p string, i int) {
	b := u.Branches[i]
	if b.Files[p] != nil {
		return
	}
	u.ensure(path.Dir(p), i)
	s, _ := u.look(p)
	b.Files[p] = &File{Kind: syscall.S_IFDIR, Mode: s.file.Mode}
}

// copyUp brings the file of a path to a branch, or to the one that the policy
// chooses (to < 0), and returns what can be changed.
func (u *Union) copyUp(p string, s seen, to int) (*File, error) {
	parent, _ := u.look(path.Dir(p))
	at := u.where(s)
	if to < 0 {
		if u.Branches[at].RW {
			return u.now(s.file), nil
		}
		if p == "/" {
			return nil, syscall.EROFS
		}
		var err error
		if to, err = u.forCopy(parent, at); err != nil {
			return nil, err
		}
	}
	if s.dir() {
		u.ensure(p, to)
		return u.Branches[to].Files[p], nil
	}
	if at <= to {
		return u.now(s.file), nil
	}
	u.ensure(path.Dir(p), to)
	old := u.now(s.file)
	f := &File{old.Kind, old.Mode, old.Data}
	u.Branches[to].Files[p] = f
	if u.count(old) > 1 {
		u.copies[old], u.at[f] = f, to
	}
	return f, nil
}

// count is how many names a file has in its branch, seen or not, and with the
// one by which others are led to it.
func (u *Union) count(f *File) int {
	n := 0
	if _, ok := u.at[f]; ok {
		n++
	}
	for _, b := range u.Branches {
		for _, o := range b.Files {
			if o == f {
				n++
			}
		}
	}
	return n
}

// target resolves the directory and the path of something new.
func (u *Union) target(p string) (parent, s seen, err error) {
	if p == "/" {
		return seen{}, seen{}, syscall.EEXIST
	}
	if s, err = u.look(p); err != nil {
		return seen{}, seen{}, err
	}
	parent, err = u.look(path.Dir(p))
	return parent, s, err
}

// Make makes something new.
func (u *Union) Make(p string, f File) error {
	parent, s, err := u.target(p)
	if err != nil {
		return err
	}
	if s.file != nil {
		return syscall.EEXIST
	}
	i, err := u.forNew(parent, s)
	if err != nil {
		return err
	}
	u.put(parent, s, p, i, &f)
	return nil
}

// put makes a name in a branch stand for a file.
func (u *Union) put(parent, s seen, p string, i int, f *File) {
	u.ensure(path.Dir(p), i)
	b := u.Branches[i]
	b.Files[p] = f
	if s.white == i {
		if f.Kind == syscall.S_IFDIR && u.below(parent, i, p) {
			b.Opaque[p] = true
		}
		delete(b.White, p)
	}
}

// existing resolves a path that must be there.
func (u *Union) existing(p string) (seen, error) {
	s, err := u.look(p)
	if err == nil && s.file == nil {
		err = syscall.ENOENT
	}
	return s, err
}

// Write replaces the data of a file.
func (u *Union) Write(p, data string) error {
	s, err := u.existing(p)
	if err != nil {
		return err
	}
	if s.file.Kind != syscall.S_IFREG {
		return syscall.EINVAL
	}
	f, err := u.copyUp(p, s, -1)
	if err == nil {
		f.Data = data
	}
	return err
}

// Chmod changes a mode.
func (u *Union) Chmod(p string, mode uint32) error {
	s, err := u.existing(p)
	if err != nil {
		return err
	}
	if s.file.Kind == syscall.S_IFLNK {
		return syscall.EOPNOTSUPP
	}
	f, err := u.copyUp(p, s, -1)
	if err == nil {
		f.Mode = mode
	}
	return err
}

// Unlink removes a name that is no directory's.
func (u *Union) Unlink(p string) error {
	s, err := u.existing(p)
	if err != nil {
		return err
	}
	if s.dir() {
		return syscall.EISDIR
	}
	return u.takeAway(p, s)
}

// Rmdir removes a directory in which nothing is seen.
func (u *Union) Rmdir(p string) error {
	s, err := u.existing(p)
	if err != nil {
		return err
	}
	if !s.dir() {
		return syscall.ENOTDIR
	}
	parent, _ := u.look(path.Dir(p))
	if !u.Branches[s.top].RW {
		if _, err := u.forCopy(parent, s.top); err != nil {
			return err
		}
	}
	if len(u.names(s, p)) > 0 {
		return syscall.ENOTEMPTY
	}
	return u.takeAway(p, s)
}

func (u *Union) takeAway(p string, s seen) error {
	parent, _ := u.look(path.Dir(p))
	i := s.top
	if !u.Branches[i].RW {
		var err error
		if i, err = u.forCopy(parent, s.top); err != nil {
			return err
		}
		u.ensure(path.Dir(p), i)
		u.Branches[i].White[p] = true
		return nil
	}
	if u.below(parent, i, p) {
		u.Branches[i].White[p] = true
	}
	u.Branches[i].drop(p)
	return nil
}

// drop removes a path with all that is below it in the branch.
func (b *Branch) drop(p string) {
	in := func(q string) bool { return q == p || strings.HasPrefix(q, p+"/") }
	maps.DeleteFunc(b.Files, func(q string, _ *File) bool { return in(q) })
	maps.DeleteFunc(b.Opaque, func(q string, _ bool) bool { return in(q) })
	maps.DeleteFunc(b.White, func(q string, _ bool) bool { return in(q) && q != p })
}

// move gives what is at a path of a branch, and below, another path.
func (b *Branch) move(p, q string) {
	files, white, opaque := map[string]*File{}, map[string]bool{}, map[string]bool{}
	name := func(r string) (string, bool) {
		if r == p || strings.HasPrefix(r, p+"/") {
			return q + r[len(p):], true
		}
		return "", false
	}
	for r, f := range b.Files {
		if n, ok := name(r); ok {
			files[n] = f
		}
	}
	for r := range b.White {
		if n, ok := name(r); ok && r != p {
			white[n] = true
		}
	}
	for r := range b.Opaque {
		if n, ok := name(r); ok {
			opaque[n] = true
		}
	}
	b.drop(p)
	maps.Copy(b.Files, files)
	maps.Copy(b.White, white)
	maps.Copy(b.Opaque, opaque)
}

// Link gives a file a second name.
func (u *Union) Link(p, q string) error {
	s, err := u.existing(p)
	if err != nil {
		return err
	}
	_, t, err := u.target(q)
	if err != nil {
		return err
	}
	if t.file != nil {
		return syscall.EEXIST
	}
	if s.dir() {
		return syscall.EPERM
	}
	f, err := u.copyUp(p, s, -1)
	if err != nil {
		return err
	}
	parent, t, _ := u.target(q) // the copy may have made directories
	s, _ = u.look(p)
	at := u.where(s)
	if limit := u.limit(parent, t, path.Dir(q)); at > limit {
		to, err := nearest(u.writable(limit), limit)
		if err != nil {
			return err
		}
		if f, err = u.copyUp(p, s, to); err != nil {
			return err
		}
		at = to
		parent, t, _ = u.target(q)
	}
	u.put(parent, t, q, at, f)
	return nil
}

// limit is the lowest branch where something in directory d would be seen that
// stands for s now.
func (u *Union) limit(_, s seen, d string) int {
	limit := len(u.Branches)
	for ; d != "/"; d = path.Dir(d) {
		limit = min(limit, u.dirLimit(d))
	}
	if s.file != nil {
		limit = min(limit, s.top)
	}
	if s.white >= 0 {
		limit = min(limit, s.white)
	}
	return limit
}

// dirLimit is the lowest branch that may contribute to a directory if all
// contribute to those above.
func (u *Union) dirLimit(d string) int {
	parent, _ := u.look(path.Dir(d))
	seenOne := false
	for _, i := range parent.dirs {
		b := u.Branches[i]
		f := b.Files[d]
		switch {
		case f == nil && b.Honours && b.White[d]:
			return i - 1
		case f == nil:
			continue
		case f.Kind != syscall.S_IFDIR && seenOne:
			return i - 1
		}
		seenOne = true
		if last := parent.dirs[len(parent.dirs)-1]; i != last && b.Honours && (b.Opaque[d] || b.White[d]) {
			return i
		}
	}
	return len(u.Branches)
}

// Rename moves a name, to one that may not be there (noReplace), or changes two.
func (u *Union) Rename(p, q string, noReplace, exchange bool) error {
	if p == "/" || q == "/" {
		return syscall.EBUSY
	}
	parent, t, err := u.target(q)
	_, s, err2 := u.target(p)
	switch {
	case err2 != nil:
		return err2
	case err != nil:
		return err
	case s.file == nil, exchange && t.file == nil:
		return syscall.ENOENT
	case noReplace && t.file != nil:
		return syscall.EEXIST
	case p == q:
		return nil
	case strings.HasPrefix(q, p+"/"):
		return syscall.EINVAL
	case strings.HasPrefix(p, q+"/") && exchange:
		return syscall.EINVAL
	case strings.HasPrefix(p, q+"/"):
		return syscall.ENOTEMPTY
	}
	if exchange {
		return u.exchange(p, q, s, t)
	}
	if t.file != nil {
		switch {
		case s.dir() && !t.dir():
			return syscall.ENOTDIR
		case !s.dir() && t.dir():
			return syscall.EISDIR
		case !s.dir() && u.now(s.file) == u.now(t.file):
			return nil
		}
	}
	return u.rename(p, q, s, t, u.limit(parent, t, path.Dir(q)))
}

func (u *Union) rename(p, q string, s, t seen, limit int) error {
	i := s.top
	if !u.Branches[i].RW || i > limit {
		if s.dir() {
			return syscall.EXDEV
		}
		from, _ := u.look(path.Dir(p))
		var err error
		if limit >= i {
			i, err = u.forCopy(from, i)
		} else {
			i, err = nearest(u.writable(limit), limit)
		}
		if err != nil {
			return err
		}
	} else if s.dir() && len(s.dirs) > 1 {
		return syscall.EXDEV
	}
	if t.dir() && len(u.names(t, q)) > 0 {
		return syscall.ENOTEMPTY
	}
	u.ensure(path.Dir(p), i)
	u.ensure(path.Dir(q), i)
	if err := u.bring(p, s, i); err != nil {
		return err
	}
	b := u.Branches[i]
	parent, t, _ := u.target(q)
	opaque := s.dir() && u.below(parent, i, q)
	from, _ := u.look(path.Dir(p))
	if u.below(from, i, p) {
		b.White[p] = true
	}
	if t.white == i {
		delete(b.White, q)
	}
	b.drop(q)
	b.move(p, q)
	if opaque {
		b.Opaque[q] = true
	}
	return nil
}

// bring makes a file of a path be in a branch under that very path.
func (u *Union) bring(p string, s seen, i int) error {
	if s.top == i {
		return nil
	}
	if u.where(s) > i {
		_, err := u.copyUp(p, s, i)
		return err
	}
	if u.where(s) != i {
		return syscall.ESTALE
	}
	u.Branches[i].Files[p] = u.now(s.file)
	return nil
}

func (u *Union) exchange(p, q string, s, t seen) error {
	i, err := nearest(u.writable(min(s.top, t.top)), min(s.top, t.top))
	if err != nil {
		return err
	}
	for _, x := range []seen{s, t} {
		if x.dir() && (len(x.dirs) != 1 || x.top != i) {
			return syscall.EXDEV
		}
	}
	u.ensure(path.Dir(p), i)
	u.ensure(path.Dir(q), i)
	if err := u.bring(p, s, i); err != nil {
		return err
	}
	t, _ = u.look(q)
	if err := u.bring(q, t, i); err != nil {
		return err
	}
	b := u.Branches[i]
	from, _ := u.look(path.Dir(p))
	to, _ := u.look(path.Dir(q))
	sOpaque, tOpaque := s.dir() && u.below(to, i, q), t.dir() && u.below(from, i, p)
	const aside = "/.aside"
	b.move(p, aside)
	b.move(q, p)
	b.move(aside, q)
	if sOpaque {
		b.Opaque[q] = true
	}
	if tOpaque {
		b.Opaque[p] = true
	}
	return nil
}
