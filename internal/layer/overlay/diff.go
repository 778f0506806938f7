package overlay

import (
	"context"
	"io"
	"os"

	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/totar"
)

// Diff writes the upper directory, which holds what has changed and nothing
// else. With metacopy it does not hold the data of all that has changed: that is
// read from the merged root.
func (d *Driver) Diff(ctx context.Context, r layer.Root, out io.Writer, o totar.Options) error {
	if metacopied(r) {
		merged, err := d.Whole(ctx, r)
		if err != nil {
			return err
		}
		defer merged.Close()
		o.Merged = merged
	}
	return layer.DiffUpper(ctx, r, out, o)
}

// Changes tells what the upper directory changes.
func (d *Driver) Changes(ctx context.Context, r layer.Root) (list []layer.Change, err error) {
	if !metacopied(r) {
		return d.changes(ctx, r)
	}
	err = d.both(ctx, r, func(now, before *os.File) (err error) {
		list, err = layer.CompareMounts(ctx, now, before, nil)
		return err
	})
	return list, err
}

// both calls f with the merged root and with what is below it.
func (d *Driver) both(ctx context.Context, r layer.Root, f func(now, before *os.File) error) error {
	now, err := d.Whole(ctx, r)
	if err != nil {
		return err
	}
	defer now.Close()
	before, err := d.view(r.Lower, r.UserNS)
	if err != nil {
		return err
	}
	defer before.Close()
	return f(now, before)
}
