package server

import (
	"context"
	"net"
	"net/http"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

// Hijack takes a client's connection over: the bytes it returns were read from
// it already. After that the caller owns the connection and closes it.
type Hijack = func(tty bool) (c net.Conn, buffered []byte, err error)

// attachBackend connects clients with containers.
type attachBackend interface {
	// ContainerAttach calls hijack once it knows that the client can have what
	// it asks for, and returns when the client or the container has left or
	// the connection is in other hands.
	ContainerAttach(ctx context.Context, ref string, o api.AttachOptions, hijack Hijack) error
}

func (s *Server) attachContainer(w http.ResponseWriter, r *request) error {
	o := api.AttachOptions{
		Stdin: r.flag("stdin"), Stdout: r.flag("stdout"), Stderr: r.flag("stderr"),
		Stream: r.flag("stream"), Logs: r.flag("logs"), DetachKeys: r.text("detachKeys"),
	}
	if _, err := api.ParseDetachKeys(o.DetachKeys); err != nil {
		return errdefs.New(errdefs.InvalidArgument, "Invalid detach keys %s provided", o.DetachKeys)
	}
	return s.backend.ContainerAttach(r.Context(), r.name, o, r.hijacker(r.attachType))
}
