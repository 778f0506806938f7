package inroot

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Kind is what Resolve makes at the end of a path where nothing is.
type Kind int

// Kinds. Missing parents become directories.
const (
	Nothing Kind = iota
	Dir
	File
)

// Options of Resolve.
type Options struct {
	Make  Kind
	Owner *Owner // of what is made; nil: the caller
	// NoFollow leaves a symbolic link at the very end of the path alone: the
	// target is the link.
	NoFollow bool
	// Mounted says what will be mounted at a path of the root: the tree, or nil
	// if it cannot be looked into yet. The path is in the form of Target.Path.
	Mounted func(path string) (tree *os.File, ok bool)
}

// Owner is who gets what is made, in ids of the caller's user namespace.
type Owner struct{ UID, GID int }

// Target is a resolved path.
type Target struct {
	Path string   // absolute inside the root, clean, without symbolic links (but see NoFollow)
	File *os.File // O_PATH descriptor; nil if the path ends in a tree that cannot be looked into
	Tree string   // where the tree is mounted that holds the target; "/" is the root itself
	Made bool     // the last component was missing
}

// Resolve follows path inside root, component by component if need be, makes
// what is missing, and says where it came out. Trees that are going to be
// mounted in the root later are taken into account. The caller closes File.
func Resolve(root *os.File, name string, o Options) (Target, error) {
	if err := check(name); err != nil {
		return Target{}, err
	}
	w := walk{root: root, o: o, at: "/", todo: path.Clean("/" + name)[1:]}
	t, err := w.run()
	if err != nil {
		return Target{}, &fs.PathError{Op: "resolve", Path: name, Err: err}
	}
	return t, nil
}

// walk is a resolution under way: at is resolved, todo is not.
type walk struct {
	root     *os.File
	o        Options
	at, todo string
	links    int
	steps    int
}

const (
	maxLinks = 40 // as the kernel's
	// Forty links can hold 160 KB of path, and each step looks its directory up
	// from the root: whoever owns the root must not keep us busy.
	maxSteps = 1024
)

func (w *walk) run() (Target, error) {
	if t, ok, err := w.whole(); ok || err != nil {
		return t, err
	}
	made := false
	for w.todo != "" {
		if tree, at := w.tree(w.at); tree == nil {
			return w.unseen(at)
		}
		if w.steps++; w.steps > maxSteps {
			return Target{}, unix.ENAMETOOLONG
		}
		name, rest, _ := strings.Cut(w.todo, "/")
		w.todo = rest
		var err error
		if made, err = w.step(name); err != nil {
			return Target{}, err
		}
	}
	tree, at := w.tree(w.at)
	if tree == nil {
		return w.unseen(at)
	}
	f, err := open(tree, strings.TrimPrefix(w.at, at), w.flags(), 0, ResolveInRoot|ResolveNoSymlinks)
	return Target{Path: w.at, File: f, Tree: at, Made: made}, err
}

// whole is the usual case in one call: everything is there and no link is on
// the way.
func (w *walk) whole() (Target, bool, error) {
	full := path.Join(w.at, w.todo)
	tree, at := w.tree(full)
	if tree == nil {
		w.at = at
		w.todo = strings.TrimPrefix(strings.TrimPrefix(full, at), "/")
		t, err := w.unseen(at)
		return t, true, err
	}
	f, err := open(tree, strings.TrimPrefix(full, at), w.flags(), 0, ResolveInRoot|ResolveNoSymlinks)
	if err == nil {
		return Target{Path: full, File: f, Tree: at}, true, nil
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ELOOP) {
		return Target{}, false, nil
	}
	return Target{}, false, err
}

// flags are those that open the end of the path.
func (w *walk) flags() int {
	if w.o.NoFollow {
		return unix.O_PATH | unix.O_NOFOLLOW
	}
	return unix.O_PATH
}

// unseen ends the walk in a tree that exists only later: the rest of the path
// is taken as it stands.
func (w *walk) unseen(at string) (Target, error) {
	full := path.Join(w.at, w.todo)
	if full != at && !strings.HasPrefix(full, at+"/") {
		return Target{}, unix.ELOOP
	}
	return Target{Path: full, Tree: at}, nil
}

// tree returns the tree that holds the resolved path p, and where it is.
func (w *walk) tree(p string) (*os.File, string) {
	if w.o.Mounted != nil {
		for q := p; q != "/"; q = path.Dir(q) {
			if tree, ok := w.o.Mounted(q); ok {
				return tree, q
			}
		}
	}
	return w.root, "/"
}

// step goes on by one component.
func (w *walk) step(name string) (made bool, err error) {
	switch name {
	case "", ".":
		return false, nil
	case "..":
		w.at = path.Dir(w.at)
		return false, nil
	}
	next := path.Join(w.at, name)
	if w.o.Mounted != nil {
		if _, ok := w.o.Mounted(next); ok {
			w.at = next
			return false, nil
		}
	}
	tree, at := w.tree(w.at)
	dir, err := open(tree, strings.TrimPrefix(w.at, at), unix.O_PATH|unix.O_DIRECTORY, 0, ResolveInRoot|ResolveNoSymlinks)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	f, made, err := w.child(dir, name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return false, err
	}
	if st.Mode()&fs.ModeSymlink == 0 || w.o.NoFollow && w.todo == "" {
		w.at = next
		return made, nil
	}
	return false, w.follow(f)
}

// child opens name in dir and makes it first if it is missing.
func (w *walk) child(dir *os.File, name string) (f *os.File, made bool, err error) {
	const flags = unix.O_PATH | unix.O_NOFOLLOW
	f, err = open(dir, name, flags, 0, ResolveBeneath)
	if !isMissing(err) || w.o.Make == Nothing {
		return f, false, err
	}
	kind := w.o.Make
	if w.todo != "" {
		kind = Dir
	}
	if err := makeAt(dir, name, kind, w.o.Owner); err != nil {
		return nil, false, err
	}
	f, err = open(dir, name, flags, 0, ResolveBeneath)
	return f, true, err
}

// follow puts the target of the link f before what is still to do.
func (w *walk) follow(f *os.File) error {
	if w.links++; w.links > maxLinks {
		return unix.ELOOP
	}
	to, err := readlinkAt(f)
	if err != nil {
		return err
	}
	if strings.HasPrefix(to, "/") {
		w.at = "/"
	}
	w.todo = strings.Trim(to+"/"+w.todo, "/")
	return nil
}
