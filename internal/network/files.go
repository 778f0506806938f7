package network

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/network/dns"
	"github.com/tare-engine/tare/internal/network/etc"
)

// FileOptions are a container's own settings for its files under /etc.
type FileOptions struct {
	Hostname, Domainname       string
	ExtraHosts                 []string // NAME:ADDRESS or NAME:host-gateway
	Linked                     []etc.Host
	DNS, DNSSearch, DNSOptions []string
}

// Files are the contents of the files that an engine puts over an image's.
type Files struct {
	Hosts, Hostname, Resolv []byte // /etc/hosts, /etc/hostname, /etc/resolv.conf
}

// Where the host's resolver is configured. systemd-resolved puts its own
// loopback address into the first and the real name servers into the second.
const (
	resolvConf        = "/etc/resolv.conf"
	systemdResolvConf = "/run/systemd/resolve/resolv.conf"
	systemdStub       = "127.0.0.53"
	hostsFile         = "/etc/hosts"
)

// Files returns the contents for a container with these endpoints.
func (s *Service) Files(list []*Endpoint, o FileOptions) (Files, error) {
	extra, err := etc.ParseExtraHosts(o.ExtraHosts, s.hostGateway())
	if err != nil {
		return Files{}, errdefs.As(errdefs.InvalidArgument, err)
	}
	for _, v := range slices.Concat(o.DNS, o.DNSSearch, o.DNSOptions) {
		if v == "" || strings.ContainsFunc(v, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
			return Files{}, errdefs.New(errdefs.InvalidArgument, "invalid DNS setting %q", v)
		}
	}
	own := etc.Resolver{Nameservers: or(o.DNS, s.cfg.DNS), Search: or(o.DNSSearch, s.cfg.DNSSearch), Options: or(o.DNSOptions, s.cfg.DNSOptions)}
	extra = append(extra, o.Linked...)
	f := Files{Hostname: etc.HostnameFile(o.Hostname)}
	if len(list) > 0 && list[0].network.rec.Driver == "host" {
		err = s.sharedFiles(&f, extra, own)
	} else {
		err = s.ownFiles(&f, list, o, extra, own)
	}
	return f, err
}

func or(a, b []string) []string {
	if len(a) > 0 {
		return a
	}
	return b
}

// ownFiles is for a namespace of the container's own. Loopback has ::1 in it,
// whatever the network.
func (s *Service) ownFiles(f *Files, list []*Endpoint, o FileOptions, extra []etc.Host, own etc.Resolver) error {
	h := etc.Hosts{Hostname: o.Hostname, Domainname: o.Domainname, Extra: extra, IPv6: true}
	for _, e := range list {
		h.Addrs = append(h.Addrs, e.addrs()...)
	}
	f.Hosts = etc.HostsFile(h)
	if slices.ContainsFunc(list, (*Endpoint).named) {
		host, err := readFile(resolvConf)
		f.Resolv = etc.InternalResolverFile(dns.Address, etc.ParseResolver(host), own)
		return err
	}
	host, err := hostResolver()
	f.Resolv = etc.ResolverFile(host, own, slices.ContainsFunc(list, func(e *Endpoint) bool { return e.Gateway6.IsValid() }))
	return err
}

// sharedFiles is for the host's namespace.
func (s *Service) sharedFiles(f *Files, extra []etc.Host, own etc.Resolver) error {
	hosts, err := readFile(hostsFile)
	if err != nil {
		return err
	}
	resolv, err := readFile(resolvConf)
	if err != nil {
		return err
	}
	f.Hosts, f.Resolv = etc.AppendHosts(hosts, extra), etc.SharedResolverFile(resolv, own)
	return nil
}

// hostResolver reads the host's name servers.
func hostResolver() (etc.Resolver, error) {
	b, err := readFile(resolvConf)
	if err != nil {
		return etc.Resolver{}, err
	}
	r := etc.ParseResolver(b)
	if len(r.Nameservers) == 1 && r.Nameservers[0] == systemdStub {
		if b, err = readFile(systemdResolvConf); err != nil {
			return etc.Resolver{}, err
		}
		if len(b) > 0 {
			r = etc.ParseResolver(b)
		}
	}
	return r, nil
}

// readFile is os.ReadFile without an error for a file that is not there.
func readFile(name string) ([]byte, error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// hostGateway is the address by which containers reach the host.
func (s *Service) hostGateway() netip.Addr {
	if s.cfg.HostGateway.IsValid() {
		return s.cfg.HostGateway
	}
	for _, n := range s.all() {
		if n.link != nil && len(n.link.Gateways) > 0 {
			return n.link.Gateways[0].Addr()
		}
	}
	return netip.Addr{}
}
