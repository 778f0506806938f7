package engine

import (
	"context"
	"os"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/treecmp"
)

// ImageDiff tells in which files an image differs from another.
func (e *Engine) ImageDiff(ctx context.Context, from, to string, emit func(api.ImageDiffMessage) error) error {
	a, err := e.resolve(ctx, from)
	if err != nil {
		return err
	}
	b, err := e.resolve(ctx, to)
	if err != nil {
		return err
	}
	x, err := e.view(ctx, a)
	if err != nil {
		return err
	}
	defer x.Close()
	y, err := e.view(ctx, b)
	if err != nil {
		return err
	}
	defer y.Close()
	var total api.ImageDiffTotal
	err = treecmp.Changes(ctx, x, y, func(c treecmp.Change) error {
		count(&total, c)
		return emit(api.ImageDiffMessage{Change: &api.ImageChange{Path: "/" + c.Path, Old: diffEntry(c.Old), New: diffEntry(c.New)}})
	})
	if err != nil {
		return err
	}
	for _, img := range []*image.Image{a, b} { // a removal takes the files away while we read
		if _, err := e.images.Resolve(ctx, img.ID.String()); err != nil {
			return errdefs.New(errdefs.Conflict, "image %s was removed meanwhile", img.ID)
		}
	}
	return emit(api.ImageDiffMessage{Total: &total})
}

// view mounts an image's files, read-only and attached nowhere. The caller
// closes the result.
func (e *Engine) view(ctx context.Context, img *image.Image) (*os.File, error) {
	if img.Chain == layer.ChainID("") {
		return nil, errdefs.New(errdefs.InvalidArgument, "image %s has no layers", img.ID)
	}
	return e.layers.View(ctx, img.Chain)
}

func diffEntry(x *treecmp.Entry) *api.ImageDiffEntry {
	if x == nil {
		return nil
	}
	return &api.ImageDiffEntry{Kind: x.Kind, Size: x.Size}
}

func count(total *api.ImageDiffTotal, c treecmp.Change) {
	switch {
	case c.Old == nil:
		total.Added++
		total.AddedBytes += c.New.Size
	case c.New == nil:
		total.Deleted++
		total.DeletedBytes += c.Old.Size
	default:
		total.Changed++
		total.ChangedBytes += c.New.Size - c.Old.Size
	}
}
