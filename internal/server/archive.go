package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

// filesBackend is for what clients do with the files of containers.
type filesBackend interface {
	ContainerPath(ctx context.Context, ref, path string) (container.PathStat, error)
	// ContainerArchive calls told before it writes anything to what that returns.
	ContainerArchive(ctx context.Context, ref, path string, told func(container.PathStat) (io.Writer, error)) error
	ContainerExtract(ctx context.Context, ref, path string, in io.Reader, keepKinds, asUser bool) error
}

// archiveBuffer is how much of an archive goes to a client at once.
const archiveBuffer = 256 << 10

func (r *request) archivePath() (string, error) {
	p := r.text("path")
	if p == "" {
		return "", errdefs.New(errdefs.InvalidArgument, "bad parameter: pathcannot be empty") // Docker's text
	}
	return p, nil
}

func (s *Server) statArchive(_ http.ResponseWriter, r *request) error {
	return r.statPath(s.backend.ContainerPath, r.name)
}

// statPath answers what is at the path of the files of what has a name.
func (r *request) statPath(stat func(ctx context.Context, name, path string) (container.PathStat, error), name string) error {
	p, err := r.archivePath()
	if err != nil {
		return err
	}
	st, err := stat(r.Context(), name, p)
	if err != nil {
		return err
	}
	if err := r.tellPath(st); err != nil {
		return err
	}
	r.begin(http.StatusOK, "")
	return nil
}

// tellPath puts what is at a path into the answer's header.
func (r *request) tellPath(st container.PathStat) error {
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	r.w.Header().Set(api.PathStatHeader, base64.StdEncoding.EncodeToString(b))
	return nil
}

func (s *Server) getArchive(_ http.ResponseWriter, r *request) error {
	return r.sendPath(s.backend.ContainerArchive, r.name)
}

// sendPath answers an archive of what is at the path of the files of what has a name.
func (r *request) sendPath(pack func(ctx context.Context, name, path string, told func(container.PathStat) (io.Writer, error)) error, name string) error {
	p, err := r.archivePath()
	if err != nil {
		return err
	}
	out := newAhead(&archiveAnswer{r: r, contentType: "application/x-tar"})
	return out.Close(pack(r.Context(), name, p, func(st container.PathStat) (io.Writer, error) { return out, r.tellPath(st) }))
}

func (s *Server) putArchive(_ http.ResponseWriter, r *request) error {
	p, err := r.archivePath()
	if err != nil {
		return err
	}
	err = s.backend.ContainerExtract(r.Context(), r.name, p, r.Request.Body, r.flag("noOverwriteDirNonDir"), r.flag("copyUIDGID"))
	if err != nil {
		return err
	}
	r.begin(http.StatusOK, "")
	return nil
}
