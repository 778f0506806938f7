package server

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/moby/moby/api/types"
	"github.com/tare-engine/tare/api"
)

// verifyBackend looks whether images are whole.
type verifyBackend interface {
	// ImageVerify emits each damaged thing and each image that is done.
	ImageVerify(ctx context.Context, r api.ImageVerifyRequest, emit func(api.ImageVerifyMessage) error) error
	// ImageRepair is ImageVerify that replaces what is damaged.
	ImageRepair(ctx context.Context, r api.ImageVerifyRequest, emit func(api.ImageVerifyMessage) error) error
}

func (s *Server) verifyImages(_ http.ResponseWriter, r *request) error {
	return s.verification(r, s.backend.ImageVerify)
}

func (s *Server) repairImages(_ http.ResponseWriter, r *request) error {
	return s.verification(r, s.backend.ImageRepair)
}

func (s *Server) verification(r *request, run func(context.Context, api.ImageVerifyRequest, func(api.ImageVerifyMessage) error) error) error {
	var body api.ImageVerifyRequest
	if err := r.body(&body); err != nil {
		return err
	}
	ctx, cancel := s.streamContext(r)
	defer cancel()
	out := &stream{r: r, live: true}
	emit := func(m api.ImageVerifyMessage) error {
		if !r.begun {
			r.begin(http.StatusOK, types.MediaTypeJSON)
		}
		b, err := json.Marshal(m)
		if err != nil {
			return err
		}
		_, err = out.Write(append(b, '\n'))
		return err
	}
	err := run(ctx, body, emit)
	switch {
	case err != nil && !r.begun:
		return err
	case err != nil && ctx.Err() == nil:
		return emit(api.ImageVerifyMessage{Error: s.explain(err).Error()})
	case !r.begun: // no images
		r.begin(http.StatusOK, types.MediaTypeJSON)
	}
	return nil
}
