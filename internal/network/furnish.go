package network

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"regexp"
	"strings"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/linux/sysctl"
)

// A link has what its container asks for beside its addresses: parameters of the kernel,
// and link-local addresses.

// Sysctl is a parameter of a container's link.
type Sysctl struct {
	Name  string `json:"name"` // net.X.Y.IFNAME.Z, with IFNAME for the link's name
	Value string `json:"value"`
}

// sysctlName is what names of links' parameters look like. Clients write the middle in
// small letters too.
var sysctlName = regexp.MustCompile(`^net\.[a-z0-9_]+\.[a-z0-9_]+\.(IFNAME|ifname)\.[a-z0-9_]+$`)

// ParseSysctls reads NAME=VALUE,… of links' parameters.
func ParseSysctls(list string) (all []Sysctl, err error) {
	for text := range strings.SplitSeq(list, ",") {
		name, value, ok := strings.Cut(text, "=")
		if !ok || !sysctlName.MatchString(name) || strings.ContainsAny(value, "\n\x00") {
			return nil, errdefs.New(errdefs.InvalidArgument, "invalid sysctl %q of a network endpoint: want net.X.Y.IFNAME.Z=VALUE, such as net.ipv4.conf.IFNAME.log_martians=1", text)
		}
		all = append(all, Sysctl{name, value})
	}
	return all, nil
}

// path is where the parameter of a link is.
func (s Sysctl) path(link string) string {
	parts := strings.Split(s.Name, ".")
	const middle = 3
	parts[middle] = link
	return strings.Join(parts, "/")
}

// setSysctls sets the parameters of an endpoint's link.
func setSysctls(e *Endpoint, ns *os.File) error {
	if len(e.Sysctls) == 0 {
		return nil
	}
	return netns.Do(ns, func() error {
		for _, p := range e.Sysctls {
			err := sysctl.Write(p.path(e.IfaceName), p.Value)
			if errors.Is(err, fs.ErrNotExist) {
				return errdefs.New(errdefs.InvalidArgument, "sysctl %s: the kernel has no such parameter of the link %s", p.Name, e.IfaceName)
			}
			if err != nil {
				return errdefs.New(errdefs.InvalidArgument, "sysctl %s=%s: %w", p.Name, p.Value, err)
			}
		}
		return nil
	})
}

// linkLocals are the link-local addresses of an endpoint with the lengths of their
// prefixes (RFC 3927, RFC 4291).
func (r *Record) linkLocals() (all []netip.Prefix) {
	for _, a := range r.LinkLocal {
		all = append(all, netip.PrefixFrom(a, of(familyOf(a), 16, 64)))
	}
	return all
}

// furnish completes the link of an endpoint.
func furnish(e *Endpoint, ns *os.File, inside *netlink.Conn) error {
	var b netlink.Batch
	for _, a := range e.linkLocals() {
		b.AddAddr(e.Iface, netlink.Addr{Prefix: a})
	}
	return errors.Join(inside.Do(&b), setSysctls(e, ns))
}

// checkLinkLocal refuses a link-local address that an endpoint cannot have.
func (n *Network) checkLinkLocal(list []netip.Addr) error {
	for _, a := range list {
		if a.Is6() && !n.rec.has(v6) {
			return errdefs.New(errdefs.InvalidArgument, "invalid config for network %s: invalid endpoint settings:\nthe network has no addresses of IPv6: link-local address %s", n.rec.Name, a)
		}
	}
	return nil
}
