package build

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"

	"github.com/containerd/containerd/v2/defaults"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc"
)

// serve makes the server of BuildKit's API. Connections come from the engine's own
// socket, one by one.
func (b *builder) serve() {
	b.conns = &connections{come: make(chan net.Conn), gone: make(chan struct{})}
	b.grpc = grpc.NewServer(
		grpc.ChainUnaryInterceptor(grpcerrors.UnaryServerInterceptor, b.limiter.around), grpc.StreamInterceptor(grpcerrors.StreamServerInterceptor),
		grpc.MaxRecvMsgSize(defaults.DefaultMaxRecvMsgSize), grpc.MaxSendMsgSize(defaults.DefaultMaxSendMsgSize), traced(),
	)
	b.controller.Register(b.grpc)
	go b.grpc.Serve(b.conns) // until close
}

// ServeGRPC serves BuildKit's API on a connection, until its client leaves.
func (s *Service) ServeGRPC(ctx context.Context, conn net.Conn) error {
	b, err := s.get(ctx)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	return b.conns.put(conn)
}

// ServeSession gives a client's files and secrets to its builds, until it leaves.
func (s *Service) ServeSession(ctx context.Context, conn net.Conn, header http.Header) error {
	b, err := s.get(ctx)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	return b.sessions.HandleConn(ctx, conn, header)
}

// connections is a listener that is given its connections.
type connections struct {
	come chan net.Conn
	gone chan struct{}
	once sync.Once
}

// put gives a connection to the server and waits until it is closed.
func (l *connections) put(conn net.Conn) error {
	w := &watchedConn{Conn: conn, closed: make(chan struct{})}
	select {
	case l.come <- w:
	case <-l.gone:
		return errors.Join(errClosed, conn.Close())
	}
	<-w.closed
	return nil
}

// Accept returns the next connection.
func (l *connections) Accept() (net.Conn, error) {
	select {
	case c := <-l.come:
		return c, nil
	case <-l.gone:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (l *connections) Close() error {
	l.once.Do(func() { close(l.gone) })
	return nil
}

// Addr is nowhere.
func (l *connections) Addr() net.Addr { return &net.UnixAddr{Name: "build", Net: "unix"} }

// watchedConn tells when it is closed.
type watchedConn struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

// Close closes the connection.
func (c *watchedConn) Close() error {
	defer c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
