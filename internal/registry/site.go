package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/sirupsen/logrus"
)

// site is one place where repositories of a registry are: the registry itself
// or a mirror. It has the connections, and nothing of a user.
type site struct {
	c      *Client
	host   docker.RegistryHost
	plain  bool // may speak HTTP, with any certificate or none
	mirror bool // sees no credentials
	own    *http.Transport
	reach  atomic.Int32 // the nearest of what own connected to

	mu sync.Mutex
	// +checklocks:mu
	others map[otherKind]*http.Transport
}

// otherKind tells the transports for other hosts apart.
type otherKind struct{ proxied, plain bool }

// Where an address is, from far to near.
const (
	reachUnknown = iota
	reachFar
	reachLink
	reachHost
)

func reachOf(ip netip.Addr) int32 {
	ip = ip.Unmap()
	switch {
	case ip.IsLoopback() || ip.IsUnspecified():
		return reachHost
	case ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast():
		return reachLink
	}
	return reachFar
}

const maxSites = 1000 // registries whose connections are kept

// knownSites are the sites of a registry as its directory said.
type knownSites struct {
	stamp string
	sites []*site
}

func (k *knownSites) close() {
	for _, s := range k.sites {
		s.close()
	}
}

func (s *site) close() {
	s.own.CloseIdleConnections()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.others {
		t.CloseIdleConnections()
	}
}

// sitesOf returns the sites of a registry, mirrors first. They are kept until
// the files about it change.
func (c *Client) sitesOf(ctx context.Context, name string) ([]*site, error) {
	stamp := c.stamp(name)
	c.mu.Lock()
	k := c.sites[name]
	c.mu.Unlock()
	if k != nil && k.stamp == stamp {
		return k.sites, nil
	}
	sites, err := c.readSites(ctx, name)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.sites[name]; k != nil {
		k.close()
	} else if len(c.sites) >= maxSites {
		for name, k := range c.sites { // any will do
			k.close()
			delete(c.sites, name)
			break
		}
	}
	c.sites[name] = &knownSites{stamp, sites}
	return sites, nil
}

// stamp changes with the files about a registry and its mirrors.
func (c *Client) stamp(name string) string {
	var b strings.Builder
	hosts := []string{name}
	for _, m := range c.cfg.Mirrors[name] {
		if u, err := ParseMirror(m); err == nil {
			hosts = append(hosts, u.Host)
		}
	}
	for _, h := range hosts {
		dir, err := c.dirOf(h)
		if err != nil {
			continue
		}
		files, _ := os.ReadDir(dir)
		for _, f := range files {
			if info, err := f.Info(); err == nil {
				fmt.Fprintln(&b, dir, f.Name(), info.Size(), info.ModTime().UnixNano())
			}
		}
	}
	return b.String()
}

// dirOf finds the directory about a registry.
func (c *Client) dirOf(host string) (string, error) {
	if host != filepath.Base(host) || host == "." || host == ".." {
		return "", cerrdefs.ErrNotFound
	}
	for _, root := range c.cfg.CertsDirs {
		dir, err := config.HostDirFromRoot(root)(host)
		if err == nil || !cerrdefs.IsNotFound(err) {
			return dir, err
		}
	}
	return "", cerrdefs.ErrNotFound
}

func (c *Client) readSites(ctx context.Context, name string) ([]*site, error) {
	var sites []*site
	for _, m := range c.cfg.Mirrors[name] {
		u, err := ParseMirror(m)
		if err != nil {
			return nil, err
		}
		hosts, err := c.hosts(ctx, u.Host)
		if err != nil {
			return nil, err
		}
		h := hosts[len(hosts)-1]
		h.Scheme, h.Host, h.Path = u.Scheme, u.Host, u.JoinPath("v2").Path
		h.Capabilities = docker.HostCapabilityPull | docker.HostCapabilityResolve
		sites = append(sites, c.newSite(ctx, h, true))
	}
	hosts, err := c.hosts(ctx, name)
	if err != nil {
		return nil, err
	}
	for i, h := range hosts {
		if h.Capabilities.Has(docker.HostCapabilityPull) || i == len(hosts)-1 {
			sites = append(sites, c.newSite(ctx, h, i < len(hosts)-1 || h.Host != registryHost(name)))
		}
	}
	return sites, nil
}

// registryHost is the host that serves the registry of that name.
func registryHost(name string) string {
	if name == "docker.io" {
		return "registry-1.docker.io"
	}
	return name
}

// hosts has containerd read the directory about a registry.
func (c *Client) hosts(ctx context.Context, name string) ([]docker.RegistryHost, error) {
	// A file that cannot be read is only logged there.
	var heard hearErrors
	ctx = log.WithLogger(ctx, heard.logger())
	hosts, err := config.ConfigureHosts(ctx, config.HostOptions{
		HostDir:       c.dirOf,
		DefaultScheme: "https",
		UpdateClient: func(hc *http.Client) error {
			if t, ok := hc.Transport.(*http.Transport); ok {
				hc.Transport = &shown{t}
			}
			return nil
		},
	})(name)
	if err == nil {
		err = heard.err
	}
	if err != nil {
		return nil, invalid("configuration of registry %s: %w", name, err)
	}
	if len(hosts) == 0 {
		return nil, invalid("configuration of registry %s: no hosts", name)
	}
	return hosts, nil
}

// hearErrors makes an error of what is logged as one.
type hearErrors struct{ err error }

func (h *hearErrors) logger() *logrus.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	l.SetLevel(logrus.ErrorLevel)
	l.AddHook(h)
	return logrus.NewEntry(l)
}

func (h *hearErrors) Levels() []logrus.Level { return []logrus.Level{logrus.ErrorLevel} }

func (h *hearErrors) Fire(e *logrus.Entry) error {
	h.err = errors.New(e.Message)
	if err, ok := e.Data[logrus.ErrorKey].(error); ok {
		h.err = fmt.Errorf("%s: %w", e.Message, err)
	}
	return nil
}

// shown is a transport that can be had back from within another: containerd
// wraps those of hosts that are configured for both HTTP and TLS.
type shown struct{ *http.Transport }

func (s *shown) RoundTrip(*http.Request) (*http.Response, error) { return nil, s }
func (s *shown) Error() string                                   { return "not for requests" }

func transportOf(h docker.RegistryHost) *http.Transport {
	_, err := h.Client.Transport.RoundTrip(&http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "https", Host: h.Host}})
	if s, ok := errors.AsType[*shown](err); ok {
		return s.Transport
	}
	return docker.DefaultHTTPTransport(&tls.Config{})
}

func (c *Client) newSite(ctx context.Context, h docker.RegistryHost, mirror bool) *site {
	_, single := h.Client.Transport.(*shown)
	s := &site{c: c, host: h, mirror: mirror, others: map[otherKind]*http.Transport{}}
	s.plain = h.Scheme == "http" || !single || c.insecure.has(ctx, h.Host)
	s.own = transportOf(h).Clone()
	tune(s.own)
	s.host.Client, s.host.Authorizer = nil, nil
	if c.insecure.has(ctx, h.Host) {
		s.own.TLSClientConfig.InsecureSkipVerify = true
	}
	dial := s.own.DialContext
	s.own.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if a, ok := remoteAddr(conn); err == nil && ok && proxyOf(ctx) == nil {
			s.reach.Store(max(s.reach.Load(), reachOf(a)))
		}
		return conn, err
	}
	return s
}

func remoteAddr(conn net.Conn) (netip.Addr, bool) {
	if conn == nil {
		return netip.Addr{}, false
	}
	a, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	return a.AddrPort().Addr(), true
}

// tune sets what is the same for all transports.
func tune(t *http.Transport) {
	t.Proxy = func(r *http.Request) (*url.URL, error) { return proxyOf(r.Context()), nil }
	t.MaxIdleConnsPerHost = 10
	t.MaxResponseHeaderBytes = 256 << 10
	t.ResponseHeaderTimeout = 0 // transport.once has its own, which knows uploads
	t.DisableCompression = true // a blob's bytes are what its digest is of
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{}
	}
	t.TLSClientConfig.MinVersion = tls.VersionTLS12
}

type proxyKey struct{}

func withProxy(ctx context.Context, u *url.URL) context.Context {
	return context.WithValue(ctx, proxyKey{}, u)
}

func proxyOf(ctx context.Context) *url.URL {
	u, _ := ctx.Value(proxyKey{}).(*url.URL)
	return u
}

// transport returns the connections for a URL: the site's own for its own host;
// for others such without its client certificates and its leave to do without
// verification, that do not reach this host or its link unless the site is
// there itself.
func (s *site) transport(ctx context.Context, u *url.URL, proxied bool) *http.Transport {
	if s.is(u) {
		return s.own
	}
	kind := otherKind{proxied: proxied, plain: s.plain && s.c.insecure.has(ctx, u.Host)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.others[kind]; t != nil {
		return t
	}
	t := docker.DefaultHTTPTransport(&tls.Config{
		RootCAs:            s.own.TLSClientConfig.RootCAs,
		InsecureSkipVerify: kind.plain,
	})
	tune(t)
	if !proxied {
		t.DialContext = (&net.Dialer{Timeout: s.c.cfg.Stall, ControlContext: s.control}).DialContext
	}
	s.others[kind] = t
	return t
}

// control refuses a connection nearer than those to the site itself.
func (s *site) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	return s.near(a.Addr())
}

// near is an error if the address is on this host or link, and the site is not.
func (s *site) near(ip netip.Addr) error {
	if r := reachOf(ip); r > reachFar && r != s.reach.Load() {
		return &transportError{text: fmt.Sprintf("registry %s leads to the local address %s", s.host.Host, ip), final: true}
	}
	return nil
}

// is reports whether a URL is of the site's own host.
func (s *site) is(u *url.URL) bool { return strings.EqualFold(u.Host, s.host.Host) }

// ParseMirror reads the base URL of a mirror.
func ParseMirror(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, invalid("invalid mirror: %q is not a valid URI: %w", s, err)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, invalid("invalid mirror: unsupported scheme %q in %q", u.Scheme, bareURL(s))
	case u.Host == "":
		return nil, invalid("invalid mirror: no host in %q", bareURL(s))
	case u.RawQuery != "" || u.Fragment != "":
		return nil, invalid("invalid mirror: query or fragment at end of the URI %q", bareURL(s))
	case u.User != nil:
		return nil, invalid("invalid mirror: username/password not allowed in URI %q", bareURL(s))
	}
	return u, nil
}

func lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
}
