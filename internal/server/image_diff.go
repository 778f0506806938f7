package server

import (
	"context"
	"net/http"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

// diffBackend compares images: their files, and their layers.
type diffBackend interface {
	// ImageDiff emits each path in which the second image differs, then the total.
	ImageDiff(ctx context.Context, from, to string, emit func(api.ImageDiffMessage) error) error
	ImageLayers(ctx context.Context) ([]api.ImageLayers, error)
}

func (s *Server) diffImages(_ http.ResponseWriter, r *request) error {
	from, to := r.text("from"), r.text("to")
	if from == "" || to == "" {
		return errdefs.New(errdefs.InvalidArgument, "from and to say which images are compared")
	}
	return s.streamJSON(r, func(ctx context.Context, emit func(any) error) error {
		return s.backend.ImageDiff(ctx, from, to, func(m api.ImageDiffMessage) error { return emit(m) })
	})
}

func (s *Server) imageLayers(_ http.ResponseWriter, r *request) error {
	list, err := s.backend.ImageLayers(r.Context())
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, listOf(list))
}
