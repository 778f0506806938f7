package network

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/network/bridge"
	"github.com/tare-engine/tare/internal/network/firewall"
	"github.com/tare-engine/tare/internal/network/ipam"
	"github.com/tare-engine/tare/internal/network/vlan"
)

// Network is one network. It does not change, but for being removed.
type Network struct {
	rec      record
	settings settings
	link     *bridge.Link // nil for host and none, if the default network is off, and if it could not be made
	segments []segment
	parent   *vlan.Parent // of macvlan and ipvlan, also while it is not there; nil for others
	removed  bool         // guarded by the table's lock: nothing is attached any more
}

// predefined is the networks that are always there, with their drivers.
var predefined = [...]struct{ name, driver string }{{"bridge", "bridge"}, {"host", "host"}, {"none", "null"}}

// openNetworks reads the records, makes those of the predefined networks that are
// missing, and brings up the links.
func (s *Service) openNetworks() error {
	if err := os.MkdirAll(s.cfg.Dir, 0700); err != nil {
		return err
	}
	have, err := s.readRecords()
	if err != nil {
		return err
	}
	var all []*Network
	for _, p := range predefined {
		n, err := s.openPredefined(p.name, p.driver, have)
		if err != nil {
			return err
		}
		delete(have, p.name)
		all = append(all, n)
	}
	s.set(all)
	for _, rec := range have {
		if rec.Configuration != nil {
			all = append(all, &Network{rec: rec})
			continue
		}
		n, err := newNetwork(rec)
		if err == nil {
			err = s.bringUp(n)
		}
		if err != nil { // it can be seen and removed; its trouble is its containers'
			s.log.Error("network cannot be brought up", "network", rec.Name, "id", rec.ID, "err", err)
			n.link = nil
		}
		all = append(all, n)
	}
	slices.SortFunc(all[len(predefined):], byAge)
	s.set(all)
	return nil
}

func byAge(a, b *Network) int { return a.rec.Created.Compare(b.rec.Created) }

func (s *Service) openPredefined(name, driver string, have map[string]record) (*Network, error) {
	rec, ok := have[name]
	if !ok {
		rec = record{Version: recordVersion, ID: ident.New(), Name: name, Driver: driver, Created: time.Now().UTC()}
	}
	n := &Network{rec: rec, settings: s.cfg.settings()}
	if name == "bridge" && s.cfg.Link != "none" {
		if err := s.openBridge(n, have); err != nil {
			return nil, err
		}
	}
	if ok && n.rec.Gateway == rec.Gateway && n.rec.Gateway6 == rec.Gateway6 {
		return n, nil
	}
	return n, s.putRecord(n.rec)
}

// openBridge settles the default network's addresses and makes its link.
func (s *Service) openBridge(n *Network, others map[string]record) (err error) {
	if n.rec.Gateway, err = s.gateway(n.rec.Gateway); err != nil {
		return err
	}
	if n.rec.Gateway6, err = s.gateway6(n.rec.Gateway6, others); err != nil {
		return err
	}
	if err := n.settings.check(true, n.rec.has(v6)); err != nil {
		return err
	}
	if err := n.openSubnets(); err != nil {
		return err
	}
	return s.bringUp(n)
}

// linked says that there are links of the network's containers.
func (n *Network) linked() bool { return n.link != nil || n.parent != nil }

// bringUp makes the network's link, or puts it right.
func (s *Service) bringUp(n *Network) (err error) {
	if n.settings.vlan != nil {
		return s.hang(n)
	}
	n.link, err = bridge.Ensure(s.host, bridge.Options{
		Name: n.settings.link, Alias: s.cfg.alias(), MAC: n.linkMAC(), Gateways: n.linkAddrs(), KeepAddrs: n.settings.inhibit, MTU: n.settings.mtu, NoICC: !n.settings.icc,
	})
	return err
}

// takeDown removes the network's link.
func (s *Service) takeDown(n *Network) error {
	switch {
	case n.link != nil:
		return n.link.Remove(s.host)
	case n.parent != nil:
		return s.unhang(n)
	}
	return nil
}

// linkAddrs are the addresses that the network's link has: none of a family in which
// it leads nowhere, or in which somebody else gives it one.
func (n *Network) linkAddrs() (all []netip.Prefix) {
	for _, f := range families {
		if g := *n.rec.gateway(f); g.IsValid() && !(f == v4 && n.settings.inhibit) {
			all = append(all, g)
		}
	}
	return all
}

// gated says that the network's link has an address of each family that containers have
// one of.
func (n *Network) gated() bool {
	return !slices.ContainsFunc(families[:], func(f family) bool {
		return n.rec.has(f) && !slices.ContainsFunc(n.link.Gateways, func(g netip.Prefix) bool { return familyOf(g.Addr()) == f })
	})
}

// apart says that the network's containers don't reach each other, by their own addresses.
// They are beside the bridge then, if they can be: where bridges are filtered
// (br_netfilter), what is translated from a port of the bridge to another one is not routed
// but bridged, which keeps them from published ports too.
func (n *Network) apart() bool { return !n.settings.icc }

// linkMAC is the link's hardware address, which follows from the first of its network's,
// so that containers find the one they know if the link was lost.
func (n *Network) linkMAC() net.HardwareAddr {
	first := n.rec.addressings()[0]
	if first.gateway.IsValid() {
		return bridge.MACOf(first.gateway)
	}
	return bridge.MACOf(first.subnet.Addr())
}

// gateway returns the address of the default network's link: the configured one,
// the one of last time if it is still free, or a new one.
func (s *Service) gateway(last netip.Prefix) (netip.Prefix, error) {
	if s.cfg.BIP.IsValid() {
		if !s.cfg.BIP.Addr().Is4() || s.cfg.BIP.Bits() > 30 {
			return netip.Prefix{}, fmt.Errorf("bip %s is not an IPv4 address with room for containers", s.cfg.BIP)
		}
		return s.cfg.BIP, nil
	}
	link, _, err := s.host.LinkByName(s.cfg.Link)
	if err != nil {
		return netip.Prefix{}, err
	}
	inUse, err := subnetsInUse(s.host, link.Index, v4)
	if err != nil {
		return netip.Prefix{}, err
	}
	if last.IsValid() && !ipam.Overlaps(last.Masked(), inUse) {
		return last, nil
	}
	subnet, err := ipam.Choose(s.cfg.ranges(v4), inUse)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(ipam.First(subnet), subnet.Bits()), nil
}

// gateway6 is gateway for IPv6; zero if the default network is to have none. others are
// networks whose links may not be there yet.
func (s *Service) gateway6(last netip.Prefix, others map[string]record) (netip.Prefix, error) {
	link, _, err := s.host.LinkByName(s.cfg.Link)
	if err != nil {
		return netip.Prefix{}, err
	}
	inUse, err := subnetsInUse(s.host, link.Index, v6)
	if err != nil {
		return netip.Prefix{}, err
	}
	if !s.cfg.IPv6 && !(s.cfg.IPv6Auto && (last.IsValid() || slices.ContainsFunc(inUse, worldwide))) {
		return netip.Prefix{}, nil
	}
	for _, r := range others {
		if r.Gateway6.IsValid() && r.Gateway6 != last {
			inUse = append(inUse, r.Gateway6.Masked())
		}
	}
	subnet := s.cfg.Subnet6
	switch {
	case subnet.IsValid() && ipam.Overlaps(subnet.Masked(), inUse):
		return netip.Prefix{}, fmt.Errorf("fixed-cidr-v6 %s overlaps with a route of the host or another network", subnet)
	case subnet.IsValid():
	case last.IsValid() && !ipam.Overlaps(last.Masked(), inUse):
		return last, nil
	default:
		if subnet, err = ipam.Choose(s.cfg.ranges(v6), inUse); err != nil {
			return netip.Prefix{}, err
		}
	}
	return netip.PrefixFrom(ipam.First(subnet), subnet.Bits()), nil
}

// worldwide recognizes the destination of a route to the world.
func worldwide(dst netip.Prefix) bool {
	world := netip.MustParsePrefix("2000::/3") // RFC 4291, section 2.4
	return dst.Overlaps(world) && dst.Bits() <= world.Bits()
}

// subnetsInUse lists the destinations of the host's routes over other links
// than our own.
func subnetsInUse(c *netlink.Conn, own int, f family) ([]netip.Prefix, error) {
	routes, err := c.Routes(int(f))
	if err != nil {
		return nil, err
	}
	var inUse []netip.Prefix
	for _, r := range routes {
		if own == 0 || r.Index != own {
			inUse = append(inUse, r.Dst)
		}
	}
	return inUse, nil
}

// rules is what the firewall is to know of the networks.
func (s *Service) rules() []firewall.Network {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []firewall.Network
	for _, n := range s.all() {
		if n.link == nil || n.removed {
			continue
		}
		f := n.rules()
		for e := range s.every() {
			if e.network == n && e.Beside {
				f.Beside = append(f.Beside, e.Link)
			}
		}
		all = append(all, f)
	}
	return all
}

// exit is the gateway of a container with that address; zero if none leads out.
func (n *Network) exit(a netip.Addr) netip.Addr {
	if n.rec.Internal {
		return netip.Addr{}
	}
	s, _ := n.segmentOf(a)
	return s.gateway
}

// Predefined reports whether the network of that name is always there.
func Predefined(name string) bool {
	return slices.ContainsFunc(predefined[:], func(p struct{ name, driver string }) bool { return p.name == name })
}

func (n *Network) predefined() bool { return Predefined(n.rec.Name) }

// rules is what the firewall is to know of a network without endpoints.
func (n *Network) rules() firewall.Network {
	gateways := map[family]netip.Addr{}
	for _, g := range slices.Backward(n.link.Gateways) { // the first counts
		gateways[familyOf(g.Addr())] = g.Addr()
	}
	return firewall.Network{
		Name: n.link.Name, Link: n.link.Name, Subnets: n.rec.prefixes(),
		ICC: n.settings.icc, Masquerade: n.settings.masquerade, Sources: n.settings.sources, Gateways: gateways, Internal: n.rec.Internal,
		Unprotected: n.settings.having(modeUnprotected), Routed: n.settings.having(modeRouted), Trusted: n.settings.trusted,
	}
}
