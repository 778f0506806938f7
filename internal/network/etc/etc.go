// Package etc writes the three files that an engine puts over an image's:
// /etc/hosts, /etc/hostname and /etc/resolv.conf. It returns their bytes; where
// they are kept and mounted is the caller's business.
package etc

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"strings"
	"unicode"
)

// Hosts is what /etc/hosts of a container is made from.
type Hosts struct {
	Hostname   string
	Domainname string
	Addrs      []netip.Addr // the container's own
	Extra      []Host       // --add-host
	IPv6       bool         // loopback has ::1
}

// Host is a name and its address.
type Host struct {
	Name string
	IP   netip.Addr
}

// local4 and local6 are the lines that every container has.
const (
	local4 = "127.0.0.1\tlocalhost\n"
	local6 = "::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::\tip6-localnet\n" +
		"ff00::\tip6-mcastprefix\n" +
		"ff02::1\tip6-allnodes\n" +
		"ff02::2\tip6-allrouters\n"
)

// HostsFile returns /etc/hosts: loopback, the extra hosts, the container.
func HostsFile(h Hosts) []byte {
	var b bytes.Buffer
	b.WriteString(local4)
	if h.IPv6 {
		b.WriteString(local6)
	}
	for _, e := range h.Extra {
		fmt.Fprintf(&b, "%s\t%s\n", e.IP, e.Name)
	}
	names := h.Hostname
	if h.Domainname != "" {
		names = h.Hostname + "." + h.Domainname + " " + h.Hostname
	}
	for _, a := range h.Addrs {
		if names != "" {
			fmt.Fprintf(&b, "%s\t%s\n", a, names)
		}
	}
	return b.Bytes()
}

// AppendHosts returns a copy of a hosts file with more hosts at its end: what a
// container in the host's own network gets.
func AppendHosts(file []byte, extra []Host) []byte {
	b := bytes.Clone(file)
	if len(b) > 0 && b[len(b)-1] != '\n' && len(extra) > 0 {
		b = append(b, '\n')
	}
	for _, e := range extra {
		b = fmt.Appendf(b, "%s\t%s\n", e.IP, e.Name)
	}
	return b
}

// hostGateway is the word that stands for an address of the host.
const hostGateway = "host-gateway"

// ParseExtraHosts reads --add-host values, "name:address"; the address may be in
// brackets, or the word host-gateway.
func ParseExtraHosts(values []string, gateway netip.Addr) ([]Host, error) {
	var all []Host
	for _, v := range values {
		name, addr, ok := strings.Cut(v, ":")
		if !ok || name == "" || strings.ContainsFunc(name, notInName) {
			return nil, fmt.Errorf("bad format for add-host: %q", v)
		}
		if addr == hostGateway {
			if !gateway.IsValid() {
				return nil, fmt.Errorf("unable to derive the IP value for host-gateway")
			}
			all = append(all, Host{name, gateway})
			continue
		}
		if len(addr) > 2 && addr[0] == '[' && addr[len(addr)-1] == ']' {
			addr = addr[1 : len(addr)-1]
		}
		ip, err := netip.ParseAddr(addr)
		if err != nil {
			return nil, fmt.Errorf("invalid IP address in add-host: %q", addr)
		}
		all = append(all, Host{name, ip})
	}
	return all, nil
}

// notInName finds what would begin another name or line.
func notInName(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == '#' }

// HostnameFile returns /etc/hostname.
func HostnameFile(hostname string) []byte { return []byte(hostname + "\n") }

// Resolver is the content of /etc/resolv.conf, and what overrides it: a nil
// list leaves what the host says.
type Resolver struct {
	Nameservers []string
	Search      []string
	Options     []string
}

// ParseResolver reads a resolv.conf. Of several search or domain lines the last
// one counts; what cannot be read is left out, as resolvers do.
func ParseResolver(file []byte) Resolver {
	var r Resolver
	for line := range strings.Lines(string(file)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0][0] == '#' || f[0][0] == ';' {
			continue
		}
		switch f[0] {
		case "nameserver":
			if _, err := netip.ParseAddr(f[1]); err == nil {
				r.Nameservers = append(r.Nameservers, f[1])
			}
		case "domain":
			r.Search = f[1:2]
		case "search":
			r.Search = f[1:]
		case "options":
			r.Options = append(r.Options, f[1:]...)
		}
	}
	return r
}

// override returns r with the lists of o that are set. A search list of "."
// stands for none.
func (r Resolver) override(o Resolver) Resolver {
	if len(o.Nameservers) > 0 {
		r.Nameservers = o.Nameservers
	}
	if len(o.Search) > 0 {
		r.Search = o.Search
		if len(o.Search) == 1 && o.Search[0] == "." {
			r.Search = nil
		}
	}
	if len(o.Options) > 0 {
		r.Options = o.Options
	}
	return r
}

// fallback is used when the host has only name servers on its own loopback,
// which a container cannot reach.
func fallback() []string { return []string{"8.8.8.8", "8.8.4.4"} }

// reachable returns r without name servers that a container in a network
// namespace of its own cannot reach: those on loopback, and IPv6 ones unless it
// has IPv6; those of the host's links in any case. If none is left, public ones take their place.
func (r Resolver) reachable(ipv6 bool) Resolver {
	r.Nameservers = slices.DeleteFunc(slices.Clone(r.Nameservers), func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err != nil || a.IsLoopback() || a.Is6() && (!ipv6 || a.IsLinkLocalUnicast())
	})
	if len(r.Nameservers) == 0 {
		r.Nameservers = fallback()
	}
	return r
}

// ResolverFile returns /etc/resolv.conf of a container that has a network
// namespace of its own: what the host has, as far as the container can reach
// it, with the container's own settings over it.
func ResolverFile(host, own Resolver, ipv6 bool) []byte {
	if len(own.Nameservers) == 0 {
		host = host.reachable(ipv6)
	}
	return host.override(own).file()
}

// InternalResolverFile is the same for a container whose names the engine serves at
// an address of its own. Names without a dot are asked as they are, unless the
// container says otherwise.
func InternalResolverFile(server netip.Addr, host, own Resolver) []byte {
	own.Nameservers = []string{server.String()}
	r := host.override(own)
	if !slices.ContainsFunc(r.Options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
		r.Options = append(slices.Clone(r.Options), "ndots:0")
	}
	return r.file()
}

// SharedResolverFile is the same for a container in the host's network
// namespace: without settings of its own, the host's file as it is.
func SharedResolverFile(file []byte, own Resolver) []byte {
	if len(own.Nameservers)+len(own.Search)+len(own.Options) == 0 {
		return file
	}
	return ParseResolver(file).override(own).file()
}

// head begins a resolv.conf of ours; a checksum of what follows is at its end.
const head = "# Made by Tare from the settings of the host and of the container.\n# It is left alone once somebody else has changed it: "

// Ours says that a resolv.conf is as it was made here.
func Ours(file []byte) bool {
	rest, ok := bytes.CutPrefix(file, []byte(head))
	sum, body, _ := bytes.Cut(rest, []byte("\n"))
	return ok && string(sum) == checksum(body)
}

func checksum(body []byte) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE(body)) }

func (r Resolver) file() []byte {
	body := r.body()
	return append([]byte(head+checksum(body)+"\n"), body...)
}

func (r Resolver) body() (b []byte) {
	for _, n := range r.Nameservers {
		b = fmt.Appendf(b, "nameserver %s\n", n)
	}
	if len(r.Search) > 0 {
		b = fmt.Appendf(b, "search %s\n", strings.Join(r.Search, " "))
	}
	if len(r.Options) > 0 {
		b = fmt.Appendf(b, "options %s\n", strings.Join(r.Options, " "))
	}
	return b
}
