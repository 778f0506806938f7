package server

import (
	"context"
	"io"
	"net/http"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/volume"

	"github.com/tare-engine/tare/api"
)

// volumeBackend makes volumes and tells of them.
type volumeBackend interface {
	VolumeCreate(ctx context.Context, r volume.CreateRequest) (volume.Volume, error)
	VolumeInspect(ctx context.Context, name string) (volume.Volume, error)
	VolumeRemove(ctx context.Context, name string, force bool) error
	VolumeList(ctx context.Context, f api.Filters) (volume.ListResponse, error)
	VolumesPrune(ctx context.Context, f api.Filters) (volume.PruneReport, error)

	VolumeClone(ctx context.Context, r api.VolumeCloneRequest) (volume.Volume, error)
	VolumeRename(ctx context.Context, r api.VolumeRenameRequest) (volume.Volume, error)
	VolumeExport(ctx context.Context, name string, out io.Writer) error
	VolumeImport(ctx context.Context, name string, files io.Reader, replace bool) (volume.Volume, error)
	VolumePath(ctx context.Context, name, path string) (container.PathStat, error)
	// VolumeFiles calls told before it writes anything to what that returns.
	VolumeFiles(ctx context.Context, name, path string, told func(container.PathStat) (io.Writer, error)) error
	VolumeExtract(ctx context.Context, name, path string, in io.Reader, keepKinds bool) error
	VolumeSnapshot(ctx context.Context, r api.VolumeSnapshotRequest) (api.VolumeSnapshot, error)
	VolumeSnapshots(ctx context.Context, name string) ([]api.VolumeSnapshot, error)
	VolumeSnapshotRemove(ctx context.Context, name, snapshot string) error
	VolumeRollback(ctx context.Context, r api.VolumeSnapshotRequest) error
	VolumeUsage(ctx context.Context, names []string) ([]api.VolumeUsage, error)
	VolumeReplace(ctx context.Context, r api.VolumeReplaceRequest) error
	VolumeResize(ctx context.Context, r api.VolumeResizeRequest) error
	// VolumeUnlock does not keep the key.
	VolumeUnlock(ctx context.Context, name string, key []byte) error
	VolumeLock(ctx context.Context, name string) error
}

func (s *Server) listVolumes(w http.ResponseWriter, r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	list, err := s.backend.VolumeList(r.Context(), f)
	if err != nil {
		return err
	}
	list.Volumes, list.Warnings = listOf(list.Volumes), listOf(list.Warnings)
	return r.json(http.StatusOK, list)
}

func (s *Server) createVolume(_ http.ResponseWriter, r *request) error {
	var want volume.CreateRequest
	if err := r.body(&want); err != nil {
		return err
	}
	made, err := s.backend.VolumeCreate(r.Context(), want)
	if err != nil {
		return err
	}
	return r.json(http.StatusCreated, made)
}

func (s *Server) inspectVolume(_ http.ResponseWriter, r *request) error {
	v, err := s.backend.VolumeInspect(r.Context(), r.name)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, v)
}

func (s *Server) removeVolume(_ http.ResponseWriter, r *request) error {
	if err := s.backend.VolumeRemove(r.Context(), r.name, r.flag("force")); err != nil {
		return err
	}
	return r.noContent()
}

func (s *Server) pruneVolumes(w http.ResponseWriter, r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	// Until 1.41 all unused volumes went, named ones too.
	if r.version.Before(42) {
		f = f.With("all", "true")
	}
	report, err := s.backend.VolumesPrune(r.Context(), f)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, report)
}
