package server

import (
	"context"
	"net/http"

	"github.com/moby/moby/api/types/container"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

// execBackend runs further processes in containers.
type execBackend interface {
	ExecCreate(ctx context.Context, ref string, req container.ExecCreateRequest) (id string, err error)

	// ExecStart calls hijack unless the request says Detach; it returns then
	// when the process runs.
	ExecStart(ctx context.Context, id string, req api.ExecStartRequest, hijack Hijack) error
	ExecInspect(ctx context.Context, id string) (container.ExecInspectResponse, error)
	ExecResize(ctx context.Context, id string, rows, cols uint16) error

	// ExecList and ExecKill are ours, for processes that have not ended.
	ExecList(ctx context.Context, ref string) ([]api.ExecSummary, error)
	ExecKill(ctx context.Context, id, signal string) error
}

func (s *Server) createExec(w http.ResponseWriter, r *request) error {
	var req container.ExecCreateRequest
	if err := r.body(&req); err != nil {
		return err
	}
	if len(req.Cmd) == 0 {
		return errdefs.New(errdefs.InvalidArgument, "No exec command specified")
	}
	if _, err := api.ParseDetachKeys(req.DetachKeys); err != nil {
		return errdefs.New(errdefs.InvalidArgument, "Invalid escape keys (%s) provided", req.DetachKeys)
	}
	if r.version.Before(42) {
		req.ConsoleSize = nil
	}
	id, err := s.backend.ExecCreate(r.Context(), r.name, req)
	if err != nil {
		return err
	}
	return r.json(http.StatusCreated, container.ExecCreateResponse{ID: id})
}

func (s *Server) startExec(w http.ResponseWriter, r *request) error {
	var req api.ExecStartRequest
	if err := r.body(&req); err != nil {
		return err
	}
	if req.Detach && req.EndWithClient {
		return errdefs.New(errdefs.InvalidArgument, "EndWithClient: a detached exec has no client to end with")
	}
	if r.version.Before(42) || !req.Tty {
		req.ConsoleSize = nil
	}
	if err := s.backend.ExecStart(r.Context(), r.name, req, r.hijacker(r.attachType)); err != nil {
		return err
	}
	if !r.hijacked {
		r.begin(http.StatusOK, "")
	}
	return nil
}

func (s *Server) inspectExec(w http.ResponseWriter, r *request) error {
	e, err := s.backend.ExecInspect(r.Context(), r.name)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, e)
}

func (s *Server) resizeExec(w http.ResponseWriter, r *request) error {
	rows, cols, err := windowSize(r)
	if err != nil {
		return err
	}
	if err := s.backend.ExecResize(r.Context(), r.name, rows, cols); err != nil {
		return err
	}
	r.begin(http.StatusOK, "")
	return nil
}

func (s *Server) listExecs(w http.ResponseWriter, r *request) error {
	list, err := s.backend.ExecList(r.Context(), r.name)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, listOf(list))
}

func (s *Server) killExec(w http.ResponseWriter, r *request) error {
	if err := s.backend.ExecKill(r.Context(), r.name, r.query.Get("signal")); err != nil {
		return err
	}
	r.begin(http.StatusNoContent, "")
	return nil
}
