package server

import (
	"context"
	"net/http"

	"github.com/moby/moby/api/types"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

// runBackend is the run in one request (api.RunPath).
type runBackend interface {
	// ContainerRun creates the container, calls hijack (whose tty says nothing
	// here: the stream is always framed), attaches, starts and waits. It tells
	// the client by api.WriteRunStatus, with explain applied to what went wrong, and
	// closes the connection at the end.
	ContainerRun(ctx context.Context, req api.RunRequest, hijack Hijack, explain func(error) error) error
}

func (s *Server) runContainer(w http.ResponseWriter, r *request) error {
	var req api.RunRequest
	b, err := r.bodyBytes(&req)
	if err != nil {
		return err
	}
	if _, err := upgradeCreate(&req.Create, b, api.MaxVersion); err != nil {
		return err
	}
	if _, err := api.ParseDetachKeys(req.Attach.DetachKeys); err != nil {
		return errdefs.New(errdefs.InvalidArgument, "Invalid detach keys %s provided", req.Attach.DetachKeys)
	}
	if _, ok := r.Header["Upgrade"]; !ok {
		return errdefs.New(errdefs.InvalidArgument, "a run needs the header Upgrade: tcp")
	}
	return s.backend.ContainerRun(r.Context(), req, r.hijacker(func(bool) string { return types.MediaTypeMultiplexedStream }), s.explain)
}
