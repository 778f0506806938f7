package engine

import (
	"context"

	"github.com/tare-engine/tare/api"
)

// VolumeReplace gives a volume a device in the place of another.
func (e *Engine) VolumeReplace(ctx context.Context, r api.VolumeReplaceRequest) error {
	return e.volumes.Replace(ctx, r.Volume, r.Old, r.New)
}

// VolumeResize has a volume grow.
func (e *Engine) VolumeResize(ctx context.Context, r api.VolumeResizeRequest) error {
	return e.volumes.Resize(ctx, r.Volume, r.Size)
}

// VolumeUnlock brings the key of a volume, which the caller clears.
func (e *Engine) VolumeUnlock(ctx context.Context, name string, key []byte) error {
	return e.volumes.Unlock(ctx, name, key)
}

// VolumeLock has the kernel forget the key of a volume.
func (e *Engine) VolumeLock(_ context.Context, name string) error { return e.volumes.Lock(name) }
