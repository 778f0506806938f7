package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/common"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/plugin"
)

// Authorization asks authorization plugins whether requests, and their answers, may pass.
// All of them must agree. Safe for concurrent use.
type Authorization struct {
	plugins *plugin.Finder
	names   atomic.Pointer[[]string]
}

// NewAuthorization asks nobody until names are set.
func NewAuthorization(plugins *plugin.Finder) *Authorization {
	a := &Authorization{plugins: plugins}
	a.names.Store(new([]string))
	return a
}

// authorizes is what such a plugin offers.
const authorizes = "authz"

// pluginTime is how long a plugin may take for an answer.
const pluginTime = 30 * time.Second

// Check reports whether plugins can be asked.
func (a *Authorization) Check(ctx context.Context, names []string) error {
	for _, name := range names {
		if _, err := a.plugins.Get(ctx, name, authorizes); err != nil {
			return fmt.Errorf("authorization plugin %s: %w", name, err)
		}
	}
	return nil
}

// Set names the plugins that are asked from now on, in this order.
func (a *Authorization) Set(names []string) { a.names.Store(&names) }

// asked reports whether there is anybody to ask.
func (a *Authorization) asked() bool { return a != nil && len(*a.names.Load()) > 0 }

// passage is what a plugin is told of a request and, later, of its answer.
type passage struct {
	User                    string            `json:",omitempty"` // of the client's certificate
	UserAuthNMethod         string            `json:",omitempty"`
	RequestMethod           string            `json:",omitempty"`
	RequestURI              string            `json:"RequestUri,omitempty"`
	RequestBody             []byte            `json:",omitempty"` // of JSON, but for credentials
	RequestHeaders          map[string]string `json:",omitempty"`
	RequestPeerCertificates [][]byte          `json:",omitempty"` // PEM
	ResponseStatusCode      int               `json:",omitempty"`
	ResponseBody            []byte            `json:",omitempty"`
	ResponseHeaders         map[string]string `json:",omitempty"`
}

// ask has the plugins decide about a passage. A client that closes its half of the
// connection early does not cut them off.
func (a *Authorization) ask(ctx context.Context, method string, p *passage) error {
	ctx = context.WithoutCancel(ctx)
	for _, name := range *a.names.Load() {
		if err := a.askOne(ctx, name, method, p); err != nil {
			return err
		}
	}
	return nil
}

func (a *Authorization) askOne(ctx context.Context, name, method string, p *passage) error {
	ctx, cancel := context.WithTimeout(ctx, pluginTime)
	defer cancel()
	who, err := a.plugins.Get(ctx, name, authorizes)
	var said struct {
		Allow    bool
		Msg, Err string
	}
	if err == nil {
		err = who.Call(ctx, method, p, &said)
	}
	switch {
	case err != nil:
		return errdefs.New(errdefs.Unavailable, "plugin %s failed with error: %w", name, err)
	case said.Err != "":
		return errdefs.New(errdefs.Unavailable, "plugin %s failed with error: %s", name, plugin.Shown(said.Err))
	case !said.Allow:
		return errdefs.New(errdefs.Forbidden, "authorization denied by plugin %s: %s", name, plugin.Shown(said.Msg))
	}
	return nil
}

// authorize asks about a request, and puts a guard between its handler and the client.
// The plugins see the path by which the handler was found, however the client has spelt it
// ("/%63ontainers/json", "http://x/containers/json"), and the very bytes that it will read.
func (s *Server) authorize(r *request) error {
	target := url.URL{Path: r.URL.Path, RawQuery: r.URL.RawQuery}
	p := &passage{RequestMethod: r.Method, RequestURI: target.RequestURI(), RequestHeaders: shownHeaders(r.Header)}
	if t := r.TLS; t != nil && len(t.PeerCertificates) > 0 {
		p.User, p.UserAuthNMethod = t.PeerCertificates[0].Subject.CommonName, "TLS"
		for _, c := range t.PeerCertificates {
			p.RequestPeerCertificates = append(p.RequestPeerCertificates, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
		}
	}
	if _, path := splitVersion(r.URL.Path); path != "/auth" && r.ContentLength != 0 && checkContentType(r.Request) == nil {
		b, err := r.readBody()
		if err != nil {
			return err
		}
		r.Request.Body = io.NopCloser(bytes.NewReader(b))
		p.RequestBody = b
	}
	if err := s.authz.ask(r.Context(), "AuthZPlugin.AuthZReq", p); err != nil {
		return err
	}
	r.guard.about = p
	return nil
}

// shownHeaders are the headers that plugins see: no credentials.
func shownHeaders(h http.Header) map[string]string {
	m := make(map[string]string, len(h))
	for k, values := range h {
		switch k {
		case "Authorization", "X-Registry-Auth", "X-Registry-Config":
			continue
		}
		if len(values) > 0 {
			m[k] = values[len(values)-1]
		}
	}
	return m
}

// guardHolds is how much of an answer is held back until the plugins have seen it. Of a
// longer one, and of one that is sent bit by bit, they see the header.
const guardHolds = 1 << 20

// guard holds an answer back until the plugins have allowed it. They are asked once,
// before the client gets the first byte.
type guard struct {
	http.ResponseWriter
	rc     *http.ResponseController
	s      *Server
	r      *request
	about  *passage // nil: nobody was asked about the request, as it was refused
	status int
	body   []byte
	passed bool // the answer goes to the client
	denied error
}

func (s *Server) newGuard(w http.ResponseWriter) *guard {
	return &guard{ResponseWriter: w, rc: http.NewResponseController(w), s: s}
}

// Unwrap is for http.ResponseController.
func (g *guard) Unwrap() http.ResponseWriter { return g.ResponseWriter }

// WriteHeader notes the status.
func (g *guard) WriteHeader(status int) {
	if g.passed || status < http.StatusOK {
		g.ResponseWriter.WriteHeader(status)
	} else if g.status == 0 {
		g.status = status
	}
}

func (g *guard) Write(b []byte) (int, error) {
	switch {
	case g.denied != nil:
		return 0, g.denied
	case g.passed:
		return g.ResponseWriter.Write(b)
	case len(g.body)+len(b) <= guardHolds:
		g.body = append(g.body, b...)
		return len(b), nil
	}
	if err := g.pass(false); err != nil {
		return 0, err
	}
	return g.ResponseWriter.Write(b)
}

// FlushError lets what there is pass, and what follows.
func (g *guard) FlushError() error {
	if err := g.pass(false); err != nil {
		return err
	}
	return g.rc.Flush()
}

// Hijack lets the connection be taken over. If that is denied, the handler's error is
// the answer.
func (g *guard) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if !g.passed {
		g.status = http.StatusSwitchingProtocols
		if err := g.consent(false); err != nil {
			g.passed, g.status = true, 0
			g.Header().Del("Connection") // of an upgrade that is none now
			g.Header().Del("Upgrade")
			return nil, nil, err
		}
		g.passed = true
	}
	return g.rc.Hijack()
}

// consent asks about the answer.
func (g *guard) consent(whole bool) error {
	if g.about == nil {
		return nil
	}
	p := *g.about
	p.ResponseStatusCode, p.ResponseHeaders = g.status, shownHeaders(g.Header())
	if t, _, err := mime.ParseMediaType(g.Header().Get("Content-Type")); whole && err == nil && t == "application/json" {
		if _, path := splitVersion(g.r.URL.Path); path != "/auth" {
			p.ResponseBody = g.body
		}
	}
	return g.s.authz.ask(g.r.Context(), "AuthZPlugin.AuthZRes", &p)
}

// pass sends what was held back, or the refusal instead.
func (g *guard) pass(whole bool) error {
	if g.denied != nil || g.passed {
		return g.denied
	}
	if g.status == 0 {
		g.status = http.StatusOK
	}
	if err := g.consent(whole); err != nil {
		g.refuse(err)
		return err
	}
	g.passed = true
	g.ResponseWriter.WriteHeader(g.status)
	if len(g.body) == 0 {
		return nil
	}
	_, err := g.ResponseWriter.Write(g.body)
	g.body = nil
	return err
}

// refuse answers that the plugins have denied the answer.
func (g *guard) refuse(err error) {
	g.denied, g.body = err, nil
	slog.Warn("an answer was denied", "method", g.r.Method, "path", g.r.URL.Path, "err", err)
	h := g.Header()
	for k := range h {
		if _, ours := g.s.headers[k]; !ours {
			h.Del(k)
		}
	}
	h.Set("Connection", "close") // of a body that was not read the rest may come yet
	answer := &request{Request: g.r.Request, w: g.ResponseWriter, log: g.r.log}
	_ = answer.json(statusOf(err), common.ErrorResponse{Message: err.Error()})
}

// errPrior is why plain HTTP/2 does not pass where plugins are asked: they would see none
// of its requests.
var errPrior = errdefs.New(errdefs.Forbidden, "HTTP/2 without an upgrade is refused while authorization plugins are in force: POST /grpc is seen by them")

// ended is called when the handler of a request is done.
func (g *guard) ended() {
	if g.r.hijacked || g.denied != nil {
		return
	}
	if err := g.pass(true); err != nil && !errors.Is(err, g.denied) {
		g.r.log.Debug("send an answer", "path", g.r.URL.Path, "err", err)
	}
}
