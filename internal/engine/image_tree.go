package engine

import (
	"context"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/layer"
)

// ImageLayers lists the layers of all images.
func (e *Engine) ImageLayers(ctx context.Context) ([]api.ImageLayers, error) {
	all, err := e.images.List(ctx)
	if err != nil {
		return nil, err
	}
	list := []api.ImageLayers{}
	for _, img := range all {
		i, err := e.layersOf(img)
		if errdefs.Is(err, errdefs.NotFound) { // removed meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, i)
	}
	return list, nil
}

func (e *Engine) layersOf(img *image.Image) (i api.ImageLayers, err error) {
	i = api.ImageLayers{ID: img.ID.String(), Names: img.RepoTags, Layers: []api.ImageLayer{}}
	if len(i.Names) == 0 {
		i.Names = img.RepoDigests
	}
	var chain layer.ChainID
	for _, diff := range img.Layers {
		chain = layer.Chain(chain, diff)
		l := api.ImageLayer{ChainID: chain.String(), DiffID: diff.String()}
		if l.Size, err = e.layers.Size(chain); err != nil {
			return i, err
		}
		if l.Disk, err = e.layers.Disk(chain); err != nil {
			return i, err
		}
		i.Layers = append(i.Layers, l)
	}
	return i, nil
}
