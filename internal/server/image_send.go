package server

import (
	"context"
	"io"
	"net/http"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

// sendBackend makes archives of images, for engines that have a part of them too.
type sendBackend interface {
	// ImageSave returns what writes the archive: until then there is a status to
	// say errors with.
	ImageSave(ctx context.Context, r api.ImageSaveRequest) (func(ctx context.Context, out io.Writer) error, error)
	ImageBlobs(ctx context.Context, refs []string, platforms []ocispec.Platform) ([]api.ImageBlobs, error)
	ImageMissing(ctx context.Context, r api.ImageMissingRequest) (api.ImageMissing, error)
}

// saveImages is Docker's route for whole archives.
func (s *Server) saveImages(_ http.ResponseWriter, r *request) error {
	names, platforms, err := r.toSave()
	if err != nil {
		return err
	}
	return s.saved(r, api.ImageSaveRequest{Images: names, Platforms: platforms})
}

// toSave says what is to be saved, as clients of Docker ask for it.
func (r *request) toSave() (names []string, _ []ocispec.Platform, err error) {
	platforms, err := r.platforms("platform", 48)
	if err != nil {
		return nil, nil, err
	}
	if len(platforms) > 1 && r.version.Before(52) {
		return nil, nil, errdefs.New(errdefs.InvalidArgument, "multiple platform parameters are not supported in this API version; use API version 1.52 or later")
	}
	names = r.query["names"]
	if r.name != "" {
		names = []string{r.name}
	}
	if len(names) == 0 {
		return nil, nil, errNoNames
	}
	return names, platforms, nil
}

var errNoNames = errdefs.New(errdefs.InvalidArgument, "no image names specified")

// saveIncrement is our route, which leaves things out.
func (s *Server) saveIncrement(_ http.ResponseWriter, r *request) error {
	var body api.ImageSaveRequest
	if err := r.body(&body); err != nil {
		return err
	}
	if len(body.Images) == 0 {
		return errNoNames
	}
	return s.saved(r, body)
}

func (s *Server) saved(r *request, what api.ImageSaveRequest) error {
	write, err := s.backend.ImageSave(r.Context(), what)
	if err != nil {
		return err
	}
	return write(r.Context(), &archiveAnswer{r: r, contentType: "application/x-tar"})
}

func (s *Server) imageBlobs(_ http.ResponseWriter, r *request) error {
	names, platforms, err := r.toSave()
	if err != nil {
		return err
	}
	list, err := s.backend.ImageBlobs(r.Context(), names, platforms)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, listOf(list))
}

func (s *Server) missingLayers(_ http.ResponseWriter, r *request) error {
	var body api.ImageMissingRequest
	if err := r.body(&body); err != nil {
		return err
	}
	answer, err := s.backend.ImageMissing(r.Context(), body)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, answer)
}
