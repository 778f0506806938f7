package engine

import (
	"context"

	"github.com/tare-engine/tare/api"
	own "github.com/tare-engine/tare/internal/image"
)

// ImageMount mounts an image on the host.
func (e *Engine) ImageMount(ctx context.Context, r api.ImageMountRequest) (api.ImageMount, error) {
	m, err := e.mounts.Add(ctx, r.Image, r.Target)
	if err != nil {
		return api.ImageMount{}, err
	}
	e.images.Touch(m.Image)
	return mountShape(m), nil
}

// ImageMounts lists where images are mounted.
func (e *Engine) ImageMounts(ctx context.Context) ([]api.ImageMount, error) {
	list, err := e.mounts.List(ctx)
	return mountShapes(list), err
}

// ImageUnmount unmounts an image, by name from everywhere, or what is at a path;
// "" means all.
func (e *Engine) ImageUnmount(ctx context.Context, name string, force bool) ([]api.ImageMount, error) {
	gone, err := e.mounts.Remove(ctx, name, force)
	return mountShapes(gone), err
}

func mountShape(m own.Mounted) api.ImageMount {
	return api.ImageMount{ID: m.Image.String(), Name: m.Name, Path: m.Path}
}

func mountShapes(list []own.Mounted) []api.ImageMount {
	all := make([]api.ImageMount, len(list))
	for i, m := range list {
		all[i] = mountShape(m)
	}
	return all
}
