package client

import (
	"context"
	"io"
	"net/http"
	"net/url"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/volume"

	"github.com/tare-engine/tare/api"
)

// VolumeClone makes a volume that is a copy of another.
func (c *Client) VolumeClone(ctx context.Context, from, to string) (volume.Volume, error) {
	return post[volume.Volume](ctx, c, api.VolumeClonePath, nil, api.VolumeCloneRequest{Source: from, Name: to})
}

// VolumeRename gives a volume another name.
func (c *Client) VolumeRename(ctx context.Context, from, to string) (volume.Volume, error) {
	return post[volume.Volume](ctx, c, api.VolumeRenamePath, nil, api.VolumeRenameRequest{Source: from, Name: to})
}

// VolumeExport returns the files of a volume as a tar stream. The caller closes it.
func (c *Client) VolumeExport(ctx context.Context, name string) (io.ReadCloser, error) {
	resp, err := c.do(ctx, call{method: http.MethodGet, path: api.VolumeArchivePath, query: url.Values{"name": {name}}})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// VolumeImport makes a volume of a tar stream, or fills an empty one; with replace what
// it has goes.
func (c *Client) VolumeImport(ctx context.Context, name string, files io.Reader, replace bool) error {
	q := url.Values{"name": {name}}
	setBool(q, "replace", replace)
	resp, err := c.do(ctx, call{method: http.MethodPut, path: api.VolumeArchivePath, query: q, body: files, header: http.Header{"Content-Type": {"application/x-tar"}}})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// VolumePath describes what is at a path of a volume's files.
func (c *Client) VolumePath(ctx context.Context, name, path string) (container.PathStat, error) {
	return c.pathOf(ctx, api.VolumeFilesPath, url.Values{"name": {name}, "path": {path}})
}

// VolumeFiles returns what is at a path of a volume's files as a tar stream, which the
// caller closes, and says what it is.
func (c *Client) VolumeFiles(ctx context.Context, name, path string) (io.ReadCloser, container.PathStat, error) {
	return c.filesOf(ctx, api.VolumeFilesPath, url.Values{"name": {name}, "path": {path}})
}

// VolumeExtract unpacks a tar stream into a directory of a volume. A directory there is
// not replaced by something else, nor the other way round.
func (c *Client) VolumeExtract(ctx context.Context, name, dir string, archive io.Reader) error {
	return c.extractTo(ctx, api.VolumeFilesPath, url.Values{"name": {name}, "path": {dir}, "noOverwriteDirNonDir": {"true"}}, archive)
}

// VolumeSnapshot copies the files of a volume; "" is a name made of the time.
func (c *Client) VolumeSnapshot(ctx context.Context, name, snapshot string) (api.VolumeSnapshot, error) {
	return post[api.VolumeSnapshot](ctx, c, api.VolumeSnapshotsPath, nil, api.VolumeSnapshotRequest{Volume: name, Snapshot: snapshot})
}

// VolumeSnapshots lists the snapshots of a volume, the oldest first.
func (c *Client) VolumeSnapshots(ctx context.Context, name string) ([]api.VolumeSnapshot, error) {
	return get[[]api.VolumeSnapshot](ctx, c, api.VolumeSnapshotsPath, url.Values{"name": {name}})
}

// VolumeSnapshotRemove removes a snapshot.
func (c *Client) VolumeSnapshotRemove(ctx context.Context, name, snapshot string) error {
	resp, err := c.do(ctx, call{method: http.MethodDelete, path: api.VolumeSnapshotsPath, query: url.Values{"name": {name}, "snapshot": {snapshot}}})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// VolumeRollback gives a volume the files of a snapshot.
func (c *Client) VolumeRollback(ctx context.Context, name, snapshot string) error {
	return c.post(ctx, api.VolumeRollbackPath, nil, api.VolumeSnapshotRequest{Volume: name, Snapshot: snapshot})
}

// VolumeUsage says what volumes take on disk; without names all.
func (c *Client) VolumeUsage(ctx context.Context, names []string) ([]api.VolumeUsage, error) {
	return get[[]api.VolumeUsage](ctx, c, api.VolumeUsagePath, url.Values{"name": names})
}
