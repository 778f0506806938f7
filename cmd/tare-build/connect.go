package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	bkclient "github.com/moby/buildkit/client"
)

// engine says how an engine is reached, and what its builds get.
type engine struct {
	Socket  string   // path of its socket
	Dial    []string // or a command whose standard input and output lead to it
	Proxies []string // NAME=VALUE, arguments of its builds that do not say otherwise
	Name    string   // of its context
	Show    string   // what is to be told of its builder instead of building, see show
}

// errGone says that the engine does not build for us any more.
var errGone = errors.New("the connection with the engine has ended")

// client returns a client of the engine's BuildKit, and a context that ends with its
// connection: not all that waits for the engine notices. It does not dial.
func (e *engine) client(ctx context.Context) (context.Context, *bkclient.Client, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	c, err := bkclient.New(ctx, "",
		bkclient.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			conn, err := e.upgrade(ctx, "/grpc", nil)
			if err != nil {
				return nil, err
			}
			return &watchedConn{conn, func() { cancel(errGone) }}, nil
		}),
		bkclient.WithSessionDialer(func(ctx context.Context, _ string, meta map[string][]string) (net.Conn, error) {
			return e.upgrade(ctx, "/session", meta)
		}))
	if err != nil {
		cancel(err)
	}
	return ctx, c, err
}

// watchedConn tells when there is nothing to read from it any more.
type watchedConn struct {
	net.Conn
	ended func()
}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.ended()
	}
	return n, err
}

// upgrade opens a connection that goes on with HTTP/2.
func (e *engine) upgrade(ctx context.Context, path string, header http.Header) (net.Conn, error) {
	conn, err := e.dial(ctx)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://engine"+path, nil)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	for k, v := range header {
		req.Header[http.CanonicalHeaderKey(k)] = v
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "h2c")
	if err := req.Write(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the engine does not answer: %w", err), conn.Close())
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return nil, errors.Join(fmt.Errorf("the engine cannot build: %s %s", resp.Status, strings.TrimSpace(string(text))), conn.Close())
	}
	return &readAhead{conn, r}, nil
}

func (e *engine) dial(ctx context.Context) (net.Conn, error) {
	if e.Socket != "" {
		var d net.Dialer
		return d.DialContext(ctx, "unix", e.Socket)
	}
	if len(e.Dial) == 0 {
		return nil, errors.New("no engine is named")
	}
	return dialCommand(e.Dial)
}

// readAhead is a connection of which a reader holds the beginning.
type readAhead struct {
	net.Conn
	r *bufio.Reader
}

func (c *readAhead) Read(p []byte) (int, error) { return c.r.Read(p) }

// commandConn is a connection to a program's standard input and output.
type commandConn struct {
	io.Reader
	io.WriteCloser
	cmd  *exec.Cmd
	once sync.Once
}

func dialCommand(argv []string) (net.Conn, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &commandConn{Reader: out, WriteCloser: in, cmd: cmd}, nil
}

func (c *commandConn) Close() (err error) {
	c.once.Do(func() {
		err = c.WriteCloser.Close()
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	})
	return err
}

func (c *commandConn) LocalAddr() net.Addr              { return &net.UnixAddr{Name: "stdio"} }
func (c *commandConn) RemoteAddr() net.Addr             { return c.LocalAddr() }
func (c *commandConn) SetDeadline(time.Time) error      { return nil }
func (c *commandConn) SetReadDeadline(time.Time) error  { return nil }
func (c *commandConn) SetWriteDeadline(time.Time) error { return nil }
