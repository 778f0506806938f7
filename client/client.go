// Package client talks to an Engine API server: tared, or any other engine
// that speaks Docker's API.
//
// A Client holds an address and an API version, nothing else; it dials when
// it is first used, so making one costs nothing:
//
//	c, err := client.New(client.Options{Host: "unix:///run/tare/tared.sock"})
//	list, err := c.ContainerList(ctx, api.ListOptions{All: true})
//
// There are two kinds of requests. Ordinary ones go through net/http and its
// kept-alive connections. Those that turn their connection into a stream of
// bytes (attach, exec, run) are written by hand on a connection of their own
// (hijack.go), which the caller then owns.
//
// The API version is found without a question: requests are made in the
// newest version we know, and the first answer that calls it too new says
// which one to use instead. From then on the client stays with that.
//
// An answer of 400 or above becomes an *Error with the engine's text.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tare-engine/tare/api"
)

// Options say where the engine is. The zero value of each but Host is useful.
type Options struct {
	Host      string            // unix:///path, tcp://host:port, http(s)://host:port; ssh:// with Dial
	TLS       *tls.Config       // for tcp; nil is plain text
	Version   string            // a fixed API version; "" finds it
	UserAgent string            // what the engine's log shows
	Header    map[string]string // sent with every request

	// Dial opens connections in place of our own way to Host.
	Dial func(context.Context) (net.Conn, error)
}

// Client is a way to one engine. It is safe for concurrent use.
type Client struct {
	host      string // as given, for messages
	network   string // "unix" or "tcp"
	address   string // what is dialed
	base      string // path prefix of a tcp host
	authority string // Host header
	tls       *tls.Config
	header    http.Header
	dialer    func(context.Context) (net.Conn, error) // nil: our own
	transport *http.Transport
	version   atomic.Pointer[api.Version]
	fixed     bool // the version was asked for: never changed
}

// New makes a client. It does not dial; a wrong address shows at the first
// request, a malformed one here.
func New(o Options) (*Client, error) {
	c := &Client{host: o.Host, tls: o.TLS, dialer: o.Dial, header: http.Header{}}
	if err := c.parseHost(); err != nil {
		return nil, err
	}
	for k, v := range o.Header {
		c.header.Set(k, v)
	}
	if o.UserAgent != "" {
		c.header.Set("User-Agent", o.UserAgent)
	}
	version := api.MaxVersion
	if o.Version != "" {
		if version, c.fixed = api.ParseVersion(strings.TrimPrefix(o.Version, "v")); !c.fixed {
			return nil, fmt.Errorf("invalid API version %q", o.Version)
		}
	}
	c.version.Store(&version)
	c.transport = &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		DisableCompression: true,
		MaxIdleConns:       6,
		WriteBufferSize:    transferBuffer,
		ReadBufferSize:     transferBuffer,
	}
	return c, nil
}

// transferBuffer is how much of an archive goes to the engine, or comes from it, in
// one call of the system.
const transferBuffer = 128 << 10

// Host returns the address the client was made for.
func (c *Client) Host() string { return c.host }

// Version returns the API version in use. Before the first answer it is the
// newest one we know.
func (c *Client) Version() api.Version { return *c.version.Load() }

// Close gives idle connections back.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Error is an answer of the engine that says no.
type Error struct {
	Status  int    // HTTP status code
	Message string // the engine's text

	own bool // it comes from a route of ours
}

func (e *Error) Error() string { return "Error response from daemon: " + e.Message }

// StatusOf returns the HTTP status of an engine's refusal, 0 for other errors.
func StatusOf(err error) int {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status
	}
	return 0
}

// IsNotFound reports whether the engine knows no such object.
func IsNotFound(err error) bool { return StatusOf(err) == http.StatusNotFound }

// noRoute reports whether the engine does not have the route of ours that was
// asked: it is another one, or an older one.
func noRoute(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == http.StatusNotFound && !e.own
}

// ConnectError says that no engine answers at an address.
type ConnectError struct {
	Host string
	Err  error
}

func (e *ConnectError) Error() string {
	return fmt.Sprintf("failed to connect to the engine at %s; check if the address is correct and if tared is running: %v", e.Host, e.Err)
}

func (e *ConnectError) Unwrap() error { return e.Err }

// A call is one request before it has an API version.
type call struct {
	method string
	path   string // escaped, without version
	query  url.Values
	body   any // an io.Reader is sent as it is, anything else as JSON
	header http.Header
}

// do sends a call and returns an answer below 400, whose body the caller
// closes.
func (c *Client) do(ctx context.Context, in call) (*http.Response, error) {
	stream, streaming := in.body.(io.Reader)
	if streaming {
		// A streamed body cannot be sent twice: learn the version before.
		if err := c.negotiate(ctx); err != nil {
			return nil, err
		}
	}
	var text []byte
	if in.body != nil && !streaming {
		var err error
		if text, err = json.Marshal(in.body); err != nil {
			return nil, err
		}
	}
	for {
		if !streaming {
			stream = bodyOf(text)
		}
		asked := c.Version()
		req, err := c.request(ctx, asked, in, stream)
		if err != nil {
			return nil, err
		}
		resp, err := c.transport.RoundTrip(req)
		if err != nil {
			return nil, c.wrap(ctx, err)
		}
		if resp.StatusCode < 400 {
			return resp, nil
		}
		if err = refusal(resp); streaming || !c.downgrade(asked, resp.Header, err) {
			return nil, err
		}
	}
}

// bodyOf avoids a reader that is not nil around a body that is.
func bodyOf(text []byte) io.Reader {
	if text == nil {
		return nil
	}
	return bytes.NewReader(text)
}

// request turns a call into a request of an API version.
func (c *Client) request(ctx context.Context, v api.Version, in call, body io.Reader) (*http.Request, error) {
	target := c.base + "/v" + v.String() + in.path
	if len(in.query) > 0 {
		target += "?" + in.query.Encode()
	}
	scheme := "http://"
	if c.tls != nil {
		scheme = "https://"
	}
	req, err := http.NewRequestWithContext(ctx, in.method, scheme+c.authority+target, body)
	if err != nil {
		return nil, err
	}
	for k, v := range c.header {
		req.Header[k] = v
	}
	for k, v := range in.header {
		req.Header[k] = v
	}
	if body != nil && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

// wrap turns a failed dial into a ConnectError and leaves the rest alone.
func (c *Client) wrap(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return &ConnectError{Host: c.host, Err: op}
	}
	return err
}

// refusal reads the error text out of an answer and closes it.
func refusal(resp *http.Response) error {
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("read the engine's answer (%s): %w", resp.Status, err)
	}
	var m struct{ Message string }
	if json.Unmarshal(text, &m) != nil || m.Message == "" {
		m.Message = strings.TrimSpace(string(text))
	}
	if m.Message == "" {
		m.Message = resp.Status
	}
	return &Error{Status: resp.StatusCode, Message: strings.TrimSpace(m.Message), own: resp.Header.Get(api.OwnHeader) != ""}
}

// decode reads a JSON answer into out and closes it.
func decode(resp *http.Response, out any) error {
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("read the engine's answer: %w", err)
	}
	// A connection is used again only when its answer is read to the end.
	_, err := io.Copy(io.Discard, resp.Body)
	return err
}

// get, post and remove are calls whose answer is JSON.
func get[T any](ctx context.Context, c *Client, path string, query url.Values) (T, error) {
	return fetch[T](ctx, c, call{method: http.MethodGet, path: path, query: query})
}

// getCounted is get for answers with sizes.
func getCounted[T any](ctx context.Context, c *Client, path string, query url.Values, counted api.Counted) (out T, err error) {
	resp, err := c.do(ctx, call{method: http.MethodGet, path: path, query: query})
	if err != nil {
		return out, err
	}
	if at, err := time.Parse(time.RFC3339Nano, resp.Header.Get(api.CountedHeader)); err == nil && counted != nil {
		counted(at)
	}
	err = decode(resp, &out)
	return out, err
}

func post[T any](ctx context.Context, c *Client, path string, query url.Values, body any) (T, error) {
	return fetch[T](ctx, c, call{method: http.MethodPost, path: path, query: query, body: body})
}

func remove[T any](ctx context.Context, c *Client, path string, query url.Values) (T, error) {
	return fetch[T](ctx, c, call{method: http.MethodDelete, path: path, query: query})
}

func fetch[T any](ctx context.Context, c *Client, in call) (out T, err error) {
	resp, err := c.do(ctx, in)
	if err != nil {
		return out, err
	}
	err = decode(resp, &out)
	return out, err
}

// post and remove are calls whose answer does not matter.
func (c *Client) post(ctx context.Context, path string, query url.Values, body any) error {
	return c.tell(ctx, call{method: http.MethodPost, path: path, query: query, body: body})
}

func (c *Client) remove(ctx context.Context, path string, query url.Values) error {
	return c.tell(ctx, call{method: http.MethodDelete, path: path, query: query})
}

func (c *Client) tell(ctx context.Context, in call) error {
	resp, err := c.do(ctx, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// documents reports a stream of JSON documents until its end or until report
// returns an error, and closes it.
func documents[T any](body io.ReadCloser, report func(T) error) error {
	defer body.Close()
	d := json.NewDecoder(body)
	for {
		var m T
		switch err := d.Decode(&m); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := report(m); err != nil {
			return err
		}
	}
}

// segment escapes a name for its place in a path.
func segment(name string) string { return url.PathEscape(name) }
