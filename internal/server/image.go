package server

import (
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

// imageBackend keeps images.
type imageBackend interface {
	// ImageLoad reads an archive and says through out what it does. Nothing is
	// kept of what is not whole and sound.
	ImageLoad(ctx context.Context, r io.Reader, quiet bool, platforms []ocispec.Platform, out func(jsonstream.Message)) error
	ImageList(ctx context.Context, o api.ImageListOptions) ([]api.ImageSummary, error)
	ImageInspect(ctx context.Context, ref string, o api.ImageInspectOptions) (api.ImageInspect, error)
	ImageHistory(ctx context.Context, ref string, platforms []ocispec.Platform) ([]image.HistoryResponseItem, error)
	ImageAttestations(ctx context.Context, ref string, o api.ImageAttestationsOptions) ([]image.AttestationStatement, error)
	ImageTag(ctx context.Context, ref, repo, tag string) error
	ImageRemove(ctx context.Context, ref string, o api.ImageRemoveOptions) ([]image.DeleteResponse, error)
	ImagePin(ctx context.Context, ref string) error
	ImageUnpin(ctx context.Context, ref string) error
	ImagesPrune(ctx context.Context, f api.Filters) (image.PruneReport, error)
}

func (s *Server) listImages(w http.ResponseWriter, r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	// Until 1.40 a filter by reference was a parameter of its own.
	if ref := r.text("filter"); ref != "" && r.version.Before(41) {
		f = f.With("reference", ref)
	}
	if r.flag("identity") && !r.version.Before(54) && !r.flag("manifests") {
		return errdefs.New(errdefs.InvalidArgument, "conflicting options: identity requires manifests=1")
	}
	list, err := s.backend.ImageList(r.Context(), api.ImageListOptions{
		All: r.flag("all"), SharedSize: r.flag("shared-size") && !r.version.Before(42), Manifests: r.flag("manifests") && !r.version.Before(47), Filters: f,
	})
	if err != nil {
		return err
	}
	if r.version.Before(51) { // the disk usage counted them at all times
		for i := range list {
			list[i].Containers = -1
		}
	}
	return r.json(http.StatusOK, imageSummariesShape(list, r.version))
}

func (s *Server) inspectImage(w http.ResponseWriter, r *request) error {
	platforms, err := r.platforms("platform", 49)
	if err != nil {
		return err
	}
	manifests := r.flag("manifests") && !r.version.Before(48)
	if len(platforms) > 0 && manifests {
		return errdefs.New(errdefs.InvalidArgument, "conflicting options: manifests and platform options cannot both be set")
	}
	img, err := s.backend.ImageInspect(r.Context(), r.name, api.ImageInspectOptions{Manifests: manifests, Platforms: platforms})
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, imageShape(img, r.version))
}

func (s *Server) imageHistory(w http.ResponseWriter, r *request) error {
	platforms, err := r.platforms("platform", 48)
	if err != nil {
		return err
	}
	history, err := s.backend.ImageHistory(r.Context(), r.name, platforms)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, listOf(history))
}

func (s *Server) imageAttestations(_ http.ResponseWriter, r *request) error {
	if r.version.Before(55) {
		return errdefs.New(errdefs.NotFound, "page not found")
	}
	platforms, err := r.platforms("platform", 55)
	if err != nil {
		return err
	}
	if len(platforms) > 1 {
		return errdefs.New(errdefs.InvalidArgument, "only one platform value is currently supported")
	}
	o := api.ImageAttestationsOptions{Platforms: platforms, Statement: r.flag("statement")}
	for _, t := range r.query["type"] {
		if t = strings.TrimSpace(t); t != "" {
			o.Types = append(o.Types, t)
		}
	}
	list, err := s.backend.ImageAttestations(r.Context(), r.name, o)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, listOf(list))
}

func (s *Server) tagImage(w http.ResponseWriter, r *request) error {
	if err := s.backend.ImageTag(r.Context(), r.name, r.text("repo"), r.text("tag")); err != nil {
		return err
	}
	r.begin(http.StatusCreated, "")
	return nil
}

func (s *Server) pinImage(_ http.ResponseWriter, r *request) error {
	if err := s.backend.ImagePin(r.Context(), r.name); err != nil {
		return err
	}
	return r.noContent()
}

func (s *Server) unpinImage(_ http.ResponseWriter, r *request) error {
	if err := s.backend.ImageUnpin(r.Context(), r.name); err != nil {
		return err
	}
	return r.noContent()
}

func (s *Server) removeImage(w http.ResponseWriter, r *request) error {
	platforms, err := r.platforms("platforms", 50)
	if err != nil {
		return err
	}
	done, err := s.backend.ImageRemove(r.Context(), r.name, api.ImageRemoveOptions{Force: r.flag("force"), NoPrune: r.flag("noprune"), Platforms: platforms})
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, listOf(done))
}

func (s *Server) pruneImages(w http.ResponseWriter, r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	report, err := s.backend.ImagesPrune(r.Context(), f)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, report)
}

// progressLine is a message as clients of all versions read it: the old ones
// look for the error's text in "error".
type progressLine struct {
	jsonstream.Message
	ErrorText string `json:"error,omitempty"`
}

// loadImages answers 200 with lines of progress, of which the last may be an
// error: the archive is read while the answer is on its way.
func (s *Server) loadImages(w http.ResponseWriter, r *request) error {
	platforms, err := r.platforms("platform", 48)
	if err != nil {
		return err
	}
	if len(platforms) > 1 && r.version.Before(52) {
		return errdefs.New(errdefs.InvalidArgument, "multiple platform parameters are not supported in this API version; use API version 1.52 or later")
	}
	out := r.progress()
	// Go would otherwise read the rest of the archive before the first byte of
	// the answer leaves, or refuse to read on after it.
	_ = http.NewResponseController(w).EnableFullDuplex()
	err = s.backend.ImageLoad(r.Context(), r.Request.Body, r.flagOr("quiet", true), platforms, out)
	return s.endProgress(r, err)
}

// progress begins the answer with the first message and flushes each.
func (r *request) progress() func(jsonstream.Message) {
	return func(m jsonstream.Message) {
		if !r.begun {
			r.begin(http.StatusOK, "application/json")
		}
		line := progressLine{Message: m}
		if m.Error != nil {
			line.ErrorText = m.Error.Message
		}
		_ = r.encode(line) // a client that left is seen by the reader
		r.flush()
	}
}

// endProgress ends an answer of messages, of which the last may be an error.
func (s *Server) endProgress(r *request, err error) error {
	if err != nil {
		r.progress()(jsonstream.Message{Error: &jsonstream.Error{Message: s.explain(err).Error()}})
	}
	if !r.begun {
		r.begin(http.StatusOK, "application/json")
	}
	return nil
}
