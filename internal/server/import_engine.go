package server

import (
	"context"
	"net/http"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/tare-engine/tare/api"
)

// importEngineBackend takes images from other engines.
type importEngineBackend interface {
	// ImageImportEngine says through out how it gets on. What goes wrong before
	// the first message is the answer.
	ImageImportEngine(ctx context.Context, r api.ImageImportEngineRequest, out func(jsonstream.Message)) error
	// ImportEngine does the same with all that Docker has.
	ImportEngine(ctx context.Context, r api.ImportEngineRequest, out func(jsonstream.Message)) error
}

func (s *Server) importEngineImages(_ http.ResponseWriter, r *request) error {
	var body api.ImageImportEngineRequest
	if err := r.body(&body); err != nil {
		return err
	}
	ctx, cancel := s.streamContext(r)
	defer cancel()
	return s.streamed(r, s.backend.ImageImportEngine(ctx, body, r.progress()))
}

func (s *Server) importEngine(_ http.ResponseWriter, r *request) error {
	var body api.ImportEngineRequest
	if err := r.body(&body); err != nil {
		return err
	}
	ctx, cancel := s.streamContext(r)
	defer cancel()
	return s.streamed(r, s.backend.ImportEngine(ctx, body, r.progress()))
}
