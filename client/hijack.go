package client

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/tare-engine/tare/api"
)

// Stream is a connection that has left HTTP behind: what is written goes to
// the process, what is read comes from it. The caller closes it.
type Stream struct {
	conn   net.Conn
	reader *bufio.Reader // holds what arrived behind the answer's header
	header http.Header
}

// Read returns bytes as they come, frames included.
func (s *Stream) Read(p []byte) (int, error) { return s.reader.Read(p) }

// Write sends bytes to the process.
func (s *Stream) Write(p []byte) (int, error) { return s.conn.Write(p) }

// CloseWrite says that no more input comes; output still does.
func (s *Stream) CloseWrite() error {
	if c, ok := s.conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// Close ends both directions.
func (s *Stream) Close() error { return s.conn.Close() }

// Output copies the process's output until it ends. With a terminal there is
// one raw stream, for stdout; else frames are told apart.
func (s *Stream) Output(stdout, stderr io.Writer, tty bool) error {
	if tty {
		_, err := io.Copy(stdout, s.reader)
		return err
	}
	return api.Demux(s.reader, stdout, stderr, nil)
}

// hijack sends a call and takes its connection over.
func (c *Client) hijack(ctx context.Context, in call) (*Stream, error) {
	var text []byte
	if in.body != nil {
		var err error
		if text, err = json.Marshal(in.body); err != nil {
			return nil, err
		}
	}
	for {
		asked := c.Version()
		s, header, err := c.upgrade(ctx, asked, in, text)
		if err == nil {
			return s, nil
		}
		if !c.downgrade(asked, header, err) {
			return nil, err
		}
	}
}

// upgrade makes one attempt at a hijacked request. Refused, it returns the
// answer's header as well.
func (c *Client) upgrade(ctx context.Context, v api.Version, in call, text []byte) (_ *Stream, _ http.Header, err error) {
	req, err := c.request(ctx, v, in, bodyOf(text))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "tcp")
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, nil, c.wrap(ctx, err)
	}
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	// Cancellation counts until the answer's header is here.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() && err == nil {
			err = context.Cause(ctx)
		}
	}()
	if err := req.Write(conn); err != nil {
		return nil, nil, c.wrap(ctx, err)
	}
	reader := bufio.NewReaderSize(conn, 32<<10)
	resp, err := http.ReadResponse(reader, req)
	if err != nil {
		return nil, nil, c.wrap(ctx, err)
	}
	if resp.StatusCode >= 400 {
		return nil, resp.Header, refusal(resp)
	}
	return &Stream{conn: conn, reader: reader, header: resp.Header}, nil, nil
}
