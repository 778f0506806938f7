package registrytest

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"testing"
)

// Witness is a host that is not the registry: it notes what it is told, and
// answers each request with the same bytes.
type Witness struct {
	*httptest.Server

	mu sync.Mutex
	// +checklocks:mu
	seen []Request
}

// NewWitness starts one on an address (empty for a port of 127.0.0.1).
func NewWitness(t testing.TB, address string, encrypted bool, answer []byte) *Witness {
	t.Helper()
	v := &Witness{}
	v.Server = listen(t, address, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(io.LimitReader(req.Body, 1<<20))
		v.mu.Lock()
		v.seen = append(v.seen, Request{
			Method: req.Method, Path: req.URL.Path, Query: req.URL.RawQuery, Header: req.Header.Clone(), Body: string(body),
			ClientCert: req.TLS != nil && len(req.TLS.PeerCertificates) > 0,
		})
		v.mu.Unlock()
		w.Write(answer)
	}))
	if encrypted {
		v.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
		v.StartTLS()
	} else {
		v.Start()
	}
	t.Cleanup(v.Close)
	return v
}

// Requests returns all that the witness has seen.
func (v *Witness) Requests() []Request {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.seen)
}

// Proxy is an HTTP proxy that leads names to addresses of tests: what is behind
// it is not on loopback for its clients.
type Proxy struct {
	*httptest.Server

	mu sync.Mutex
	// +checklocks:mu
	asked []string // host:port
}

// NewProxy starts one. The map has addresses by host:port (by host for plain
// HTTP); other names do not exist. It may grow until the proxy is used.
func NewProxy(t testing.TB, addresses map[string]string) *Proxy {
	t.Helper()
	p := &Proxy{}
	p.Server = listen(t, "", http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		p.mu.Lock()
		p.asked = append(p.asked, req.Host)
		p.mu.Unlock()
		to := addresses[req.Host]
		switch {
		case to == "":
			w.WriteHeader(http.StatusBadGateway)
		case req.Method == http.MethodConnect:
			tunnel(w, to)
		default:
			forward := httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(&url.URL{Scheme: "http", Host: to})
				r.Out.Host = r.In.Host
			}}
			forward.ServeHTTP(w, req)
		}
	}))
	p.Start()
	t.Cleanup(p.Close)
	return p
}

func tunnel(w http.ResponseWriter, to string) {
	far, err := net.Dial("tcp", to)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	near, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		far.Close()
		return
	}
	io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(far, near)
		far.Close()
		near.Close()
	}()
	io.Copy(near, far)
	far.Close()
	near.Close()
	<-done
}

// Use is the proxy for registry.Config.
func (p *Proxy) Use(*url.URL) (*url.URL, error) { return url.Parse(p.URL) }

// Asked returns the hosts that clients wanted to reach.
func (p *Proxy) Asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}
