package network

import (
	"errors"
	"net/netip"
	"slices"
	"sync"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/hostport"
	"github.com/tare-engine/tare/internal/network/firewall"
)

// A published port leads to a container by the packet filter, with the client's address.
// What that cannot do the relay does: from ::1, and between families. By a family whose
// gateway is routed, neither does: the port is opened at the container's own address.

// exits are the ways out of a container.
type exits struct {
	byFamily map[family]*Endpoint // as far as ports of the host can lead to them there
	opens    map[family]bool      // that they cannot, as ports are opened there
	relays   bool                 // a family that leads nowhere is served by the other
	host6    func() bool          // the host has IPv6
}

func (ps *publications) exits(containerID string) exits {
	x := exits{map[family]*Endpoint{}, map[family]bool{}, ps.relay != nil, sync.OnceValue(hostport.Knows6)}
	for _, f := range families {
		switch e := ps.exitOf(containerID, f); {
		case e == nil:
		case e.translates(f):
			x.byFamily[f] = e
		default:
			x.opens[f] = e.network.link != nil
		}
	}
	return x
}

// of is the endpoint at which a port is published: that which leads out by the family of
// the host's address, or else by the other; nil if it cannot be.
func (x exits) of(p Port) *Endpoint {
	f := familyOf(p.HostIP)
	relays := x.relays && relayable(p.Proto)
	switch {
	case x.opens[f]:
		return nil
	case x.byFamily[f] == nil && relays:
		return x.byFamily[opposite(f)]
	case p.HostIP == netip.IPv6Loopback() && !relays:
		return nil
	}
	return x.byFamily[f]
}

// relayable says that the relay knows a protocol.
func relayable(proto string) bool { return proto == "tcp" || proto == "udp" }

// places are the addresses of the host where a wanted port is published. One that names
// none is on all of both families, as far as the container can be reached by them, unless
// its network says another address. IPv6 is left out if neither the container nor the host
// has it.
func (x exits) places(p Port) (all []netip.Addr) {
	if p.HostIP.IsValid() {
		if x.of(p) != nil {
			all = []netip.Addr{p.HostIP}
		}
		return all
	}
	own := x.hostIP()
	for _, f := range families {
		if p.HostIP = own; own.IsUnspecified() {
			p.HostIP = unspecified(f)
		}
		if familyOf(p.HostIP) != f || x.of(p) == nil || f == v6 && x.byFamily[v6] == nil && !x.host6() {
			continue
		}
		all = append(all, p.HostIP)
	}
	return all
}

// hostIP is the address at which the network of the first way out has ports published.
func (x exits) hostIP() netip.Addr {
	for _, f := range families {
		if e := x.byFamily[f]; e != nil {
			return e.network.settings.hostIP
		}
	}
	return netip.Addr{}
}

// unreachable is the error of a wanted port that has no place.
func (x exits) unreachable(p Port) error {
	why := "the container has no way out by the protocol of the host's address"
	switch {
	case x.relays:
		why += ", and " + p.Proto + " is not carried from one to the other"
	case p.HostIP == netip.IPv6Loopback():
		why = "without --userland-proxy nothing is on ::1"
	default:
		why += ", and without --userland-proxy nothing is carried from one to the other"
	}
	return errdefs.New(errdefs.InvalidArgument, "port %d/%s cannot be published: %s", p.Container, p.Proto, why)
}

// way is how a port of an endpoint is served.
type way struct {
	port       Port
	to         netip.AddrPort
	translated bool // by the packet filter
	relayed    bool // what the packet filter leaves
	open       bool // at the container's own address
}

// way is the present one of a port.
func (ps *publications) way(e *Endpoint, p Port) way {
	f := familyOf(p.HostIP)
	w := way{port: p, translated: *e.exit(f) && !p.opened(), open: p.opened() || len(e.network.settings.trusted) > 0}
	if !w.translated && !p.opened() {
		f = opposite(f)
	}
	w.to = netip.AddrPortFrom(e.ip(f).Addr(), p.Container)
	loopback := p.HostIP == netip.IPv6Loopback()
	left := !w.translated || loopback || p.HostIP == netip.IPv6Unspecified()
	w.relayed = ps.relay != nil && relayable(p.Proto) && *e.exit(f) && left && !p.opened()
	w.translated = w.translated && !loopback
	return w
}

func (ps *publications) ways(e *Endpoint, ports []Port) []way {
	all := make([]way, len(ports))
	for i, p := range ports {
		all[i] = ps.way(e, p)
	}
	return all
}

// bindings says ways in the firewall's terms.
func bindings(ways []way) []firewall.Binding {
	var all []firewall.Binding
	open := map[firewall.Binding]bool{}
	for _, w := range ways {
		if w.translated {
			all = append(all, firewall.Binding{Proto: w.port.Proto, From: netip.AddrPortFrom(w.port.HostIP, w.port.Host), To: w.to})
		}
		if b := (firewall.Binding{Proto: w.port.Proto, To: w.to}); w.open && !open[b] {
			open[b] = true
			all = append(all, b)
		}
	}
	return all
}

// serve has ports of an endpoint lead to it.
func (ps *publications) serve(e *Endpoint, ports []Port) error {
	ways := ps.ways(e, ports)
	return errors.Join(ps.wall.Add(bindings(ways)...), ps.relayTo(ways))
}

// relayTo has the relay serve what is its part.
func (ps *publications) relayTo(ways []way) error {
	var errs []error
	for _, w := range ways {
		if !w.relayed {
			continue
		}
		if socket := ps.ports.socket(w.port); socket != nil {
			errs = append(errs, ps.relay.Serve(socket, w.to))
		}
	}
	return errors.Join(errs...)
}

// unserve takes serve back, as far as what the endpoint still has published does not stand
// for the same.
func (ps *publications) unserve(e *Endpoint, ports []Port) error {
	return ps.unserveWays(e, ps.ways(e, ports))
}

// unserveWays is unserve for ways that may have been an endpoint's until now.
func (ps *publications) unserveWays(e *Endpoint, gone []way) error {
	stay := ps.ways(e, ps.portsOf(e))
	still := bindings(stay)
	errs := []error{ps.wall.Remove(slices.DeleteFunc(bindings(gone), func(b firewall.Binding) bool { return slices.Contains(still, b) })...)}
	for _, w := range gone {
		if !w.relayed || slices.Contains(stay, w) {
			continue
		}
		if socket := ps.ports.socket(w.port); socket != nil {
			errs = append(errs, ps.relay.Stop(socket))
		}
	}
	return errors.Join(errs...)
}
