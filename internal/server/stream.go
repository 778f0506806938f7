package server

import (
	"bufio"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/moby/moby/api/types"

	"github.com/tare-engine/tare/internal/linux/unixconn"
)

// stream is the body of an answer that is written over time. A live one
// reaches the client with every write; the others gather first.
type stream struct {
	r    *request
	live bool
	buf  *bufio.Writer
}

func (o *stream) Write(p []byte) (int, error) {
	if o.live {
		n, err := o.r.w.Write(p)
		if err == nil {
			err = http.NewResponseController(o.r.w).Flush()
		}
		return n, err
	}
	if o.buf == nil {
		o.buf = bufio.NewWriterSize(o.r.w, 64<<10)
	}
	return o.buf.Write(p)
}

// close sends what was gathered. An error only says that the client has left.
func (o *stream) close() error {
	if o.buf != nil {
		_ = o.buf.Flush()
	}
	return nil
}

// encode writes a document after the header went out, or with it.
func (r *request) encode(v any) error {
	if !r.begun {
		return r.json(http.StatusOK, v)
	}
	enc := json.NewEncoder(r.w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// headTime is how long the answer's header may take to leave: it fits into any
// socket's buffer.
const headTime = 10 * time.Second

// hijacker returns what the engine calls to take the connection over. The
// client is told so (101 if it asked for an upgrade, 200 as older ones expect),
// and from then on the bytes of the connection, first those that were read
// already, are the engine's, as is closing it. A document in the body, as dockerode sends
// one, has been read and is nothing.
func (r *request) hijacker(contentType func(tty bool) string) func(tty bool) (net.Conn, []byte, error) {
	return func(tty bool) (net.Conn, []byte, error) {
		if r.ContentLength > 0 {
			if _, err := r.readBody(); err != nil {
				return nil, nil, err
			}
		}
		head := r.hijackHead(contentType(tty))
		c, rw, err := http.NewResponseController(r.w).Hijack()
		if err != nil {
			return nil, nil, err
		}
		r.hijacked = true
		buffered, _ := rw.Reader.Peek(rw.Reader.Buffered())
		_ = c.SetWriteDeadline(time.Now().Add(headTime))
		if _, err := c.Write(head); err != nil {
			_ = c.Close()
			return nil, nil, err
		}
		_ = c.SetWriteDeadline(time.Time{})
		if !r.readsOn() {
			awaitRead(c)
		}
		return c, append([]byte(nil), buffered...), nil
	}
}

// readsOn reports whether the client is known to go on, after the header, with
// what its reader has buffered. docker-py, for one, reads the header through a
// buffer and then from the socket below it: what came with the header is lost.
func (r *request) readsOn() bool {
	agent := r.UserAgent()
	return strings.HasPrefix(agent, "Tare-Client/") || strings.HasPrefix(agent, "Docker-Client/")
}

// readTime is how long a client may take to read the header alone.
const readTime = time.Second

// awaitRead waits until the peer has read all that was written, where the
// kernel knows that. It only tells how much is left, so it is asked again.
func awaitRead(c net.Conn) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return
	}
	for end := time.Now().Add(readTime); time.Now().Before(end); time.Sleep(50 * time.Microsecond) {
		left := 0
		if err := raw.Control(func(fd uintptr) { left, err = unixconn.Unread(int(fd)) }); err != nil || left == 0 {
			return
		}
	}
}

func (r *request) hijackHead(contentType string) []byte {
	b := []byte("HTTP/1.1 200 OK\r\n")
	h := r.w.Header()
	if _, ok := r.Header["Upgrade"]; ok {
		b = []byte("HTTP/1.1 101 UPGRADED\r\n")
		h.Set("Connection", "Upgrade")
		h.Set("Upgrade", "tcp")
	}
	h.Set("Content-Type", contentType)
	for k, values := range h {
		for _, v := range values {
			b = append(append(append(append(b, k...), ": "...), v...), "\r\n"...)
		}
	}
	return append(b, "\r\n"...)
}

// attachType is the content type of a hijacked connection. Without an upgrade
// it was always called raw.
func (r *request) attachType(tty bool) string {
	if _, ok := r.Header["Upgrade"]; !ok {
		return types.MediaTypeRawStream
	}
	return streamType(tty, r.version)
}
