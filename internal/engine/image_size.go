package engine

import (
	"context"

	"github.com/moby/moby/api/types/image"

	own "github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/layer"
)

// layerUse is one unpacked layer and how many images stand on it.
type layerUse struct {
	size   int64
	images int
}

// layerSizes knows the bytes of a chain's topmost layer alone.
type layerSizes interface {
	Size(layer.ChainID) (int64, error)
}

// layerUses counts the layers of all images. A layer exists once on disk,
// however many images it belongs to.
func layerUses(sizes layerSizes, all []*own.Image) (map[layer.ChainID]*layerUse, error) {
	uses := map[layer.ChainID]*layerUse{}
	for _, img := range all {
		for _, chain := range chains(img) {
			u := uses[chain]
			if u == nil {
				size, err := sizes.Size(chain)
				if err != nil {
					return nil, err
				}
				u = &layerUse{size: size}
				uses[chain] = u
			}
			u.images++
		}
	}
	return uses, nil
}

// chains are the IDs of an image's chain at each of its layers, base first.
func chains(img *own.Image) []layer.ChainID {
	var parent layer.ChainID
	list := make([]layer.ChainID, len(img.Layers))
	for i, diff := range img.Layers {
		parent = layer.Chain(parent, diff)
		list[i] = parent
	}
	return list
}

// sharedSizes returns for each image the size of the layers that it shares.
func sharedSizes(sizes layerSizes, all []*own.Image) (map[own.ID]int64, error) {
	uses, err := layerUses(sizes, all)
	if err != nil {
		return nil, err
	}
	shared := map[own.ID]int64{}
	for _, img := range all {
		for _, chain := range chains(img) {
			if u := uses[chain]; u.images > 1 {
				shared[img.ID] += u.size
			}
		}
	}
	return shared, nil
}

// manifests describes the manifests of an image, and of those that its names
// have for other platforms here. used are the containers of each image, by ID.
func (e *Engine) manifests(ctx context.Context, img *own.Image, used map[string][]string) ([]image.ManifestSummary, error) {
	m, err := e.manifest(img, used[img.ID.String()])
	list := []image.ManifestSummary{m}
	if err != nil {
		return nil, err
	}
	for _, other := range e.images.Fellows(ctx, img) {
		if m, err = e.manifest(other, used[other.ID.String()]); err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

// manifest describes the manifest of an image that the containers use. It is
// whole: ours are.
func (e *Engine) manifest(img *own.Image, containers []string) (m image.ManifestSummary, err error) {
	stored, err := e.images.StoredSize(img)
	if err != nil {
		return m, err
	}
	if containers == nil {
		containers = []string{}
	}
	m = image.ManifestSummary{ID: img.Manifest.Digest.String(), Descriptor: img.Manifest, Available: true, Kind: image.ManifestKindImage}
	m.Size.Content, m.Size.Total = stored, stored+img.Size
	m.ImageData = &image.ImageProperties{Platform: img.Config.Platform, Containers: containers}
	m.ImageData.Size.Unpacked = img.Size
	return m, nil
}
