package engine

import (
	"context"
	"io"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/volume"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/image"
	own "github.com/tare-engine/tare/internal/volume"
)

// VolumeClone makes a volume that is a copy of another.
func (e *Engine) VolumeClone(ctx context.Context, r api.VolumeCloneRequest) (volume.Volume, error) {
	v, err := e.volumes.Clone(ctx, r.Source, r.Name)
	if err != nil {
		return volume.Volume{}, err
	}
	return volumeShape(v), nil
}

// VolumeRename gives a volume that no container has another name.
func (e *Engine) VolumeRename(_ context.Context, r api.VolumeRenameRequest) (volume.Volume, error) {
	v, err := e.volumes.Rename(r.Source, r.Name)
	if err != nil {
		return volume.Volume{}, err
	}
	return volumeShape(v), nil
}

// VolumeExport writes the files of a volume as a tar stream.
func (e *Engine) VolumeExport(ctx context.Context, name string, out io.Writer) error {
	return e.volumes.Export(ctx, name, out)
}

// VolumeImport makes a volume of a tar stream, compressed or not, or fills an empty one; with replace what
// it has goes.
func (e *Engine) VolumeImport(ctx context.Context, name string, files io.Reader, replace bool) (volume.Volume, error) {
	plain, err := image.Decompress(ctx, files)
	if err != nil {
		return volume.Volume{}, err
	}
	defer plain.Close()
	v, err := e.volumes.Import(ctx, name, plain, replace)
	if err != nil {
		return volume.Volume{}, err
	}
	return volumeShape(v), nil
}

// VolumePath describes what is at a path of a volume's files.
func (e *Engine) VolumePath(ctx context.Context, name, path string) (container.PathStat, error) {
	return e.volumes.Stat(ctx, name, path)
}

// VolumeFiles writes what is at a path of a volume's files as a tar stream; told is called
// first, with what that is, and returns where to.
func (e *Engine) VolumeFiles(ctx context.Context, name, path string, told func(container.PathStat) (io.Writer, error)) error {
	return e.volumes.Pack(ctx, name, path, told)
}

// VolumeExtract unpacks a tar stream, which may be compressed, into a directory of a volume.
// With keepKinds a directory is not replaced by something else, nor the other way round.
func (e *Engine) VolumeExtract(ctx context.Context, name, path string, in io.Reader, keepKinds bool) error {
	plain, err := image.Decompress(ctx, in)
	if err != nil {
		return err
	}
	defer plain.Close()
	return e.volumes.Unpack(ctx, name, path, plain, keepKinds)
}

// VolumeSnapshot copies the files of a volume.
func (e *Engine) VolumeSnapshot(ctx context.Context, r api.VolumeSnapshotRequest) (api.VolumeSnapshot, error) {
	s, err := e.volumes.TakeSnapshot(ctx, r.Volume, r.Snapshot)
	return snapshotShape(r.Volume, s), err
}

func snapshotShape(name string, s own.Snapshot) api.VolumeSnapshot {
	return api.VolumeSnapshot{Volume: name, Name: s.Name, Created: s.Created}
}

// VolumeSnapshots lists the snapshots of a volume.
func (e *Engine) VolumeSnapshots(_ context.Context, name string) ([]api.VolumeSnapshot, error) {
	list, err := e.volumes.Snapshots(name)
	all := make([]api.VolumeSnapshot, len(list))
	for i, s := range list {
		all[i] = snapshotShape(name, s)
	}
	return all, err
}

// VolumeSnapshotRemove removes a snapshot.
func (e *Engine) VolumeSnapshotRemove(_ context.Context, name, snapshot string) error {
	return e.cfg.Reserve.Use(func() error { return e.volumes.RemoveSnapshot(name, snapshot) })
}

// VolumeRollback gives a volume the files of a snapshot.
func (e *Engine) VolumeRollback(ctx context.Context, r api.VolumeSnapshotRequest) error {
	return e.volumes.Rollback(ctx, r.Volume, r.Snapshot)
}

// VolumeUsage says what volumes take on disk; without names all.
func (e *Engine) VolumeUsage(ctx context.Context, names []string) ([]api.VolumeUsage, error) {
	list := e.volumes.List()
	if len(names) > 0 {
		list = nil
		for _, name := range names {
			v, err := e.volumes.Get(name)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
	}
	all := make([]api.VolumeUsage, len(list))
	for i, v := range list {
		u, err := e.usageOf(ctx, v)
		if err != nil {
			return nil, err
		}
		all[i] = u
	}
	return all, nil
}

func (e *Engine) usageOf(ctx context.Context, v *own.View) (u api.VolumeUsage, err error) {
	u = api.VolumeUsage{Name: v.Name, Driver: v.Driver, Links: len(v.Users)}
	if u.Size, u.Counted, err = e.volumes.Size(ctx, v); err != nil {
		return u, err
	}
	snapshots, err := e.volumes.Snapshots(v.Name)
	if err != nil || len(snapshots) == 0 {
		return u, err
	}
	u.Snapshots = len(snapshots)
	u.SnapshotSize, err = e.volumes.SnapshotsSize(v)
	return u, err
}
