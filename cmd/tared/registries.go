package main

import (
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	regtypes "github.com/moby/moby/api/types/registry"
	"golang.org/x/net/http/httpproxy"

	"github.com/tare-engine/tare/internal/registry"
)

// registryConfig are the settings that say how registries are reached.
type registryConfig struct {
	Mirrors      []string // URL, of Docker Hub, or REGISTRY=URL
	Insecure     []string // HOST[:PORT] or CIDR
	Foreign      []string // HOST[:PORT]; layers that "must not be distributed" go from and to them
	Downloads    uint     // at a time
	Uploads      uint
	Attempts     uint // of a download
	Rate         byteRate
	HTTPProxy    string
	HTTPSProxy   string
	NoProxy      string
	CertsDirList []string
}

func defaultRegistryConfig() registryConfig {
	return registryConfig{Downloads: 3, Uploads: 5, Attempts: 5}
}

// defaultCertsDirs have a folder for each registry that needs settings of its own.
var defaultCertsDirs = []string{"/etc/tare/certs.d", "/etc/docker/certs.d"}

const hub = "docker.io"

func (c *registryConfig) options() []option {
	return []option{
		{"registry-mirror", "", "registry-mirrors", "`URL` to ask before Docker Hub, or REGISTRY=URL for another registry; several may be given", &listValue{list: &c.Mirrors, check: checkMirror}},
		{"insecure-registry", "", "insecure-registries", "`registry` that may be spoken to without TLS or with an unknown certificate: HOST[:PORT] or a network; several may be given", &listValue{list: &c.Insecure, check: registry.CheckInsecure}},
		{"allow-nondistributable-artifacts", "", "allow-nondistributable-artifacts", "`registry` from and to which layers go that must not be distributed; several may be given", &listValue{list: &c.Foreign, check: registry.CheckHost}},
		{"max-concurrent-downloads", "", "max-concurrent-downloads", "`layers` to fetch at a time", (*countValue)(&c.Downloads)},
		{"max-concurrent-uploads", "", "max-concurrent-uploads", "`layers` to send at a time", (*countValue)(&c.Uploads)},
		{"max-download-attempts", "", "max-download-attempts", "`times` that a request to a registry is tried", (*countValue)(&c.Attempts)},
		{"registry-rate-limit", "", "registry-rate-limit", "`bytes` a second from and to registries, such as 10MB; 0 is no limit", &c.Rate},
		{"http-proxy", "", "http-proxy", "`URL` of the proxy for plain HTTP; by default of the environment", textValue{&c.HTTPProxy, checkProxy}},
		{"https-proxy", "", "https-proxy", "`URL` of the proxy for HTTPS; by default of the environment", textValue{&c.HTTPSProxy, checkProxy}},
		{"no-proxy", "", "no-proxy", "`hosts` that are reached without a proxy, with commas between", textValue{&c.NoProxy, nil}},
		{"registry-certs-dir", "", "registry-certs-dirs", "`directory` with a folder for each registry that has hosts.toml or certificates; several may be given", &listValue{list: &c.CertsDirList, check: checkPath}},
	}
}

// mirrors are the mirrors by registry.
func (c *registryConfig) mirrors() map[string][]string {
	m := map[string][]string{}
	for _, s := range c.Mirrors {
		host, u := splitMirror(s)
		m[host] = append(m[host], u)
	}
	return m
}

func splitMirror(s string) (host, u string) {
	if host, u, ok := strings.Cut(s, "="); ok && !strings.Contains(host, "/") {
		return host, u
	}
	return hub, s
}

// client makes the client of registries.
func (c *registryConfig) client() (*registry.Client, error) {
	dirs := c.CertsDirList
	if len(dirs) == 0 {
		dirs = defaultCertsDirs
	}
	return registry.New(registry.Config{
		Mirrors: c.mirrors(), Insecure: c.Insecure, CertsDirs: dirs, UserAgent: "tare/" + version,
		RateLimit: int64(c.Rate), Attempts: int(c.Attempts), Proxy: c.proxy(),
	})
}

// proxy is what the settings say of proxies, each of them instead of the
// environment's.
func (c *registryConfig) proxy() func(*url.URL) (*url.URL, error) {
	p := httpproxy.FromEnvironment()
	for _, o := range []struct {
		from string
		to   *string
	}{{c.HTTPProxy, &p.HTTPProxy}, {c.HTTPSProxy, &p.HTTPSProxy}, {c.NoProxy, &p.NoProxy}} {
		if o.from != "" {
			*o.to = o.from
		}
	}
	return p.ProxyFunc()
}

// info is what "docker info" shows of the settings.
func (c *registryConfig) info() *regtypes.ServiceConfig {
	m := c.mirrors()
	s := &regtypes.ServiceConfig{
		Mirrors:               m[hub],
		InsecureRegistryCIDRs: []netip.Prefix{netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("127.0.0.0/8")},
		IndexConfigs:          map[string]*regtypes.IndexInfo{hub: {Name: hub, Mirrors: list(m[hub]), Secure: true, Official: true}},
	}
	for _, r := range c.Insecure {
		r = registry.BareHost(r)
		if p, err := netip.ParsePrefix(r); err == nil {
			s.InsecureRegistryCIDRs = append(s.InsecureRegistryCIDRs, p)
		} else {
			s.IndexConfigs[r] = &regtypes.IndexInfo{Name: r, Mirrors: list(m[r])}
		}
	}
	return s
}

// list is l, never nil: clients expect a list.
func list(l []string) []string { return append([]string{}, l...) }

func checkMirror(s string) error {
	host, text := splitMirror(s)
	if err := registry.CheckHost(host); err != nil {
		return err
	}
	_, err := registry.ParseMirror(text)
	return err
}

func checkProxy(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
		return errors.New("want the URL of a proxy: http, https or socks5")
	}
	return nil
}

// countValue is a number above 0.
type countValue uint

func (v *countValue) Set(s string) error {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return errors.New("want a number from 1 to 65535")
	}
	*v = countValue(n)
	return nil
}
func (v *countValue) String() string { return strconv.FormatUint(uint64(*v), 10) }
func (v *countValue) Type() string   { return "int" }

// byteRate is bytes a second, given with a unit.
type byteRate int64

func (v *byteRate) Set(s string) error {
	n, err := units.RAMInBytes(s)
	if err != nil || n < 0 {
		return errors.New("want bytes a second, such as 500k or 10m")
	}
	*v = byteRate(n)
	return nil
}
func (v *byteRate) String() string { return strconv.FormatInt(int64(*v), 10) }
func (v *byteRate) Type() string   { return "string" }

// byteSize is bytes, given with a unit.
type byteSize int64

func (v *byteSize) Set(s string) error {
	n, err := units.RAMInBytes(s)
	if err != nil || n < 0 {
		return errors.New("want bytes, such as 500m or 20GB")
	}
	*v = byteSize(n)
	return nil
}
func (v *byteSize) String() string { return strconv.FormatInt(int64(*v), 10) }
func (v *byteSize) Type() string   { return "string" }
