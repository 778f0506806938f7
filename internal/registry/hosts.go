package registry

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"

	"github.com/containerd/containerd/v2/core/remotes/docker"
)

// Hosts tells containerd's libraries where a registry is: mirrors first, each with a
// client that knows certificates, proxies and which may speak plain HTTP. Who
// authorizes is the caller's to say.
func (c *Client) Hosts(name string) ([]docker.RegistryHost, error) {
	c = c.now()
	sites, err := c.sitesOf(context.Background(), name)
	if err != nil {
		return nil, err
	}
	hosts := make([]docker.RegistryHost, 0, len(sites))
	for i, s := range sites {
		attempts := 1
		if i == len(sites)-1 {
			attempts = c.cfg.Attempts
		}
		h := s.host
		var t http.RoundTripper = &transport{s: s, home: s.host.Host, attempts: attempts}
		if s.plain && h.Scheme == "https" {
			t = &fallback{RoundTripper: t, host: h.Host}
		}
		h.Client = &http.Client{Transport: t, CheckRedirect: s.redirect}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

// fallback is the transport to a host that may speak plain HTTP, and is asked over TLS
// until it has shown that it does. To no other host, after a redirect, it is spoken.
type fallback struct {
	http.RoundTripper
	host  string
	plain atomic.Bool
}

// RoundTrip does a request.
func (f *fallback) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" || req.URL.Host != f.host {
		return f.RoundTripper.RoundTrip(req)
	}
	again := req.Clone(req.Context())
	again.URL.Scheme = "http"
	if f.plain.Load() {
		return f.RoundTripper.RoundTrip(again)
	}
	resp, err := f.RoundTripper.RoundTrip(req)
	if e, ok := errors.AsType[*transportError](err); !ok || !e.plain {
		return resp, err
	}
	f.plain.Store(true)
	if req.GetBody != nil { // the body is read
		if again.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	return f.RoundTripper.RoundTrip(again)
}
