package server

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

// buildBackend is BuildKit inside the engine.
type buildBackend interface {
	// BuildReady opens the builder, or says why that cannot be.
	BuildReady(ctx context.Context) error
	// BuildGRPC serves BuildKit's API on a connection until the client leaves. The
	// connection is the callee's.
	BuildGRPC(ctx context.Context, conn net.Conn) error
	// BuildSession has builds ask the client for files, secrets and credentials.
	BuildSession(ctx context.Context, conn net.Conn, header http.Header) error
	BuildPrune(ctx context.Context, o api.BuildPruneOptions) (build.CachePruneReport, error)
	// ImageBuild builds from an archive and says through out how it gets on.
	ImageBuild(ctx context.Context, req api.BuildRequest, archive io.Reader, out func(jsonstream.Message)) error
	// BuildCancel ends the builds with an id that a client has chosen.
	BuildCancel(id string) error
}

func (s *Server) pruneBuildCache(w http.ResponseWriter, r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	o := api.BuildPruneOptions{All: r.flag("all"), Filters: f}
	for _, bound := range []struct {
		key string
		to  *int64
	}{{"keep-storage", &o.Reserved}, {"reserved-space", &o.Reserved}, {"max-used-space", &o.MaxUsed}, {"min-free-space", &o.MinFree}} { // the newer word counts
		v, err := r.number(bound.key)
		if err != nil {
			return errdefs.New(errdefs.InvalidArgument, "%s is in bytes and expects an integer: %w", bound.key, err)
		}
		if v != nil {
			*bound.to = int64(*v)
		}
	}
	report, err := s.backend.BuildPrune(r.Context(), o)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, report)
}

func (s *Server) buildGRPC(w http.ResponseWriter, r *request) error {
	return s.h2c(r, func(ctx context.Context, conn net.Conn) error { return s.backend.BuildGRPC(ctx, conn) })
}

func (s *Server) buildSession(w http.ResponseWriter, r *request) error {
	return s.h2c(r, func(ctx context.Context, conn net.Conn) error { return s.backend.BuildSession(ctx, conn, r.Header) })
}

// h2c hands a connection over that goes on with HTTP/2.
func (s *Server) h2c(r *request, serve func(context.Context, net.Conn) error) error {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "h2c") {
		return errdefs.New(errdefs.InvalidArgument, "%s wants an upgrade of the connection to h2c", r.URL.Path)
	}
	if err := s.backend.BuildReady(r.Context()); err != nil {
		return err
	}
	conn, err := r.upgrade("h2c")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	return serve(ctx, conn)
}

// preface is how a client begins that knows beforehand that HTTP/2 is spoken (RFC 9113,
// section 3.4), as far as it looks like a request.
const preface = "PRI * HTTP/2.0\r\n\r\n"

// isPreface reports whether a request is that. No browser sends it in clear.
func isPreface(r *http.Request) bool {
	return r.Method == "PRI" && r.ProtoMajor == 2 && r.URL.Path == "*" && r.Host == "" && len(r.Header) == 0
}

// prior serves BuildKit's API to a client that begins with HTTP/2, without /grpc. There
// is nothing else that is spoken so here.
func (s *Server) prior(r *request) error {
	if err := s.backend.BuildReady(r.Context()); err != nil {
		return err
	}
	conn, buffered, err := r.takeOver()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	return s.backend.BuildGRPC(ctx, &begunConn{Conn: conn, begun: bytes.NewReader(append([]byte(preface), buffered...))})
}

// upgrade takes the connection over and tells the client that it speaks another
// protocol from now on. What was read already comes first.
func (r *request) upgrade(protocol string) (net.Conn, error) {
	h := r.w.Header()
	h.Set("Connection", "Upgrade")
	h.Set("Upgrade", protocol)
	var head bytes.Buffer
	head.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	if err := h.Write(&head); err != nil {
		return nil, err
	}
	head.WriteString("\r\n")
	c, buffered, err := r.takeOver()
	if err != nil {
		return nil, err
	}
	_ = c.SetWriteDeadline(time.Now().Add(headTime))
	if _, err := c.Write(head.Bytes()); err != nil {
		_ = c.Close()
		return nil, err
	}
	_ = c.SetWriteDeadline(time.Time{})
	return &begunConn{Conn: c, begun: bytes.NewReader(buffered)}, nil
}

// takeOver takes the connection from the server, and what it has read of it ahead.
func (r *request) takeOver() (net.Conn, []byte, error) {
	c, rw, err := http.NewResponseController(r.w).Hijack()
	if err != nil {
		return nil, nil, err
	}
	r.hijacked = true
	_ = c.SetDeadline(time.Time{})
	buffered, _ := rw.Reader.Peek(rw.Reader.Buffered())
	return c, bytes.Clone(buffered), nil
}

// begunConn is a connection of which the beginning was read already.
type begunConn struct {
	net.Conn
	begun *bytes.Reader
}

func (c *begunConn) Read(p []byte) (int, error) {
	if n, err := c.begun.Read(p); err != io.EOF {
		return n, err
	}
	return c.Conn.Read(p)
}
