package server

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"

	"golang.org/x/net/websocket"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

// attachWebSocket is attachContainer for web pages: what comes in frames is the container's
// input, and its output goes out in frames without saying of which stream it is.
func (s *Server) attachWebSocket(w http.ResponseWriter, r *request) error {
	if err := checkWebSocket(r.Request); err != nil {
		return err
	}
	o := api.AttachOptions{Stdin: true, Stdout: true, Stderr: true, Stream: r.flag("stream"), Logs: r.flag("logs"), DetachKeys: r.text("detachKeys")}
	if !r.version.Before(42) {
		o.Stdin, o.Stdout, o.Stderr = r.flag("stdin"), r.flag("stdout"), r.flag("stderr")
	}
	if _, err := api.ParseDetachKeys(o.DetachKeys); err != nil {
		return errdefs.New(errdefs.InvalidArgument, "Invalid detach keys %s provided", o.DetachKeys)
	}
	return s.backend.ContainerAttach(r.Context(), r.name, o, r.webSocket)
}

// checkWebSocket refuses what begins no WebSocket (RFC 6455, section 4.2.1).
func checkWebSocket(r *http.Request) error {
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-Websocket-Key"))
	switch {
	case !hasWord(r.Header["Upgrade"], "websocket") || !hasWord(r.Header["Connection"], "upgrade"):
		return errdefs.New(errdefs.InvalidArgument, "this is for WebSockets: the headers Upgrade: websocket and Connection: Upgrade are missing")
	case r.Header.Get("Sec-Websocket-Version") != "13":
		return errdefs.New(errdefs.InvalidArgument, "Sec-WebSocket-Version %q: want 13", r.Header.Get("Sec-Websocket-Version"))
	case err != nil || len(key) != 16:
		return errdefs.New(errdefs.InvalidArgument, "Sec-WebSocket-Key %q: want 16 bytes in base64", r.Header.Get("Sec-Websocket-Key"))
	}
	return nil
}

// hasWord reports whether a header's list of words has one.
func hasWord(values []string, word string) bool {
	for _, v := range values {
		for w := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(w), word) {
				return true
			}
		}
	}
	return false
}

// webSocket takes the connection over. Up to 1.27 frames were text.
func (r *request) webSocket(tty bool) (net.Conn, []byte, error) {
	made := make(chan *socketConn, 1)
	h := &hijackable{ResponseWriter: r.w, rc: http.NewResponseController(r.w)}
	if err := h.take(); err != nil {
		return nil, nil, err
	}
	r.hijacked = true
	ended := make(chan struct{})
	server := websocket.Server{Handler: func(ws *websocket.Conn) {
		if !r.version.Before(28) {
			ws.PayloadType = websocket.BinaryFrame
		}
		c := &socketConn{Conn: ws, framed: !tty, closed: make(chan struct{})}
		made <- c
		<-c.closed
	}}
	go func() {
		defer close(ended)
		server.ServeHTTP(h, r.Request)
	}()
	select {
	case c := <-made:
		return c, nil, nil
	case <-ended:
		return nil, nil, errors.New("the client left before the WebSocket was made")
	}
}

// hijackable is a connection that was taken over already, for who wants to do it.
type hijackable struct {
	http.ResponseWriter
	rc   *http.ResponseController
	conn net.Conn
	rw   *bufio.ReadWriter
}

func (h *hijackable) take() (err error) {
	h.conn, h.rw, err = h.rc.Hijack()
	return err
}

// Hijack is for the WebSocket's server.
func (h *hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.conn, h.rw, nil }

// socketConn is a WebSocket as a connection of a client that attaches. Of the engine's
// frames, which name the stream, it sends what is in them.
type socketConn struct {
	*websocket.Conn
	framed bool
	head   []byte // of a frame, as far as it has come
	left   int    // of its payload
	once   sync.Once
	closed chan struct{}
}

func (c *socketConn) Write(p []byte) (int, error) {
	if !c.framed {
		return c.Conn.Write(p)
	}
	for rest := p; len(rest) > 0; {
		if c.left == 0 {
			n := min(len(rest), api.HeaderLen-len(c.head))
			c.head, rest = append(c.head, rest[:n]...), rest[n:]
			if len(c.head) == api.HeaderLen {
				c.left, c.head = int(binary.BigEndian.Uint32(c.head[4:])), c.head[:0]
			}
			continue
		}
		n := min(len(rest), c.left)
		if _, err := c.Conn.Write(rest[:n]); err != nil {
			return 0, err
		}
		c.left, rest = c.left-n, rest[n:]
	}
	return len(p), nil
}

// Close tells the client that this is the end.
func (c *socketConn) Close() (err error) {
	c.once.Do(func() {
		err = c.Conn.Close()
		close(c.closed)
	})
	return err
}
