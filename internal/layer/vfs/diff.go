package vfs

import (
	"context"
	"io"
	"os"

	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/totar"
)

// Diff compares the copy with what it was made from, as Changes does.
func (d *Driver) Diff(ctx context.Context, r layer.Root, out io.Writer, o totar.Options) error {
	now, err := os.Open(r.Upper)
	if err != nil {
		return err
	}
	defer now.Close()
	var before *os.File
	if len(r.Lower) > 0 {
		if before, err = os.Open(r.Lower[0]); err != nil {
			return err
		}
		defer before.Close()
	}
	return totar.Changes(ctx, now, before, out, o)
}

// Whole is a view of the copy.
func (d *Driver) Whole(ctx context.Context, r layer.Root) (*os.File, error) {
	return d.View(ctx, []string{r.Upper})
}
