package server

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/moby/moby/api/types"
	"github.com/moby/moby/api/types/container"
	"github.com/tare-engine/tare/internal/errdefs"
)

// statsBackend measures containers.
type statsBackend interface {
	// ContainerStats measures once: with pair twice, a second apart.
	ContainerStats(ctx context.Context, ref string, pair bool) (*container.StatsResponse, error)

	// ContainerStatsStream gives a sample to emit at once and one a second
	// until ctx ends or emit fails.
	ContainerStatsStream(ctx context.Context, ref string, emit func(*container.StatsResponse) error) error

	// StatsStream gives the samples of all running containers, once a second.
	StatsStream(ctx context.Context, emit func([]*container.StatsResponse) error) error
}

func (s *Server) containerStats(w http.ResponseWriter, r *request) error {
	stream := r.flagOr("stream", true)
	oneShot := r.flag("one-shot") && !r.version.Before(41)
	if stream && oneShot {
		return errdefs.New(errdefs.InvalidArgument, "cannot have stream=true and one-shot=true")
	}
	if !stream {
		st, err := s.backend.ContainerStats(r.Context(), r.name, !oneShot)
		if err != nil {
			return err
		}
		return r.json(http.StatusOK, st)
	}
	return s.streamJSON(r, func(ctx context.Context, emit func(any) error) error {
		return s.backend.ContainerStatsStream(ctx, r.name, func(st *container.StatsResponse) error { return emit(st) })
	})
}

// allStats is ours: the samples of all running containers in one stream, a JSON
// list a second, where Docker's clients need a connection for each container.
func (s *Server) allStats(w http.ResponseWriter, r *request) error {
	return s.streamJSON(r, func(ctx context.Context, emit func(any) error) error {
		return s.backend.StatsStream(ctx, func(round []*container.StatsResponse) error { return emit(round) })
	})
}

// streamJSON answers with one JSON document after another. The headers go out
// with the first: before it an error can still have a status.
func (s *Server) streamJSON(r *request, produce func(context.Context, func(any) error) error) error {
	ctx, cancel := s.streamContext(r)
	defer cancel()
	out := &stream{r: r, live: true}
	begun := false
	err := produce(ctx, func(doc any) error {
		if !begun {
			begun = true
			r.begin(http.StatusOK, types.MediaTypeJSON)
		}
		b, err := json.Marshal(doc)
		if err != nil {
			return err
		}
		_, err = out.Write(append(b, '\n'))
		return err
	})
	if begun && ctx.Err() != nil {
		return nil
	}
	return err
}
