package engine

import (
	"context"

	"github.com/distribution/reference"
	regtypes "github.com/moby/moby/api/types/registry"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/image"
)

// ImageVerify verifies blobs and layers of images, and emits each damaged thing
// and each image that is done.
func (d *Distribution) ImageVerify(ctx context.Context, r api.ImageVerifyRequest, emit func(api.ImageVerifyMessage) error) error {
	return d.verify(ctx, r, false, emit)
}

// ImageRepair is ImageVerify that replaces what is damaged.
func (d *Distribution) ImageRepair(ctx context.Context, r api.ImageVerifyRequest, emit func(api.ImageVerifyMessage) error) error {
	return d.verify(ctx, r, true, emit)
}

func (d *Distribution) verify(ctx context.Context, r api.ImageVerifyRequest, repair bool, emit func(api.ImageVerifyMessage) error) error {
	return d.images.Verify(ctx, image.VerifyOptions{
		Images: r.Images,
		Repair: repair,
		Source: func(ref reference.Named) image.Source { return d.repository(ref, authFor(r.Auths, ref)) },
		Damage: func(x image.Damage) error {
			return emit(api.ImageVerifyMessage{Damage: &api.ImageDamage{
				Image: x.Image.String(), Name: x.Name, Kind: x.Kind, Digest: x.Digest.String(), Path: x.Path, Problem: x.Problem, Repaired: x.Repaired, Unrepaired: x.Unrepaired,
			}})
		},
		Image: func(v image.Verified) error {
			return emit(api.ImageVerifyMessage{Image: &api.ImageVerified{
				ID: v.Image.String(), Names: v.Names, Blobs: v.Blobs, Layers: v.Layers, Damaged: v.Damaged, Repaired: v.Repaired,
			}})
		},
	})
}

// authFor finds the credentials for the registry of a reference: those of no
// other host.
func authFor(all map[string]regtypes.AuthConfig, ref reference.Named) *regtypes.AuthConfig {
	a, ok := all[reference.Domain(ref)]
	if !ok {
		return nil
	}
	return &a
}
