// Package registrytest runs a registry for tests: distribution's, in memory, on
// a port of loopback, behind a front that counts, asks for credentials, and
// makes the faults it is told to.
//
//	r := registrytest.New(t, registrytest.Options{Auth: registrytest.Basic})
//	img := r.Put("team/app", "latest", registrytest.Image{Layers: 2})
//	r.Fault(http.MethodGet, "/blobs/", 1, registrytest.Cut(1000))
//	…
//	r.Requests(http.MethodGet, "/blobs/"+img.Layers[0].Digest.String())
package registrytest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory" // the driver's name is in the configuration
	"github.com/sirupsen/logrus"
)

// Auth is how a registry wants its users to prove who they are.
type Auth int

// Ways of authentication.
const (
	None  Auth = iota
	Basic      // a password with each request
	Token      // a token of a server of its own
)

// The user that registries with authentication know.
const (
	Username = "alice"
	Password = "correct horse battery staple"
)

// Options of a registry.
type Options struct {
	TLS        bool
	ClientCert bool // ask for a client certificate and note whether there was one; needs TLS
	Auth       Auth
	// Anonymous lets users without credentials pull, with a token.
	Anonymous bool
	// Realm is named to clients instead of the registry's own token server.
	Realm string
	// Address to listen on; by default 127.0.0.1 with a free port.
	Address string
	// Listener instead of one at Address: of another network namespace, say.
	Listener net.Listener
}

// Request is one that the registry has seen.
type Request struct {
	Method, Path, Query string
	Header              http.Header
	ClientCert          bool
	Body                string // of token requests
	Sent                int64  // bytes of the answer's body
}

// Registry is a running registry.
type Registry struct {
	*httptest.Server
	Host string // as references name it: address and port
	// Tokens is the token server; nil without token authentication.
	Tokens *TokenServer

	t       testing.TB
	opts    Options
	backend http.Handler

	mu sync.Mutex
	// +checklocks:mu
	conns int
	// +checklocks:mu
	seen []*Request
	// +checklocks:mu
	faults []*fault
}

// New starts a registry, which ends with the test.
func New(t testing.TB, opts Options) *Registry {
	t.Helper()
	r := &Registry{t: t, opts: opts, backend: newBackend(t)}
	r.Server = listen(t, opts.Address, http.HandlerFunc(r.serve))
	if opts.Listener != nil {
		r.Server.Listener.Close()
		r.Server.Listener = opts.Listener
	}
	r.Server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.conns++
		}
	}
	if opts.Auth == Token {
		r.Tokens = NewTokenServer(t, opts.TLS, opts.Anonymous)
	}
	if opts.TLS {
		if opts.ClientCert {
			r.Server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
		}
		r.Server.StartTLS()
	} else {
		r.Server.Start()
	}
	r.Host = r.Listener.Addr().String()
	t.Cleanup(r.shut)
	return r
}

// shut ends the answers that hang, then the server.
func (r *Registry) shut() {
	r.CloseClientConnections()
	r.Server.Close()
}

func newBackend(t testing.TB) http.Handler {
	logrus.SetLevel(logrus.PanicLevel) // distribution logs each request
	config := &configuration.Configuration{
		Storage: configuration.Storage{
			"inmemory":    configuration.Parameters{},
			"delete":      configuration.Parameters{"enabled": true},
			"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
		},
	}
	config.HTTP.Secret = "of a test"
	config.Validation.Manifests.URLs.Allow = []string{".*"}
	config.Log.Level = "panic"
	config.Log.AccessLog.Disabled = true
	config.Catalog.MaxEntries = 1000
	config.Tags.MaxTags = 1000
	ctx, cancel := context.WithCancel(context.Background())
	app := handlers.NewApp(ctx, config)
	t.Cleanup(func() {
		app.Shutdown()
		cancel()
	})
	return app
}

// serve is the front: it notes the request, makes a fault, asks for
// credentials, and lets the backend answer.
func (r *Registry) serve(w http.ResponseWriter, req *http.Request) {
	seen := &Request{Method: req.Method, Path: req.URL.Path, Query: req.URL.RawQuery, Header: req.Header.Clone()}
	seen.ClientCert = req.TLS != nil && len(req.TLS.PeerCertificates) > 0
	r.mu.Lock()
	r.seen = append(r.seen, seen)
	r.mu.Unlock()
	w = &counting{ResponseWriter: w, add: func(n int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		seen.Sent += int64(n)
	}}
	if !r.authorized(w, req) {
		return
	}
	if f := r.nextFault(req); f != nil {
		f(w, req, r.backend)
		return
	}
	r.backend.ServeHTTP(w, req)
}

type counting struct {
	http.ResponseWriter
	add func(int)
}

func (c *counting) Write(b []byte) (int, error) {
	c.add(len(b)) // before the client can have it
	return c.ResponseWriter.Write(b)
}

func (c *counting) Unwrap() http.ResponseWriter { return c.ResponseWriter }
func (c *counting) Flush()                      { http.NewResponseController(c.ResponseWriter).Flush() }

// Requests returns those with the method whose path contains part.
func (r *Registry) Requests(method, part string) []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []Request
	for _, s := range r.seen {
		if s.Method == method && strings.Contains(s.Path, part) {
			all = append(all, *s)
		}
	}
	return all
}

// Sent returns how many bytes were sent for requests whose path contains part.
func (r *Registry) Sent(part string) int64 {
	n := int64(0)
	for _, q := range r.Requests(http.MethodGet, part) {
		n += q.Sent
	}
	return n
}

// Connections returns how many clients have opened.
func (r *Registry) Connections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.conns
}

// Forget forgets the requests seen.
func (r *Registry) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = nil
}

// CertsDir makes a directory, as /etc/docker/certs.d, in which the registries'
// own certificates are trusted.
func CertsDir(t testing.TB, registries ...*Registry) string {
	t.Helper()
	root := t.TempDir()
	for _, r := range registries {
		dir := filepath.Join(root, r.Host)
		if err := os.MkdirAll(dir, 0700); err != nil {
			t.Fatal(err)
		}
		WriteCertificate(t, filepath.Join(dir, "ca.crt"), r.Certificate())
	}
	return root
}

// WriteCertificate writes a certificate in PEM.
func WriteCertificate(t testing.TB, path string, c *x509.Certificate) {
	t.Helper()
	var b bytes.Buffer
	if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0600); err != nil {
		t.Fatal(err)
	}
}

// do asks the backend itself: uncounted, without faults and credentials.
func (r *Registry) do(method, target string, header http.Header, body []byte) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, target, io.NopCloser(bytes.NewReader(body)))
	req.ContentLength = int64(len(body))
	for k, v := range header {
		req.Header[k] = v
	}
	w := httptest.NewRecorder()
	r.backend.ServeHTTP(w, req)
	return w
}
