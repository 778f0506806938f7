package overlay

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"syscall"

	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/overlay"
)

// changes compares the upper directory with a view of what is below it. The
// container may be running: names are resolved inside both directories only,
// and what vanishes meanwhile is not reported.
func (d *Driver) changes(ctx context.Context, r layer.Root) ([]layer.Change, error) {
	view, err := d.view(r.Lower, r.UserNS)
	if err != nil {
		return nil, err
	}
	defer view.Close()
	lower, err := layer.OpenRoot(view)
	if err != nil {
		return nil, err
	}
	defer lower.Close()
	upper, err := os.OpenRoot(r.Upper)
	if err != nil {
		return nil, err
	}
	defer upper.Close()
	c := comparison{ctx: ctx, upper: upper, lower: lower}
	_, err = c.dir(".", true)
	return c.changes, err
}

type comparison struct {
	ctx          context.Context // of one call
	upper, lower *os.Root
	changes      []layer.Change
}

func (c *comparison) add(k layer.Kind, p string) {
	c.changes = append(c.changes, layer.Change{Kind: k, Path: path.Join("/", p)})
}

// dir compares the directory p of the upper directory; merged says that the
// lower directory of the same name shines through. It reports whether names
// came or went.
func (c *comparison) dir(p string, merged bool) (touched bool, err error) {
	if err := errors.Join(c.ctx.Err(), layer.CheckDepth(p)); err != nil {
		return false, err
	}
	entries, opaque, err := readDir(c.upper, p)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	// An opaque directory hides all that the one below has.
	gone := map[string]bool{}
	if merged && opaque && p != "." {
		below, _, err := readDir(c.lower, p)
		if err != nil {
			return false, err
		}
		for _, e := range below {
			gone[e.Name()] = true
		}
	}
	for _, e := range entries {
		delete(gone, e.Name())
		t, err := c.entry(path.Join(p, e.Name()), merged)
		if err != nil {
			return false, err
		}
		touched = touched || t
	}
	for n := range gone {
		c.add(layer.Deleted, path.Join(p, n))
		touched = true
	}
	return touched, nil
}

// entry compares one name of the upper directory and reports whether it came
// or went.
func (c *comparison) entry(p string, merged bool) (touched bool, err error) {
	up, err := c.upper.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var low fs.FileInfo
	if merged {
		low, err = c.lower.Lstat(p)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return false, err
		}
	}
	switch {
	case whiteout(up):
		if low != nil {
			c.add(layer.Deleted, p)
		}
		return low != nil, nil
	case low == nil:
		c.add(layer.Added, p)
		if !up.IsDir() {
			return true, nil
		}
		_, err = c.dir(p, false)
		return true, err
	case !up.IsDir():
		c.add(layer.Modified, p)
		return false, nil
	}
	return false, c.both(p, up, low)
}

// both compares a directory with what was at its place. A directory that was
// only copied up to hold a changed file is no change itself.
func (c *comparison) both(p string, up, low fs.FileInfo) error {
	touched, err := c.dir(p, low.IsDir())
	if err != nil {
		return err
	}
	if touched || !same(up, low) {
		c.add(layer.Modified, p)
	}
	return nil
}

func readDir(root *os.Root, p string) (entries []fs.DirEntry, opaque bool, err error) {
	f, err := root.OpenFile(p, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	entries, err = f.ReadDir(-1)
	return entries, overlay.Opaque(f), err
}

func whiteout(i fs.FileInfo) bool {
	return i.Mode()&fs.ModeCharDevice != 0 && i.Sys().(*syscall.Stat_t).Rdev == 0
}

func same(a, b fs.FileInfo) bool {
	x, y := a.Sys().(*syscall.Stat_t), b.Sys().(*syscall.Stat_t)
	return x.Mode == y.Mode && x.Uid == y.Uid && x.Gid == y.Gid && x.Mtim == y.Mtim
}
