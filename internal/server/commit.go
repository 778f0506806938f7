package server

import (
	"context"
	"io"
	"net/http"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/tare-engine/tare/api"
)

// archiveBackend makes images of containers and archives, and archives of both.
type archiveBackend interface {
	ContainerCommit(ctx context.Context, o api.CommitOptions) (id string, err error)
	ContainerExport(ctx context.Context, ref string, out io.Writer) error
	// ImageImport reads in unless the source is a URL.
	ImageImport(ctx context.Context, o api.ImportOptions, in io.Reader, out func(jsonstream.Message)) error
}

func (s *Server) commitContainer(w http.ResponseWriter, r *request) error {
	o := api.CommitOptions{
		Container: r.text("container"), Repo: r.text("repo"), Tag: r.text("tag"), Comment: r.text("comment"), Author: r.text("author"),
		Changes: r.query["changes"], Pause: r.flagOr("pause", true),
	}
	var config container.Config
	b, err := r.bodyBytes(&config)
	if err != nil {
		return err
	}
	if len(b) > 0 && string(b) != "null" {
		o.Config = &config
		if config.Healthcheck != nil && r.version.Before(44) {
			config.Healthcheck.StartInterval = 0
		}
	}
	id, err := s.backend.ContainerCommit(r.Context(), o)
	if err != nil {
		return err
	}
	return r.json(http.StatusCreated, container.CommitResponse{ID: id})
}

func (s *Server) exportContainer(w http.ResponseWriter, r *request) error {
	out := newAhead(&archiveAnswer{r: r, contentType: "application/octet-stream"})
	return out.Close(s.backend.ContainerExport(r.Context(), r.name, out))
}

// archiveAnswer begins the answer with the first bytes: an error before them
// has a status.
type archiveAnswer struct {
	r           *request
	contentType string
}

func (a *archiveAnswer) Write(b []byte) (int, error) {
	if !a.r.begun {
		a.r.begin(http.StatusOK, a.contentType)
	}
	return a.r.w.Write(b)
}

// importImage answers with lines of progress; an error before the first of them
// has a status.
func (s *Server) importImage(w http.ResponseWriter, r *request) error {
	o := api.ImportOptions{Source: r.text("fromSrc"), Repo: r.text("repo"), Tag: r.text("tag"), Message: r.text("message"), Changes: r.query["changes"]}
	if p := r.text("platform"); p != "" && !r.version.Before(32) {
		var err error
		if o.Platform, err = parsePlatform(p); err != nil {
			return err
		}
	}
	_ = http.NewResponseController(w).EnableFullDuplex()
	return s.streamed(r, s.backend.ImageImport(r.Context(), o, r.Request.Body, r.progress()))
}
