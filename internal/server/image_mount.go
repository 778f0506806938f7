package server

import (
	"context"
	"net/http"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

// mountBackend mounts images on the host.
type mountBackend interface {
	ImageMount(ctx context.Context, r api.ImageMountRequest) (api.ImageMount, error)
	ImageMounts(ctx context.Context) ([]api.ImageMount, error)
	// ImageUnmount with an empty name unmounts all.
	ImageUnmount(ctx context.Context, name string, force bool) ([]api.ImageMount, error)
}

func (s *Server) mountImage(_ http.ResponseWriter, r *request) error {
	var body api.ImageMountRequest
	if err := r.body(&body); err != nil {
		return err
	}
	m, err := s.backend.ImageMount(r.Context(), body)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, m)
}

func (s *Server) imageMounts(_ http.ResponseWriter, r *request) error {
	list, err := s.backend.ImageMounts(r.Context())
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, listOf(list))
}

func (s *Server) unmountImage(_ http.ResponseWriter, r *request) error {
	name := r.text("name")
	if (name == "") != r.flag("all") {
		return errdefs.New(errdefs.InvalidArgument, "either name says which image is unmounted, or all=true")
	}
	gone, err := s.backend.ImageUnmount(r.Context(), name, r.flag("force"))
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, listOf(gone))
}
