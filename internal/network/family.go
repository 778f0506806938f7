package network

import (
	"net/netip"

	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/network/bridge"
	"github.com/tare-engine/tare/internal/network/firewall"
)

// family is a version of the Internet protocol. A network has addresses of one or of
// both, and a container a way out by each, which may be different networks.
type family = firewall.Family

const (
	v4 family = 4
	v6 family = 6
)

var families = [...]family{v4, v6}

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return v4
	}
	return v6
}

// unspecified is the address that stands for all of a family.
func unspecified(f family) netip.Addr { return of(f, netip.IPv4Unspecified(), netip.IPv6Unspecified()) }

// opposite is the other family.
func opposite(f family) family { return of(f, v6, v4) }

// of chooses between what there is once of each family.
func of[T any](f family, four, six T) T {
	if f == v4 {
		return four
	}
	return six
}

func (r *record) gateway(f family) *netip.Prefix { return of(f, &r.Gateway, &r.Gateway6) }
func (r *record) bare(f family) *netip.Prefix    { return of(f, &r.Subnet, &r.Subnet6) }
func (r *record) chosen(f family) *bool          { return of(f, &r.Chosen, &r.Chosen6) }

// asked is what was said of the subnet of a family; the zero value if nothing was.
func (r *record) asked(f family) network.IPAMConfig {
	for _, c := range r.IPAM.Config {
		if c.Subnet.IsValid() && familyOf(c.Subnet.Addr()) == f {
			return c
		}
	}
	return network.IPAMConfig{}
}

func (r Request) ip(f family) netip.Addr         { return of(f, r.IP, r.IP6) }
func (r *Record) ip(f family) *netip.Prefix      { return of(f, &r.IP, &r.IP6) }
func (r *Record) exit(f family) *bool            { return of(f, &r.Exit, &r.Exit6) }
func (e *Endpoint) gateway(f family) *netip.Addr { return of(f, &e.Gateway, &e.Gateway6) }

// addrs are the endpoint's addresses, that of IPv4 first.
func (r *Record) addrs() (all []netip.Addr) {
	for _, f := range families {
		if ip := *r.ip(f); ip.IsValid() {
			all = append(all, ip.Addr())
		}
	}
	return all
}

// linkAddrs are the same in the driver's words.
func (e *Endpoint) linkAddrs() (all []bridge.Addr) {
	for _, f := range families {
		if ip := *e.ip(f); ip.IsValid() {
			all = append(all, bridge.Addr{Prefix: ip, Gateway: *e.gateway(f), Exit: *e.exit(f)})
		}
	}
	return all
}
