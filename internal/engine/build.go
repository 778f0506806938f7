package engine

import (
	"context"
	"net"
	"net/http"
)

// BuildReady opens the builder, or says why that cannot be.
func (e *Engine) BuildReady(ctx context.Context) error { return e.builds.Ready(ctx) }

// BuildGRPC serves BuildKit's API on a connection until the client leaves.
func (e *Engine) BuildGRPC(ctx context.Context, conn net.Conn) error {
	return e.builds.ServeGRPC(ctx, conn)
}

// BuildSession has builds ask the client for files, secrets and credentials.
func (e *Engine) BuildSession(ctx context.Context, conn net.Conn, header http.Header) error {
	return e.builds.ServeSession(ctx, conn, header)
}
