package tree_test

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/union"
	"github.com/tare-engine/tare/internal/union/model"
	"github.com/tare-engine/tare/internal/union/tree"
)

// disk is a union on disk, used by paths.
type disk struct {
	t    testing.TB
	tree *tree.Tree
	dirs []string

	added int // branches, so far
}

// newDisk writes the branches of a model to directories and opens their union.
func newDisk(t testing.TB, dir string, m *model.Union, o union.Options) *disk {
	d := &disk{t: t}
	var sources []tree.Source
	for i, b := range m.Branches {
		p := filepath.Join(dir, fmt.Sprint("b", i))
		d.dirs = append(d.dirs, p)
		must(t, b.Write(p))
		perm := union.RO
		if b.RW {
			perm = union.RW
		}
		sources = append(sources, source(t, union.Branch{Dir: p, Perm: perm, WH: b.Honours && !b.RW}))
	}
	var err error
	// Few descriptors, so that they are opened again all the time.
	if d.tree, err = tree.Open(sources, o, 16); err != nil {
		t.Fatal(err)
	}
	return d
}

// changeBranches takes a branch away, or adds one that is new, in the model too, which
// must keep at least one that can be written to.
func (d *disk) changeBranches(c model.Chance, m *model.Union) string {
	i := c.IntN(len(d.dirs))
	rw := 0
	for _, b := range m.Branches {
		if b.RW {
			rw++
		}
	}
	if len(d.dirs) > 2 && c.IntN(2) == 0 && (!m.Branches[i].RW || rw > 1) {
		gone := d.dirs[i]
		must(d.t, d.tree.Delete(gone))
		m.Delete(i)
		d.dirs = slices.Delete(d.dirs, i, i+1)
		return "without " + gone
	}
	b := model.RandomOf(c, []string{"r", "h", "w"}[c.IntN(3)], true).Branches[0]
	d.added++
	p := filepath.Join(filepath.Dir(d.dirs[0]), fmt.Sprint("added", d.added))
	must(d.t, b.Write(p))
	perm := map[bool]union.Perm{true: union.RW, false: union.RO}[b.RW]
	must(d.t, d.tree.Add(i, source(d.t, union.Branch{Dir: p, Perm: perm, WH: b.Honours && !b.RW})))
	m.Insert(i, b)
	d.dirs = slices.Insert(d.dirs, i, p)
	return fmt.Sprintf("added at %d %s", i, b)
}

func source(t testing.TB, b union.Branch) tree.Source {
	fd, err := dirat.Open(b.Dir)
	if err != nil {
		t.Fatal(err)
	}
	return tree.Source{Branch: b, Root: fd}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// node looks a path up; done gives the references back.
func (d *disk) node(p string) (n *tree.Node, done func(), err error) {
	n = d.tree.Root()
	var all []*tree.Node
	done = func() {
		for _, n := range all {
			d.tree.Forget(n, 1)
		}
	}
	for name := range strings.SplitSeq(strings.Trim(p, "/"), "/") {
		if name == "" {
			continue
		}
		next, _, err := d.tree.Lookup(n, name)
		if err != nil {
			done()
			return nil, nil, err
		}
		all, n = append(all, next), next
	}
	return n, done, nil
}

func (d *disk) in(p string, f func(*tree.Node) error) error {
	n, done, err := d.node(p)
	if err != nil {
		return err
	}
	defer done()
	return f(n)
}

// inDir is in for the directory that a path lies in, as the kernel resolves it
// before it asks for anything.
func (d *disk) inDir(p string, f func(*tree.Node) error) error {
	return d.in(path.Dir(p), func(n *tree.Node) error {
		if !n.Dir() {
			return syscall.ENOTDIR
		}
		return f(n)
	})
}

func (d *disk) Make(p string, f model.File) error {
	return d.inDir(p, func(n *tree.Node) error {
		w := tree.New{Mode: f.Kind | f.Mode, Target: f.Data}
		if f.Kind != syscall.S_IFREG {
			made, _, err := d.tree.Make(n, path.Base(p), w, nil)
			if err == nil {
				d.tree.Forget(made, 1)
			}
			return err
		}
		made, _, file, err := d.tree.Create(n, path.Base(p), w, nil)
		if err != nil {
			return err
		}
		defer d.tree.Forget(made, 1)
		defer file.Close()
		_, err = file.FD.Pwrite([]byte(f.Data), 0)
		return err
	})
}

func (d *disk) Write(p, data string) error {
	return d.in(p, func(n *tree.Node) error {
		f, err := d.tree.OpenFile(n, syscall.O_WRONLY|syscall.O_TRUNC)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.FD.Pwrite([]byte(data), 0)
		return err
	})
}

func (d *disk) Chmod(p string, mode uint32) error {
	return d.in(p, func(n *tree.Node) error {
		_, err := d.tree.SetAttr(n, tree.Change{Mode: &mode}, nil)
		return err
	})
}

func (d *disk) Unlink(p string) error {
	return d.inDir(p, func(n *tree.Node) error { return d.tree.Unlink(n, path.Base(p), nil) })
}

func (d *disk) Rmdir(p string) error {
	return d.inDir(p, func(n *tree.Node) error { return d.tree.Rmdir(n, path.Base(p), nil) })
}

func (d *disk) Link(p, q string) error {
	return d.in(p, func(n *tree.Node) error {
		return d.inDir(q, func(to *tree.Node) error {
			if old, _, err := d.tree.Lookup(to, path.Base(q)); err == nil {
				d.tree.Forget(old, 1)
				return syscall.EEXIST
			}
			_, err := d.tree.Link(n, to, path.Base(q), nil)
			if err == nil {
				d.tree.Forget(n, 1)
			}
			return err
		})
	})
}

func (d *disk) Rename(p, q string, noReplace, exchange bool) error {
	var flags uint
	if noReplace {
		flags |= dirat.NoReplace
	}
	if exchange {
		flags |= dirat.Exchange
	}
	return d.inDir(p, func(n *tree.Node) error {
		return d.inDir(q, func(to *tree.Node) error {
			return d.tree.Rename(n, path.Base(p), to, path.Base(q), flags, nil)
		})
	})
}

// View returns everything that is seen; names of one file have one File.
func (d *disk) View() map[string]*model.File {
	view, byIno := map[string]*model.File{}, map[uint64]*model.File{}
	d.walk(d.tree.Root(), "/", view, byIno)
	return view
}

func (d *disk) walk(n *tree.Node, p string, view map[string]*model.File, byIno map[uint64]*model.File) {
	st, err := d.tree.Stat(n)
	must(d.t, err)
	if f := byIno[st.Ino]; f != nil {
		if n.Dir() {
			d.t.Fatalf("%s: inode number %x is that of another directory", p, st.Ino)
		}
		view[p] = f
		return
	}
	f := &model.File{Kind: st.Mode & syscall.S_IFMT, Mode: st.Mode & 0o7777}
	byIno[st.Ino], view[p] = f, f
	switch f.Kind {
	case syscall.S_IFLNK:
		f.Data, err = d.tree.Readlink(n)
		must(d.t, err)
	case syscall.S_IFREG:
		f.Data = d.read(n)
	case syscall.S_IFDIR:
		d.walkDir(n, p, view, byIno)
	}
}

func (d *disk) walkDir(n *tree.Node, p string, view map[string]*model.File, byIno map[uint64]*model.File) {
	list, err := d.tree.ReadDir(n)
	must(d.t, err)
	seen := map[string]bool{}
	for _, e := range list {
		if seen[e.Name] {
			d.t.Fatalf("%s: %s is listed twice", p, e.Name)
		}
		seen[e.Name] = true
		kid, st, err := d.tree.Lookup(n, e.Name)
		if err != nil {
			d.t.Fatalf("%s: %s is listed: %v", p, e.Name, err)
		}
		if e.Ino != st.Ino && st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
			d.t.Fatalf("%s: %s has inode number %x in the listing, %x by itself", p, e.Name, e.Ino, st.Ino)
		}
		d.walk(kid, path.Join(p, e.Name), view, byIno)
		d.tree.Forget(kid, 1)
	}
}

func (d *disk) read(n *tree.Node) string {
	f, err := d.tree.OpenFile(n, syscall.O_RDONLY)
	must(d.t, err)
	defer f.Close()
	buf := make([]byte, 4096)
	k, err := f.FD.Pread(buf, 0)
	must(d.t, err)
	return string(buf[:k])
}
