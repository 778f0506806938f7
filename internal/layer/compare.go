package layer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/tare-engine/tare/internal/errdefs"
)

// OpenRoot opens what a mount shows, which may be attached nowhere. The caller closes
// the result.
func OpenRoot(mounted *os.File) (*os.Root, error) {
	return os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", mounted.Fd()))
}

// CompareMounts lists in what the mounted tree now differs from before, as compareTrees
// does.
func CompareMounts(ctx context.Context, now, before *os.File, only func(dir string) (map[string]bool, error)) (list []Change, err error) {
	is, err := OpenRoot(now)
	if err != nil {
		return nil, err
	}
	defer is.Close()
	was, err := OpenRoot(before)
	if err != nil {
		return nil, err
	}
	defer was.Close()
	err = compareTrees(ctx, is, was, only, collect(&list))
	return list, err
}

// collect puts what is found into a list.
func collect(list *[]Change) func(Kind, string, fs.FileInfo) {
	return func(k Kind, p string, _ fs.FileInfo) { *list = append(*list, Change{Kind: k, Path: path.Join("/", p)}) }
}

// compareTrees calls found for each path in which the tree now differs from
// before, with what is there now (nil if it is Deleted). A file is taken as
// unchanged if its metadata is, as by rsync. The tree now may change meanwhile.
// only says which names in a directory may differ, nil: all; it is asked for a
// directory before those below. Without it all may.
func compareTrees(ctx context.Context, now, before *os.Root, only func(dir string) (map[string]bool, error), found func(kind Kind, p string, info fs.FileInfo)) error {
	if only == nil {
		only = func(string) (map[string]bool, error) { return nil, nil }
	}
	c := comparison{ctx: ctx, now: now, before: before, only: only, found: found}
	return c.dir(".", true)
}

// maxDepth is how deep trees are that are compared: those of images are not deeper.
const maxDepth = 1024

// CheckDepth refuses a relative path that has more directories than can be compared:
// whoever makes more would have the engine write their names for ever.
func CheckDepth(p string) error {
	if strings.Count(p, "/") < maxDepth {
		return nil
	}
	return errdefs.New(errdefs.InvalidArgument, "%.300q: more than %d directories deep", p, maxDepth)
}

type comparison struct {
	ctx         context.Context // of one call
	now, before *os.Root
	only        func(dir string) (map[string]bool, error)
	found       func(Kind, string, fs.FileInfo)
}

// dir compares a directory's entries; both says that there was one before.
func (c *comparison) dir(p string, both bool) error {
	if err := errors.Join(c.ctx.Err(), CheckDepth(p)); err != nil {
		return err
	}
	only, err := c.only(p)
	if err != nil {
		return err
	}
	now, err := names(c.now, p, only)
	if err != nil {
		return err
	}
	gone := map[string]bool{}
	if both {
		list, err := names(c.before, p, only)
		if err != nil {
			return err
		}
		for _, n := range list {
			gone[n] = true
		}
	}
	for _, n := range now {
		known := gone[n]
		delete(gone, n)
		if err := c.entry(path.Join(p, n), known); err != nil {
			return err
		}
	}
	for n := range gone {
		c.found(Deleted, path.Join(p, n), nil)
	}
	return nil
}

func (c *comparison) entry(p string, known bool) error {
	is, err := c.now.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a running container goes on working
	}
	if err != nil {
		return err
	}
	var was fs.FileInfo
	switch {
	case !known:
		c.found(Added, p, is)
	default:
		if was, err = c.before.Lstat(p); err != nil {
			return err
		}
		if !sameFile(is, was) {
			c.found(Modified, p, is)
		}
	}
	if !is.IsDir() {
		return nil
	}
	return c.dir(p, was != nil && was.IsDir())
}

// names lists a directory, of only those if it is not nil.
func names(root *os.Root, p string, only map[string]bool) ([]string, error) {
	f, err := root.OpenFile(p, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) { // it has gone, or is something else now
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := f.Readdirnames(-1)
	if only == nil {
		return list, err
	}
	return slices.DeleteFunc(list, func(n string) bool { return !only[n] }), err
}

func sameFile(a, b fs.FileInfo) bool {
	x, y := a.Sys().(*syscall.Stat_t), b.Sys().(*syscall.Stat_t)
	return x.Mode == y.Mode && x.Uid == y.Uid && x.Gid == y.Gid && x.Mtim == y.Mtim && x.Rdev == y.Rdev &&
		(a.IsDir() || x.Size == y.Size)
}
