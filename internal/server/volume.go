package server

import (
	"context"
	"net/http"

	"github.com/moby/moby/api/types/volume"
	"github.com/tare-engine/tare/api"
)

// volumeBackend tells of volumes.
type volumeBackend interface {
	VolumeList(ctx context.Context, f api.Filters) (volume.ListResponse, error)
	VolumesPrune(ctx context.Context, f api.Filters) (volume.PruneReport, error)
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
