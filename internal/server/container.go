package server

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"

	"github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

// containerBackend changes containers.
type containerBackend interface {
	// ContainerCreate makes a container of an image, or of a directory of this
	// machine (o.Rootfs).
	ContainerCreate(ctx context.Context, o api.CreateOptions, req container.CreateRequest) (container.CreateResponse, error)
	ContainerStart(ctx context.Context, ref string) error
	ContainerStop(ctx context.Context, ref string, o api.StopOptions) error
	ContainerRestart(ctx context.Context, ref string, o api.StopOptions) error
	ContainerKill(ctx context.Context, ref, signal string) error
	ContainerPause(ctx context.Context, ref string) error
	ContainerUnpause(ctx context.Context, ref string) error
	ContainerRename(ctx context.Context, ref, name string) error
	ContainerResize(ctx context.Context, ref string, rows, cols uint16) error
	ContainerPublish(ctx context.Context, c api.PublishChange) error
	ContainerOptions(ctx context.Context, c api.OptionsChange) error
	ContainerUpdate(ctx context.Context, ref string, c container.UpdateConfig) (container.UpdateResponse, error)
	ContainerRemove(ctx context.Context, ref string, o api.RemoveOptions) error
	ContainersPrune(ctx context.Context, f api.Filters) (container.PruneReport, error)
}

func (s *Server) createContainer(w http.ResponseWriter, r *request) error {
	req, warnings, err := createRequest(r)
	if err != nil {
		return err
	}
	o := api.CreateOptions{Name: r.text("name"), Rootfs: r.text("rootfs"), Replace: r.flag("replace"), ShallowBinds: r.version.Before(44)}
	if o.Platform, err = createPlatform(r); err != nil {
		return err
	}
	res, err := s.backend.ContainerCreate(r.Context(), o, req)
	if err != nil {
		return err
	}
	res.Warnings = append(listOf(res.Warnings), warnings...)
	return r.json(http.StatusCreated, res)
}

// createRequest decodes the body of a create request, and brings what older
// clients send into today's shape.
func createRequest(r *request) (req container.CreateRequest, warnings []string, err error) {
	b, err := r.bodyBytes(&req)
	if err == nil && b == nil || errors.Is(err, errNoDocument) {
		return req, nil, errdefs.New(errdefs.InvalidArgument, "invalid JSON: EOF")
	}
	if err != nil {
		return req, nil, err
	}
	warnings, err = upgradeCreate(&req, b, r.version)
	return req, warnings, err
}

// createPlatform reads the platform of a create request, "os/arch/variant".
func createPlatform(r *request) (*ocispec.Platform, error) {
	s := r.text("platform")
	if s == "" || r.version.Before(41) {
		return nil, nil
	}
	return parsePlatform(s)
}

func (s *Server) startContainer(w http.ResponseWriter, r *request) error {
	// Docker took a HostConfig here once; taking none silently would start
	// something else than what was asked for. "{}" and "null" mean nothing, and
	// there is no setting in 7 bytes.
	if r.ContentLength > 7 || r.ContentLength == -1 {
		return errdefs.New(errdefs.InvalidArgument, "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
	}
	if r.text("checkpoint") != "" || r.text("checkpoint-dir") != "" {
		return errdefs.New(errdefs.InvalidArgument, "checkpoint is only supported in experimental mode")
	}
	if err := s.backend.ContainerStart(r.Context(), r.name); err != nil {
		return err
	}
	return r.noContent()
}

func (s *Server) stopContainer(w http.ResponseWriter, r *request) error {
	o, err := stopOptions(r)
	if err != nil {
		return err
	}
	if err := s.backend.ContainerStop(r.Context(), r.name, o); err != nil {
		return err
	}
	return r.noContent()
}

func (s *Server) restartContainer(w http.ResponseWriter, r *request) error {
	o, err := stopOptions(r)
	if err != nil {
		return err
	}
	if err := s.backend.ContainerRestart(r.Context(), r.name, o); err != nil {
		return err
	}
	return r.noContent()
}

func stopOptions(r *request) (o api.StopOptions, err error) {
	if !r.version.Before(42) {
		o.Signal = r.text("signal")
	}
	o.Timeout, err = r.number("t")
	return o, err
}

func (s *Server) killContainer(w http.ResponseWriter, r *request) error {
	if err := s.backend.ContainerKill(r.Context(), r.name, r.text("signal")); err != nil {
		return err
	}
	return r.noContent()
}

func (s *Server) pauseContainer(w http.ResponseWriter, r *request) error {
	if err := s.backend.ContainerPause(r.Context(), r.name); err != nil {
		return err
	}
	return r.noContent()
}

func (s *Server) unpauseContainer(w http.ResponseWriter, r *request) error {
	if err := s.backend.ContainerUnpause(r.Context(), r.name); err != nil {
		return err
	}
	return r.noContent()
}

func (s *Server) renameContainer(w http.ResponseWriter, r *request) error {
	if err := s.backend.ContainerRename(r.Context(), r.name, r.text("name")); err != nil {
		return err
	}
	return r.noContent()
}

func (s *Server) resizeContainer(w http.ResponseWriter, r *request) error {
	rows, cols, err := windowSize(r)
	if err != nil {
		return err
	}
	if err := s.backend.ContainerResize(r.Context(), r.name, rows, cols); err != nil {
		return err
	}
	r.begin(http.StatusOK, "")
	return nil
}

// windowSize reads the size of a terminal from the query.
func windowSize(r *request) (rows, cols uint16, err error) {
	if rows, err = lines(r.text("h")); err != nil {
		return 0, 0, errdefs.New(errdefs.InvalidArgument, "invalid resize height %q: %w", r.text("h"), err)
	}
	if cols, err = lines(r.text("w")); err != nil {
		return 0, 0, errdefs.New(errdefs.InvalidArgument, "invalid resize width %q: %w", r.text("w"), err)
	}
	return rows, cols, nil
}

// lines reads a number of rows or columns.
func lines(s string) (uint16, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0, errors.Unwrap(err)
	}
	if n < 0 || n > math.MaxUint16 {
		return 0, strconv.ErrRange
	}
	return uint16(n), nil
}

func (s *Server) updateContainer(w http.ResponseWriter, r *request) error {
	var c container.UpdateConfig
	if err := r.body(&c); err != nil {
		return err
	}
	upgradeUpdate(&c.Resources, r.version)
	res, err := s.backend.ContainerUpdate(r.Context(), r.name, c)
	if err != nil {
		return err
	}
	res.Warnings = listOf(res.Warnings)
	return r.json(http.StatusOK, res)
}

func (s *Server) publishPorts(_ http.ResponseWriter, r *request) error {
	var c api.PublishChange
	if err := r.body(&c); err != nil {
		return err
	}
	if c.Container == "" {
		return errdefs.New(errdefs.InvalidArgument, "Container says whose ports are published")
	}
	if err := s.backend.ContainerPublish(r.Context(), c); err != nil {
		return err
	}
	return r.noContent()
}

func (s *Server) changeOptions(_ http.ResponseWriter, r *request) error {
	var c api.OptionsChange
	if err := r.body(&c); err != nil {
		return err
	}
	if c.Container == "" {
		return errdefs.New(errdefs.InvalidArgument, "Container says whose options change")
	}
	if err := s.backend.ContainerOptions(r.Context(), c); err != nil {
		return err
	}
	return r.noContent()
}

func (s *Server) removeContainer(w http.ResponseWriter, r *request) error {
	o := api.RemoveOptions{Force: r.flag("force"), Volumes: r.flag("v"), Link: r.flag("link"), Depend: r.flag("depend")}
	if err := s.backend.ContainerRemove(r.Context(), r.name, o); err != nil {
		return err
	}
	return r.noContent()
}

func (s *Server) pruneContainers(w http.ResponseWriter, r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	report, err := s.backend.ContainersPrune(r.Context(), f)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, report)
}
