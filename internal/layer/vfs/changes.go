package vfs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"syscall"

	"github.com/tare-engine/tare/internal/layer"
)

// Changes compares the copy with what it was made from. A file is taken as
// unchanged if its metadata is, as by rsync.
func (d *Driver) Changes(ctx context.Context, r layer.Root) ([]layer.Change, error) {
	if len(r.Lower) == 0 {
		return nil, nil
	}
	upper, err := os.OpenRoot(r.Upper)
	if err != nil {
		return nil, err
	}
	defer upper.Close()
	lower, err := os.OpenRoot(r.Lower[0])
	if err != nil {
		return nil, err
	}
	defer lower.Close()
	c := comparison{ctx: ctx, upper: upper, lower: lower}
	err = c.dir(".", true)
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

// dir compares a directory's entries; both says that there was one before.
func (c *comparison) dir(p string, both bool) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	now, err := names(c.upper, p)
	if err != nil {
		return err
	}
	before := map[string]bool{}
	if both {
		list, err := names(c.lower, p)
		if err != nil {
			return err
		}
		for _, n := range list {
			before[n] = true
		}
	}
	for _, n := range now {
		known := before[n]
		delete(before, n)
		if err := c.entry(path.Join(p, n), known); err != nil {
			return err
		}
	}
	for n := range before {
		c.add(layer.Deleted, path.Join(p, n))
	}
	return nil
}

func (c *comparison) entry(p string, known bool) error {
	up, err := c.upper.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a running container goes on working
	}
	if err != nil {
		return err
	}
	var low fs.FileInfo
	switch {
	case !known:
		c.add(layer.Added, p)
	default:
		if low, err = c.lower.Lstat(p); err != nil {
			return err
		}
		if !same(up, low) {
			c.add(layer.Modified, p)
		}
	}
	if !up.IsDir() {
		return nil
	}
	return c.dir(p, low != nil && low.IsDir())
}

func names(root *os.Root, p string) ([]string, error) {
	f, err := root.OpenFile(p, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func same(a, b fs.FileInfo) bool {
	x, y := a.Sys().(*syscall.Stat_t), b.Sys().(*syscall.Stat_t)
	return x.Mode == y.Mode && x.Uid == y.Uid && x.Gid == y.Gid && x.Mtim == y.Mtim && x.Rdev == y.Rdev &&
		(a.IsDir() || x.Size == y.Size)
}
