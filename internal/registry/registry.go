// Package registry is the client of image registries: the OCI distribution
// specification, and Docker's registry API before it.
//
// A [Client] knows how registries are reached: mirrors, certificates, proxies,
// which of them may be spoken to without TLS. A [Repository] is one repository
// with the credentials of one user. Whoever pulls asks it in this order:
//
//	repo := client.Repository(name, cred)
//	d, err := repo.Resolve(ctx, "latest") // which manifest is meant?
//	b, err := repo.Manifest(ctx, d)       // the document, verified
//	r, err := repo.Blob(ctx, layer, 0)    // bytes, which the caller verifies
//
// Between a Repository and the wire there are, from above: containerd's
// resolver and fetcher (requests and answers of the protocol), the authorizer
// (which credentials an endpoint sees), the transport (bounds, time limits,
// repetition, redirects), and net/http.
//
// What is never done, whatever a registry says: credentials go to no other
// host than the registry and the token server that belongs to it, and only over
// TLS, unless the configuration names the registry as insecure; a mirror sees
// no credentials; the urls of foreign layers are not followed.
package registry

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distribution/reference"
	"golang.org/x/net/http/httpproxy"
	"golang.org/x/time/rate"
)

// Config says how registries are reached. Its zero value reaches those that
// have a certificate the host trusts, and those on loopback.
type Config struct {
	// Mirrors has, for the name of a registry as references have it
	// (docker.io), base URLs to be asked before it.
	Mirrors map[string][]string
	// Insecure lists registries (host or host:port) and networks (CIDR) whose
	// certificates are not verified, and that may speak plain HTTP. Loopback
	// always is.
	Insecure []string
	// CertsDirs are directories with a folder for each registry, which has a
	// hosts.toml as containerd reads it, or *.crt, *.cert and *.key as Docker
	// does. The first that has the registry counts.
	CertsDirs []string
	UserAgent string
	// Proxy returns the proxy for a URL, nil for none. By default it is the
	// one of the environment.
	Proxy func(*url.URL) (*url.URL, error)
	// RateLimit bounds the bytes of blobs a second, of all downloads and
	// uploads together. Zero is no bound.
	RateLimit int64

	// Stall is how long a registry may, at the first attempt, leave a request without an answer or
	// send next to nothing. By default 30 seconds.
	Stall time.Duration
	// Attempts is how often something is tried, in all. By default 5.
	Attempts int
	// Backoff is about how long the second attempt waits; each later one
	// waits twice as long as the one before. By default half a second.
	Backoff time.Duration
}

// Credentials are those of one user at one registry.
type Credentials struct {
	Username, Password string
	IdentityToken      string // for which a token server gives tokens
	RegistryToken      string // sent to the registry as it is
}

// Client reaches registries. It may be used by many at once.
type Client struct {
	cfg      Config
	insecure insecure
	limit    *rate.Limiter // nil without a limit

	next atomic.Pointer[Client] // see Replace; nil: none

	mu sync.Mutex
	// +checklocks:mu
	sites map[string]*knownSites // by name of the registry
}

// New makes a client. Its Close ends the connections it keeps.
func New(cfg Config) (*Client, error) {
	c := &Client{cfg: cfg, sites: map[string]*knownSites{}}
	if c.cfg.Stall <= 0 {
		c.cfg.Stall = 30 * time.Second
	}
	if c.cfg.Attempts <= 0 {
		c.cfg.Attempts = 5
	}
	if c.cfg.Backoff <= 0 {
		c.cfg.Backoff = 500 * time.Millisecond
	}
	if c.cfg.UserAgent == "" {
		c.cfg.UserAgent = "tare"
	}
	if c.cfg.Proxy == nil {
		c.cfg.Proxy = httpproxy.FromEnvironment().ProxyFunc()
	}
	if c.cfg.RateLimit > 0 {
		c.limit = rate.NewLimiter(rate.Limit(c.cfg.RateLimit), int(max(c.cfg.RateLimit/10, 64<<10)))
	}
	var err error
	if c.insecure, err = parseInsecure(cfg.Insecure); err != nil {
		return nil, err
	}
	for _, mirrors := range cfg.Mirrors {
		for _, m := range mirrors {
			if _, err := ParseMirror(m); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// Replace has c do from now on as next does, whose Close is c's. Transfers go on as they
// began.
func (c *Client) Replace(next *Client) {
	if old := c.next.Swap(next); old != nil {
		old.Close()
	}
	c.closeSites()
}

// now is the client that is asked.
func (c *Client) now() *Client {
	if next := c.next.Load(); next != nil {
		return next
	}
	return c
}

// Insecure returns a client like c for which the registry of that name is one of
// Config.Insecure, and nothing else is. It has connections of its own, which its
// Close ends.
func (c *Client) Insecure(name string) *Client {
	c = c.now()
	i := insecure{hosts: append(slices.Clone(c.insecure.hosts), strings.ToLower(registryHost(name))), nets: c.insecure.nets}
	return &Client{cfg: c.cfg, insecure: i, limit: c.limit, sites: map[string]*knownSites{}}
}

// Close ends the connections that are kept for later. Transfers go on.
func (c *Client) Close() {
	if next := c.next.Load(); next != nil {
		next.Close()
	}
	c.closeSites()
}

func (c *Client) closeSites() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.sites {
		k.close()
	}
	clear(c.sites)
}

// Repository is one repository with one user's credentials.
type Repository struct {
	c    *Client
	name reference.Named
	cred Credentials

	mu sync.Mutex
	// +checklocks:mu
	ends []*endpoint // mirrors first; nil until they are asked for
}

// Repository names a repository; nothing is asked yet. A tag or digest in the
// name is not used. Nil credentials are none.
func (c *Client) Repository(name reference.Named, cred *Credentials) *Repository {
	r := &Repository{c: c.now(), name: reference.TrimNamed(name)}
	if cred != nil {
		r.cred = *cred
	}
	return r
}

// endpoints returns where the repository is: mirrors in their order, the
// registry last.
func (r *Repository) endpoints(ctx context.Context) ([]*endpoint, error) {
	r.mu.Lock()
	ends := r.ends
	r.mu.Unlock()
	if ends != nil {
		return ends, nil
	}
	sites, err := r.c.sitesOf(ctx, reference.Domain(r.name))
	if err != nil {
		return nil, err
	}
	for i, s := range sites {
		e := newEndpoint(r.c, s, r.cred, i == len(sites)-1)
		e.repository = reference.Path(r.name)
		ends = append(ends, e)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ends == nil {
		r.ends = ends
	}
	return r.ends, nil
}

// registry returns the endpoint that is no mirror.
func (r *Repository) registry(ctx context.Context) (*endpoint, error) {
	ends, err := r.endpoints(ctx)
	if err != nil {
		return nil, err
	}
	return ends[len(ends)-1], nil
}

// insecure tells which hosts need no TLS.
type insecure struct {
	hosts []string // host or host:port
	nets  []netip.Prefix
}

func parseInsecure(list []string) (insecure, error) {
	var i insecure
	for _, s := range list {
		if p, err := netip.ParsePrefix(s); err == nil {
			i.nets = append(i.nets, p.Masked())
			continue
		}
		s = BareHost(s)
		if err := CheckHost(s); err != nil {
			return i, invalid("insecure registry %s is not valid: %w", s, err)
		}
		i.hosts = append(i.hosts, strings.ToLower(s))
	}
	return i, nil
}

// CheckInsecure refuses what is neither a host nor a network.
func CheckInsecure(s string) error {
	_, err := parseInsecure([]string{s})
	return err
}

// BareHost is a host that may be written as a URL.
func BareHost(s string) string {
	return strings.TrimPrefix(strings.TrimPrefix(s, "http://"), "https://")
}

// has reports whether host (with a port or not) needs no TLS. Names are looked
// up only if networks are listed.
func (i insecure) has(ctx context.Context, host string) bool {
	host = strings.ToLower(host)
	name := hostname(host)
	if slices.Contains(i.hosts, host) || slices.Contains(i.hosts, name) || name == "localhost" {
		return true
	}
	if ip, err := netip.ParseAddr(name); err == nil {
		return i.hasAddress(ip)
	}
	if len(i.nets) == 0 {
		return false
	}
	ips, err := lookup(ctx, name)
	return err == nil && len(ips) > 0 && !slices.ContainsFunc(ips, func(ip netip.Addr) bool { return !i.listed(ip) })
}

func (i insecure) hasAddress(ip netip.Addr) bool { return ip.Unmap().IsLoopback() || i.listed(ip) }

func (i insecure) listed(ip netip.Addr) bool {
	return slices.ContainsFunc(i.nets, func(p netip.Prefix) bool { return p.Contains(ip.Unmap()) })
}

// hostname cuts the port off a host; an IPv6 address loses its brackets.
func hostname(host string) string { return (&url.URL{Host: host}).Hostname() }

// CheckHost refuses what is not HOST or HOST:PORT.
func CheckHost(s string) error {
	u, err := url.Parse("https://" + s)
	if err != nil {
		return err
	}
	if u.Host != s || u.Hostname() == "" || strings.HasPrefix(s, "-") {
		return errNotAHost
	}
	const maxName, maxLabel = 253, 63 // of a host, by DNS
	name := u.Hostname()
	if len(name) > maxName || slices.ContainsFunc(strings.Split(name, "."), func(label string) bool { return len(label) > maxLabel }) {
		return errLongHost
	}
	return nil
}

func (c *Client) header() http.Header { return http.Header{"User-Agent": {c.cfg.UserAgent}} }
