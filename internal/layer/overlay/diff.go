package overlay

import (
	"context"
	"io"
	"os"

	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/overlay"
	"github.com/tare-engine/tare/internal/linux/totar"
)

// Diff writes the upper directory, which holds what has changed and nothing
// else.
func (d *Driver) Diff(ctx context.Context, r layer.Root, out io.Writer, o totar.Options) error {
	upper, err := os.Open(r.Upper)
	if err != nil {
		return err
	}
	defer upper.Close()
	var below *os.File
	if len(r.Lower) > 0 {
		if below, err = os.Open(r.Lower[0]); err != nil {
			return err
		}
		defer below.Close()
	}
	return totar.Upper(ctx, upper, below, out, o)
}

// Whole puts the upper directory on top of the lower ones. It is not touched by
// a mount that reads only, and the kernel allows that another one writes to it.
func (d *Driver) Whole(_ context.Context, r layer.Root) (*os.File, error) {
	dirs := append(append([]string{r.Upper}, r.Lower...), d.empty[:]...)
	return overlay.Mount(overlay.Options{Lower: dirs, UserNS: r.UserNS, Unmapped: 1, Scratch: d.scratch})
}
