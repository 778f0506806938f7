package engine

import (
	"context"
	"io"

	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/api"
	own "github.com/tare-engine/tare/internal/image"
)

// ImageSave chooses images and returns what writes their archive.
func (e *Engine) ImageSave(ctx context.Context, r api.ImageSaveRequest) (func(ctx context.Context, out io.Writer) error, error) {
	list, err := e.chooseImages(ctx, r.Images, r.Platforms)
	if err != nil {
		return nil, err
	}
	known := make([]digest.Digest, len(r.Without))
	for i, d := range r.Without {
		known[i] = digest.Digest(d)
	}
	omitted, err := e.images.Omit(ctx, list, r.Since, known)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, out io.Writer) error {
		if err := e.images.Save(ctx, list, omitted, out); err != nil {
			return err
		}
		for _, i := range list {
			e.imageEvent(events.ActionSave, i.ID.String(), i.Called())
		}
		return nil
	}, nil
}

// chooseImages finds the images for an archive.
func (e *Engine) chooseImages(ctx context.Context, refs []string, platforms []ocispec.Platform) ([]*own.Saved, error) {
	for _, ref := range refs {
		_, _ = e.resolve(ctx, ref) // brings the embedded image in; Choose knows more than one name
	}
	return e.images.Choose(ctx, refs, platforms)
}

// ImageBlobs lists what an archive of images would have.
func (e *Engine) ImageBlobs(ctx context.Context, refs []string, platforms []ocispec.Platform) ([]api.ImageBlobs, error) {
	list, err := e.chooseImages(ctx, refs, platforms)
	if err != nil {
		return nil, err
	}
	all := make([]api.ImageBlobs, len(list))
	for n, i := range list {
		all[n] = api.ImageBlobs{ID: i.ID.String(), Names: i.Names(), Manifest: i.Manifest.Digest.String(), Layers: []api.LayerBlob{}}
		for _, b := range i.Layers() {
			all[n].Layers = append(all[n].Layers, api.LayerBlob{Digest: b.Digest.String(), DiffID: b.DiffID.String(), Size: b.Size})
		}
	}
	return all, nil
}

// ImageMissing tells which layers an archive for this engine must bring.
func (e *Engine) ImageMissing(ctx context.Context, r api.ImageMissingRequest) (api.ImageMissing, error) {
	list := make([]own.Blob, len(r.Layers))
	for i, l := range r.Layers {
		list[i] = own.Blob{Digest: digest.Digest(l.Digest), DiffID: digest.Digest(l.DiffID), Size: l.Size}
	}
	missing, err := e.images.Missing(ctx, list)
	if err != nil {
		return api.ImageMissing{}, err
	}
	answer := api.ImageMissing{Missing: make([]string, len(missing))}
	for i, d := range missing {
		answer.Missing[i] = d.String()
	}
	return answer, nil
}
