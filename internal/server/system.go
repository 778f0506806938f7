package server

import (
	"context"
	"net/http"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/system"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

// systemBackend tells of the engine as a whole.
type systemBackend interface {
	Info(ctx context.Context) (system.Info, error)
	Version(ctx context.Context) (system.VersionResponse, error)
	DiskUsage(ctx context.Context, o api.DiskUsageOptions) (system.DiskUsage, error)

	// Events calls emit for each event from since (zero: from now) until the
	// given time (zero: without end), the end of ctx, or an error of emit.
	Events(ctx context.Context, since, until time.Time, f api.Filters, emit func(events.Message) error) error
}

func (s *Server) ping(w http.ResponseWriter, r *request) error {
	h := w.Header()
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Swarm", "inactive")
	h.Set("Builder-Version", "2") // BuildKit
	if r.Method == http.MethodHead {
		h.Set("Content-Length", "0")
	}
	r.begin(http.StatusOK, "text/plain; charset=utf-8")
	if r.Method == http.MethodGet {
		_, _ = w.Write([]byte("OK"))
	}
	return nil
}

func (s *Server) getVersion(w http.ResponseWriter, r *request) error {
	v, err := s.backend.Version(r.Context())
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, v)
}

func (s *Server) getInfo(w http.ResponseWriter, r *request) error {
	info, err := s.backend.Info(r.Context())
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, infoShape(info, r.version))
}

func (s *Server) getDiskUsage(w http.ResponseWriter, r *request) error {
	o, err := diskUsageOptions(r)
	if err != nil {
		return err
	}
	o.Counted = r.counted
	u, err := s.backend.DiskUsage(r.Context(), o)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, diskUsageShape(u, r.version, r.flag("verbose")))
}

// counted tells the client of which time sizes are.
func (r *request) counted(at time.Time) {
	r.w.Header().Set(api.CountedHeader, at.UTC().Format(time.RFC3339Nano))
}

func diskUsageOptions(r *request) (o api.DiskUsageOptions, err error) {
	kinds := r.query["type"]
	if len(kinds) == 0 || r.version.Before(42) {
		o.Containers, o.Images, o.Volumes, o.BuildCache = true, true, true, true
		return o, nil
	}
	for _, kind := range kinds {
		switch system.DiskUsageObject(kind) {
		case system.ContainerObject:
			o.Containers = true
		case system.ImageObject:
			o.Images = true
		case system.VolumeObject:
			o.Volumes = true
		case system.BuildCacheObject:
			o.BuildCache = true
		default:
			return o, errdefs.New(errdefs.InvalidArgument, "unknown object type: %s", kind)
		}
	}
	return o, nil
}
