package build

import (
	"context"
	"errors"

	"github.com/containerd/containerd/v2/core/snapshots"
	cerrdefs "github.com/containerd/errdefs"
	bksnapshot "github.com/moby/buildkit/snapshot"

	"github.com/tare-engine/tare/internal/build/snapshot"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/layer"
)

// knownLayers is a snapshotter in which the layers of images are committed snapshots
// already, under the names that BuildKit gives to layers with their chain IDs: BuildKit asks for these before it unpacks.
type knownLayers struct {
	bksnapshot.Snapshotter
	layers *layer.Service
}

// Stat tells about a snapshot, which it makes of a layer of an image if there is one.
func (k *knownLayers) Stat(ctx context.Context, key string) (snapshots.Info, error) {
	info, err := k.Snapshotter.Stat(ctx, key)
	if !cerrdefs.IsNotFound(err) {
		return info, err
	}
	chain, ok := bksnapshot.ParseLayerSnapshotID(key)
	if !ok || !k.layers.Lends() || !k.layers.Has(chain) {
		return info, err
	}
	if err := k.borrow(ctx, chain); err != nil {
		return info, err
	}
	return k.Snapshotter.Stat(ctx, key)
}

// borrow makes a chain and all below it committed snapshots.
func (k *knownLayers) borrow(ctx context.Context, chain layer.ChainID) error {
	parent, err := k.layers.Parent(chain)
	if err != nil {
		return err
	}
	below := ""
	if parent != "" {
		below = bksnapshot.LayerSnapshotID(parent)
		if _, err := k.Stat(ctx, below); err != nil {
			return err
		}
	}
	key := "lent-" + ident.New()
	if err := k.Snapshotter.Prepare(ctx, key, below, snapshots.WithLabels(map[string]string{snapshot.LabelChain: chain.String()})); err != nil {
		return err
	}
	err = k.Snapshotter.Commit(ctx, bksnapshot.LayerSnapshotID(chain), key)
	if cerrdefs.IsAlreadyExists(err) { // another build was quicker
		return nil
	}
	if err != nil {
		return errors.Join(err, k.Snapshotter.Remove(ctx, key))
	}
	return nil
}
