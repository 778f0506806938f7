package firewall

import (
	"net/netip"
	"slices"

	"github.com/tare-engine/tare/internal/linux/nft"
)

// userChain is the administrator's: never written to.
const userChain = "tare-user"

// table describes the whole table in the present state.
//
// Preconditions: f.mu is held.
func (f *Firewall) table() (*nft.Table, error) {
	bindings := make([]Binding, 0, len(f.bound))
	for b := range f.bound {
		bindings = append(bindings, b)
	}
	any, addr, err := split(bindings)
	if err != nil {
		return nil, err
	}
	ports, addrPorts := *f.ports, *f.addrPorts
	ports.Elements, addrPorts.Elements = any, addr

	t := &nft.Table{Name: f.cfg.Table, Sets: []*nft.Set{&ports, &addrPorts}}
	forward := nft.Chain{Name: "forward", Hook: nft.Forward, Priority: nft.PriorityFilter,
		Rules: []nft.Rule{{nft.Jump(userChain)}}}
	postrouting := nft.Chain{Name: "postrouting", Hook: nft.NATPostrouting, Priority: nft.PrioritySrcNAT}
	var to []nft.Chain
	var out []nft.Rule // of networks without a way out; these come first
	for _, n := range f.state.Networks {
		links := nft.LinkSet(linkSet(n))
		for _, l := range append([]string{n.Link}, n.Beside...) {
			links.Elements = append(links.Elements, nft.LinkElement(l))
		}
		t.Sets = append(t.Sets, links)
		if n.Internal {
			out = append(out, nft.Rule{nft.IIfIn(links), nft.OIfNotIn(links), nft.Drop()})
		}
		forward.Rules = append(forward.Rules, nft.Rule{nft.OIfIn(links), nft.Jump("to-" + n.Name)})
		to = append(to, toNetwork(n, links))
		postrouting.Rules = append(postrouting.Rules, sources(n, links)...)
	}
	forward.Rules = slices.Insert(forward.Rules, 1, out...)
	if f.state.Guard {
		forward.Rules = append(forward.Rules, nft.Rule{nft.NotGroups(f.cfg.Group), nft.Drop()})
	}
	t.Chains = append([]nft.Chain{
		{Name: userChain, Keep: true},
		{Name: "raw", Hook: nft.Prerouting, Priority: nft.PriorityRaw, Rules: martians()},
		f.publish(),
		{Name: "prerouting", Hook: nft.NATPrerouting, Priority: nft.PriorityDstNAT, Rules: []nft.Rule{{nft.DstLocal(), nft.Jump("publish")}}},
		{Name: "output", Hook: nft.NATOutput, Priority: nft.PriorityDstNAT, Rules: []nft.Rule{{nft.DstLocal(), nft.Jump("publish")}}},
	}, append(to, forward, postrouting)...)
	return t, nil
}

// linkSet names the set of a network's links.
func linkSet(n Network) string { return "links-" + n.Name }

// loopback is 127.0.0.0/8.
func loopback() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8) }

// martians drops what pretends to be loopback and came from outside. The kernel
// does so only for links without route_localnet.
func martians() []nft.Rule {
	return []nft.Rule{
		{nft.NotIIfName("lo"), nft.DstIn(loopback()), nft.Drop()},
		{nft.NotIIfName("lo"), nft.SrcIn(loopback()), nft.Drop()},
	}
}

// publish translates destinations by the maps, one address before all.
func (f *Firewall) publish() nft.Chain {
	return nft.Chain{Name: "publish", Rules: []nft.Rule{
		{nft.DNATByAddrPort(f.addrPorts)},
		{nft.DNATByPort(f.ports)},
	}}
}

// toNetwork says what reaches the containers of a network.
func toNetwork(n Network, links *nft.Set) nft.Chain {
	c := nft.Chain{Name: "to-" + n.Name, Rules: []nft.Rule{{nft.Established(), nft.Accept()}}}
	if !n.Internal {
		c.Rules = append(c.Rules, nft.Rule{nft.DNATed(), nft.Accept()})
	}
	if n.ICC {
		c.Rules = append(c.Rules, nft.Rule{nft.IIfIn(links), nft.Accept()})
	}
	c.Rules = append(c.Rules, nft.Rule{nft.Drop()})
	return c
}

// sources says which packets get another source.
func sources(n Network, links *nft.Set) []nft.Rule {
	var rules []nft.Rule
	if n.Masquerade && !n.Internal { // out into the world
		rules = append(rules, nft.Rule{nft.SrcIn(n.Subnet), nft.OIfNotIn(links), nft.Masquerade()})
	}
	return append(rules,
		// From the host's loopback to a published port.
		nft.Rule{nft.SrcIn(loopback()), nft.OIfIn(links), nft.Masquerade()},
		// Container to container by way of a published port of the host: the
		// answer must come back here to be translated.
		nft.Rule{nft.SrcIn(n.Subnet), nft.OIfIn(links), nft.DNATed(), nft.Masquerade()},
	)
}
