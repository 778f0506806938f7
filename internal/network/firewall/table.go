package firewall

import (
	"errors"
	"maps"
	"net/netip"
	"slices"

	"github.com/tare-engine/tare/internal/linux/nft"
)

// userChain is the administrator's: never written to.
const userChain = "tare-user"

// sets are those that all networks share.
type sets struct {
	ports     byFamily // (protocol, port) of all addresses → container
	addrPorts byFamily // (address, protocol, port) → container
	open      byFamily // (address, protocol, port) of containers that are reached at their own
	links     *nft.Set // of all networks
	bridges   *nft.Set // in and out of a bridge of somebody else's
	only4     *nft.Set // links beside the bridges of networks without IPv6
	to        *nft.Set // link → chain of what goes out there
	from      *nft.Set // link → chain of what comes in there; of internal networks
	inside    *nft.Set // link → chain of what comes in there, before connections are tracked
	sources   byFamily // subnet → chain of what leaves it
	linked    *nft.Set // ways between containers that do not reach each other otherwise
}

// byFamily is a set for addresses of each family.
type byFamily map[nft.Family]*nft.Set

var families = []nft.Family{nft.IPv4, nft.IPv6}

// both makes such sets. That of IPv6 has a name with a 6.
func both(name string, newSet func(string, nft.Family) *nft.Set) byFamily {
	return byFamily{nft.IPv4: newSet(name, nft.IPv4), nft.IPv6: newSet(name+"6", nft.IPv6)}
}

// newSets returns them without elements.
func newSets() sets {
	return sets{
		ports: both("ports", nft.PortMap), addrPorts: both("address-ports", nft.AddrPortMap), open: both("open", nft.AddrPortSet),
		links: nft.LinkSet("links"), bridges: nft.LinkPairs("bridges"), only4: nft.LinkSet("ipv4-only"),
		to: nft.LinkJumps("to"), from: nft.LinkJumps("from"), inside: nft.LinkJumps("inside"), sources: both("sources", nft.PrefixJumps),
		linked: nft.WaySet("linked", nft.IPv4),
	}
}

func (s sets) all() []*nft.Set {
	list := append(s.published(), s.links, s.bridges, s.only4, s.to, s.from, s.inside, s.linked)
	for _, f := range families {
		list = append(list, s.sources[f])
	}
	return list
}

// published are the maps of published ports, and the sets of opened ones.
func (s sets) published() (list []*nft.Set) {
	for _, f := range families {
		list = append(list, s.ports[f], s.addrPorts[f], s.open[f])
	}
	return list
}

// member is an element of a set.
type member struct {
	set     *nft.Set
	element nft.Element
	subnet  netip.Prefix // of which the element is a part, of those that are of one
}

// table describes the whole table in the present state.
//
// Preconditions: f.mu is held.
func (f *Firewall) table() (*nft.Table, error) {
	bindings := make([]Binding, 0, len(f.bound))
	for b := range f.bound {
		bindings = append(bindings, b)
	}
	s := newSets()
	if err := errors.Join(s.bind(bindings), s.link(slices.Collect(maps.Keys(f.linked)))); err != nil {
		return nil, err
	}
	for index := range f.bridges {
		s.bridges.Elements = append(s.bridges.Elements, nft.LinkPair(index, index))
	}
	t := &nft.Table{Name: f.cfg.Table, Sets: s.all(), Chains: f.chains(s)}
	for _, n := range f.state.Networks {
		t.Sets = append(t.Sets, nft.LinkSet(linkSet(n)))
		t.Chains = append(t.Chains, chainsOf(n)...)
	}
	byName := map[string]*nft.Set{}
	for _, set := range t.Sets {
		byName[set.Name] = set
	}
	for i, n := range f.state.Networks {
		for _, m := range membersOf(n, s) {
			if m.subnet.IsValid() && overlaps(m.subnet, f.state.Networks[:i]) {
				continue
			}
			set := byName[m.set.Name]
			set.Elements = append(set.Elements, m.element)
		}
	}
	return t, nil
}

// overlaps reports whether another network has addresses of this one. None is
// made like that; but another --bip may come upon those that were, and the kernel
// refuses the whole table if two elements overlap.
func overlaps(subnet netip.Prefix, others []Network) bool {
	return slices.ContainsFunc(others, func(o Network) bool { return slices.ContainsFunc(o.Subnets, subnet.Overlaps) })
}

// chains are those that all networks share.
func (f *Firewall) chains(s sets) []nft.Chain {
	forward := []nft.Rule{{nft.Jump(userChain)}, {nft.JumpByIIf(s.from)}, {nft.JumpByOIf(s.to)}}
	var publish, postrouting []nft.Rule
	for _, family := range families {
		if f.state.Guard[family] {
			forward = append(forward, nft.Rule{nft.Of(family), nft.NotGroups(f.cfg.Group), nft.NotPairIn(s.bridges), nft.Drop()})
		}
		// One address before all.
		publish = append(publish, nft.Rule{nft.DNATByAddrPort(s.addrPorts[family], family)}, nft.Rule{nft.DNATByPort(s.ports[family], family)})
		postrouting = append(postrouting, nft.Rule{nft.JumpBySrc(s.sources[family], family)})
	}
	// From the host's loopback to a published port.
	postrouting = append(postrouting, nft.Rule{nft.SrcIn(loopback()), nft.OIfIn(s.links), nft.Masquerade()})
	// The kernel routes no answer to ::1, so clients there are refused rather than left waiting.
	publish = append([]nft.Rule{{nft.DstIn(loopback6()), nft.Return()}}, publish...)
	translate := []nft.Rule{{nft.DstLocal(), nft.Jump("publish")}}
	return []nft.Chain{
		{Name: userChain, Keep: true},
		{Name: "raw", Hook: nft.Prerouting, Priority: nft.PriorityRaw, Rules: append(s.martians(), nft.Rule{nft.FromGroup(f.cfg.Group), nft.JumpByIIf(s.inside)})},
		{Name: "publish", Rules: publish},
		{Name: "prerouting", Hook: nft.NATPrerouting, Priority: nft.PriorityDstNAT, Rules: translate},
		{Name: "output", Hook: nft.NATOutput, Priority: nft.PriorityDstNAT, Rules: translate},
		{Name: "forward", Hook: nft.Forward, Priority: nft.PriorityFilter, Rules: forward},
		{Name: "postrouting", Hook: nft.NATPostrouting, Priority: nft.PrioritySrcNAT, Rules: postrouting},
	}
}

// The names of what a network has of its own.
func linkSet(n Network) string      { return "links-" + n.Name }
func toChain(n Network) string      { return "to-" + n.Name }
func fromChain(n Network) string    { return "from-" + n.Name }
func sourcesChain(n Network) string { return "sources-" + n.Name }
func insideChain(n Network) string  { return "inside-" + n.Name }

// chainsOf are the chains of a network.
func chainsOf(n Network) []nft.Chain {
	links := nft.LinkSet(linkSet(n))
	list := []nft.Chain{toNetwork(n, links), sources(n, links)}
	if n.ICC {
		list = append(list, untracked(n))
	}
	if n.Internal {
		list = append(list, nft.Chain{Name: fromChain(n), Rules: []nft.Rule{{nft.OIfNotIn(links), nft.Drop()}}})
	}
	return list
}

// membersOf are the elements that lead to the chains of a network.
func membersOf(n Network, s sets) []member {
	var list []member
	for _, l := range append([]string{n.Link}, n.Beside...) {
		list = append(list, linkMembers(n, l, s)...)
	}
	for _, p := range n.Subnets {
		for _, e := range nft.PrefixJump(p, sourcesChain(n)) {
			list = append(list, member{s.sources[nft.FamilyOf(p.Addr())], e, p})
		}
	}
	return list
}

// linkMembers are the elements of one of a network's links.
func linkMembers(n Network, link string, s sets) []member {
	list := []member{
		{set: nft.LinkSet(linkSet(n)), element: nft.LinkElement(link)},
		{set: s.links, element: nft.LinkElement(link)},
		{set: s.to, element: nft.LinkJump(link, toChain(n))},
	}
	if link != n.Link && !slices.ContainsFunc(n.Subnets, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		list = append(list, member{set: s.only4, element: nft.LinkElement(link)})
	}
	if n.ICC {
		list = append(list, member{set: s.inside, element: nft.LinkJump(link, insideChain(n))})
	}
	if n.Internal {
		list = append(list, member{set: s.from, element: nft.LinkJump(link, fromChain(n))})
	}
	return list
}

// loopback is 127.0.0.0/8.
func loopback() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8) }

// loopback6 is ::1.
func loopback6() netip.Prefix { return netip.PrefixFrom(netip.IPv6Loopback(), 128) }

// martians drops what pretends to be loopback and came from outside, which the kernel
// does for links without route_localnet only; and IPv6 where there is none.
func (s sets) martians() []nft.Rule {
	return []nft.Rule{
		{nft.Of(nft.IPv6), nft.IIfIn(s.only4), nft.Drop()},
		{nft.NotIIfName("lo"), nft.DstIn(loopback()), nft.Drop()},
		{nft.NotIIfName("lo"), nft.SrcIn(loopback()), nft.Drop()},
	}
}

// untracked spares packets between containers of a network the tracking of connections: the
// filter lets them through whatever they belong to, and translates none. It sees them where
// bridges are filtered (br_netfilter), and beside the bridge. What goes to the host is tracked,
// by whatever address, which may be one that somebody else has given it.
func untracked(n Network) nft.Chain {
	c := nft.Chain{Name: insideChain(n)}
	for _, p := range n.Subnets {
		c.Rules = append(c.Rules, nft.Rule{nft.SrcIn(p), nft.DstIn(p), nft.DstNotLocal(), nft.Notrack()})
	}
	return c
}

// toNetwork says what reaches the containers of a network.
func toNetwork(n Network, links *nft.Set) nft.Chain {
	c := nft.Chain{Name: toChain(n), Rules: []nft.Rule{{nft.Established(), nft.Accept()}}}
	if !n.Internal {
		c.Rules = append(c.Rules, nft.Rule{nft.DNATed(), nft.Accept()})
	}
	for _, family := range families {
		if !n.Internal {
			c.Rules = append(c.Rules, direct(n, links, family)...)
		}
	}
	if n.ICC {
		c.Rules = append(c.Rules, nft.Rule{nft.IIfIn(links), nft.Accept()})
	} else {
		c.Rules = append(c.Rules, nft.Rule{nft.IIfIn(links), nft.WayIn(newSets().linked, nft.IPv4), nft.Accept()})
	}
	c.Rules = append(c.Rules, nft.Rule{nft.Drop()})
	return c
}

// direct says what of a family reaches the containers of a network at their own addresses.
func direct(n Network, links *nft.Set, family nft.Family) (rules []nft.Rule) {
	opened := nft.DstPortIn(newSets().open[family], family)
	switch {
	case n.Unprotected[family]:
		return []nft.Rule{{nft.Of(family), nft.IIfNotIn(newSets().links), nft.Accept()}}
	case n.Routed[family]:
		return []nft.Rule{{nft.IIfNotIn(links), opened, nft.Accept()}, {nft.ICMP(family), nft.Accept()}}
	}
	for _, link := range n.Trusted {
		rules = append(rules, nft.Rule{nft.IIfName(link), opened, nft.Accept()})
	}
	return rules
}

// sources says which packets from a network's subnets get another source.
func sources(n Network, links *nft.Set) nft.Chain {
	c := nft.Chain{Name: sourcesChain(n)}
	for _, family := range families {
		if n.Masquerade && !n.Internal && !n.Routed[family] { // out into the world
			hide := nft.Masquerade()
			if a, ok := n.Sources[family]; ok {
				hide = nft.SNAT(a)
			}
			c.Rules = append(c.Rules, nft.Rule{nft.Of(family), nft.OIfNotIn(links), hide})
		}
	}
	// Container to container by way of a published port of the host: the answer
	// must come back here to be translated. (Links beside the bridge have no address that
	// the kernel could take.)
	for _, family := range families {
		hide := nft.Masquerade()
		if a, ok := n.Gateways[family]; ok {
			hide = nft.SNAT(a)
		}
		c.Rules = append(c.Rules, nft.Rule{nft.Of(family), nft.OIfIn(links), nft.DNATed(), hide})
	}
	return c
}
