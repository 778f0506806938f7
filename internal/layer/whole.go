package layer

import (
	"context"
	"io"
	"io/fs"
	"os"

	"github.com/tare-engine/tare/internal/linux/disk"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/linux/totar"
)

// WholeRoots is what drivers have in common whose directories hold whole roots
// (Form Whole or Shared): such a root is mounted as it lies, and what has changed
// is found by comparing it with the one below. A driver embeds it.
type WholeRoots struct {
	Root string // the data root
	// Opened opens the top of a directory of r's, if the driver's directories do not
	// have the files in them (Opener).
	Opened func(ctx context.Context, r Root, dir string) (*os.File, error)
}

// open opens the top of a directory of r's.
func (w WholeRoots) open(ctx context.Context, r Root, dir string) (*os.File, error) {
	if w.Opened != nil {
		return w.Opened(ctx, r, dir)
	}
	return os.Open(dir)
}

// openRoot is open for looking up paths.
func (w WholeRoots) openRoot(ctx context.Context, r Root, dir string) (*os.Root, error) {
	f, err := w.open(ctx, r, dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return OpenRoot(f)
}

// Mount binds the root.
func (w WholeRoots) Mount(_ context.Context, r Root) (*os.File, error) {
	m, err := mount.Clone(r.Upper, false)
	if err != nil || r.UserNS == nil {
		return m, err
	}
	if err := mount.SetAttr(m, mount.Change{UserNS: r.UserNS, Propagation: mount.Private}); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// MapsIDs tries it: kernels before 5.12 (btrfs: 5.15) and some file systems cannot.
func (w WholeRoots) MapsIDs(ctx context.Context, ns *os.File) error {
	m, err := w.Mount(ctx, Root{Upper: w.Root, UserNS: ns})
	if err != nil {
		return err
	}
	return m.Close()
}

// View binds the topmost layer, read-only.
func (w WholeRoots) View(_ context.Context, lower []string) (*os.File, error) {
	m, err := mount.Clone(lower[0], false)
	if err != nil {
		return nil, err
	}
	if err := mount.SetAttr(m, mount.Change{Set: mount.ReadOnly}); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// Whole is a view of the root.
func (w WholeRoots) Whole(ctx context.Context, r Root) (*os.File, error) {
	return w.View(ctx, []string{r.Upper})
}

// Diff compares the root with what it was made from, as Changes does.
func (w WholeRoots) Diff(ctx context.Context, r Root, out io.Writer, o totar.Options) error {
	now, err := w.open(ctx, r, r.Upper)
	if err != nil {
		return err
	}
	defer now.Close()
	var before *os.File
	if len(r.Lower) > 0 {
		if before, err = w.open(ctx, r, r.Lower[0]); err != nil {
			return err
		}
		defer before.Close()
	}
	return totar.Changes(ctx, now, before, out, o)
}

// Changes compares the root with what it was made from.
func (w WholeRoots) Changes(ctx context.Context, r Root) (list []Change, err error) {
	err = w.compare(ctx, r, collect(&list))
	return list, err
}

// Usage counts what is new or changed.
func (w WholeRoots) Usage(ctx context.Context, r Root) (u Usage, err error) {
	linked := links{}
	err = w.compare(ctx, r, func(k Kind, _ string, info fs.FileInfo) {
		if k == Deleted || linked.seen(info) {
			return
		}
		u.Inodes++
		if info.Mode().IsRegular() {
			u.Bytes += min(info.Size(), disk.Taken(info))
		}
	})
	return u, err
}

func (w WholeRoots) compare(ctx context.Context, r Root, found func(Kind, string, fs.FileInfo)) error {
	if len(r.Lower) == 0 {
		return nil
	}
	now, err := w.openRoot(ctx, r, r.Upper)
	if err != nil {
		return err
	}
	defer now.Close()
	before, err := w.openRoot(ctx, r, r.Lower[0])
	if err != nil {
		return err
	}
	defer before.Close()
	return compareTrees(ctx, now, before, nil, found)
}
