package network

import (
	"errors"
	"net/netip"

	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/network/ipam"
)

// segment is a subnet of a network: the addresses that its containers get, and the gateway's.
type segment struct {
	*ipam.Pool
	gateway netip.Addr // zero: none
}

func (s segment) family() family { return familyOf(s.Subnet().Addr()) }

// addressing is a subnet as it is written down.
type addressing struct {
	subnet  netip.Prefix
	gateway netip.Addr         // zero: none
	asked   network.IPAMConfig // the zero value if nobody has named it
}

// addressings are a network's subnets, those of IPv4 first.
func (r *record) addressings() (all []addressing) {
	for _, f := range families {
		first := addressing{subnet: *r.bare(f), asked: r.asked(f)}
		if g := *r.gateway(f); g.IsValid() {
			first.subnet, first.gateway = g.Masked(), g.Addr()
		}
		if !first.subnet.IsValid() {
			continue
		}
		all = append(all, first)
		for _, c := range r.IPAM.Config {
			if c.Subnet.IsValid() && familyOf(c.Subnet.Addr()) == f && c.Subnet != first.asked.Subnet {
				all = append(all, addressing{c.Subnet.Masked(), c.Gateway, c})
			}
		}
	}
	return all
}

// prefixes are a network's subnets, those of IPv4 first.
func (r *record) prefixes() (all []netip.Prefix) {
	for _, a := range r.addressings() {
		all = append(all, a.subnet)
	}
	return all
}

// has says that a network has addresses of a family.
func (r *record) has(f family) bool { return r.gateway(f).IsValid() || r.bare(f).IsValid() }

// openSubnets makes the pools of a network's subnets, without what is not for
// containers.
func (n *Network) openSubnets() error {
	for _, a := range n.rec.addressings() {
		pool, err := poolOf(a.subnet, a.asked)
		if err != nil {
			return err
		}
		if a.gateway.IsValid() {
			if err := pool.Claim(a.gateway); err != nil {
				return err
			}
		}
		n.segments = append(n.segments, segment{pool, a.gateway})
	}
	return nil
}

// segmentOf is the subnet that an address is of.
func (n *Network) segmentOf(a netip.Addr) (segment, bool) {
	for _, s := range n.segments {
		if s.Subnet().Contains(a) {
			return s, true
		}
	}
	return segment{}, false
}

// take finds a free address of a family, in the first subnet that has one.
func (n *Network) take(f family) (a netip.Addr, err error) {
	for _, s := range n.segments {
		if s.family() != f {
			continue
		}
		if a, err = s.Take(); err == nil {
			return a, nil
		}
	}
	return a, err
}

// claimIP marks one address as used.
func (n *Network) claimIP(a netip.Addr) error {
	s, ok := n.segmentOf(a)
	if !ok {
		return errors.New("the network has no such addresses any more")
	}
	return s.Claim(a)
}

// giveBack frees addresses of an endpoint that has no link.
func (n *Network) giveBack(addrs []netip.Addr) {
	for _, a := range addrs {
		if s, ok := n.segmentOf(a); ok {
			s.Release(a)
		}
	}
}
