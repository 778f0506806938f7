package server

import (
	"context"
	"net/http"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

// branchBackend changes what the roots of running containers consist of.
type branchBackend interface {
	ContainerLayers(ctx context.Context, ref string) ([]api.ContainerBranch, error)
	AddContainerLayer(ctx context.Context, c api.BranchChange) error
	ModifyContainerLayer(ctx context.Context, c api.BranchChange) error
	// RemoveContainerLayer takes away an image's layers or a directory.
	RemoveContainerLayer(ctx context.Context, ref, image, dir string) error
}

func (s *Server) containerLayers(_ http.ResponseWriter, r *request) error {
	ref, err := layersOf(r.text("container"))
	if err != nil {
		return err
	}
	list, err := s.backend.ContainerLayers(r.Context(), ref)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, listOf(list))
}

func (s *Server) addContainerLayer(_ http.ResponseWriter, r *request) error {
	return changeLayers(r, s.backend.AddContainerLayer)
}

func (s *Server) modifyContainerLayer(_ http.ResponseWriter, r *request) error {
	return changeLayers(r, s.backend.ModifyContainerLayer)
}

func changeLayers(r *request, do func(context.Context, api.BranchChange) error) error {
	var c api.BranchChange
	if err := r.body(&c); err != nil {
		return err
	}
	if _, err := layersOf(c.Container); err != nil {
		return err
	}
	if err := do(r.Context(), c); err != nil {
		return err
	}
	return r.noContent()
}

func (s *Server) removeContainerLayer(_ http.ResponseWriter, r *request) error {
	ref, err := layersOf(r.text("container"))
	if err != nil {
		return err
	}
	if err := s.backend.RemoveContainerLayer(r.Context(), ref, r.text("image"), r.text("dir")); err != nil {
		return err
	}
	return r.noContent()
}

func layersOf(ref string) (string, error) {
	if ref == "" {
		return "", errdefs.New(errdefs.InvalidArgument, "container says whose layers are meant")
	}
	return ref, nil
}
