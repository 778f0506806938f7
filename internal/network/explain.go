package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/hostport"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/linux/ruleset"
	"github.com/tare-engine/tare/internal/linux/sysctl"
	"github.com/tare-engine/tare/internal/network/explain"
	"github.com/tare-engine/tare/internal/network/trace"
)

// Explain says what becomes of a packet, and why. pid is the process of a container,
// in whose namespace its sockets are looked at; 0 if there is none.
func (s *Service) Explain(o api.NetworkExplainOptions, pid func(containerID string) int) (api.NetworkExplanation, error) {
	if err := errors.Join(s.unseen(o.From), s.unseen(o.To)); err != nil {
		return api.NetworkExplanation{}, err
	}
	f, err := s.facts()
	if err != nil {
		return api.NetworkExplanation{}, err
	}
	for i := range f.Endpoints {
		f.Endpoints[i].PID = pid(f.Endpoints[i].ContainerID)
	}
	return explain.Explain(f, o)
}

// unseen refuses a container whose packets do not pass the host's rules.
func (t *table) unseen(containerID string) error {
	list := t.Endpoints(containerID)
	if len(list) == 0 || slices.ContainsFunc(list, func(e *Endpoint) bool { return e.network.parent == nil }) {
		return nil
	}
	return errdefs.New(errdefs.InvalidArgument, "container %s is in the %s network %s only: its packets do not pass the host's firewall", list[0].Name, list[0].network.rec.Driver, list[0].NetworkName)
}

// facts are what an explanation is made of.
func (s *Service) facts() (explain.Facts, error) {
	f := explain.Facts{Table: s.cfg.table()}
	var err error
	if f.Rules, err = ruleset.Read(); err != nil {
		return f, err
	}
	h, err := newHostFacts(s.host, s.cfg.alias())
	if err != nil {
		return f, err
	}
	f.Host = h
	for _, l := range h.links {
		f.Links = append(f.Links, trace.Link{Name: l.Name, Index: l.Index, Group: l.Group, Kind: l.Kind})
	}
	for _, v := range families {
		have := of(v, &f.V4, &f.V6)
		have.Outside = h.outside(v)
		forward, err := parameter(forwardingOf(v))
		if err != nil {
			return f, err
		}
		bridged, err := parameter(of(v, "net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"))
		if err != nil {
			return f, err
		}
		have.Forwarding, have.Bridged = forward != "0" && forward != "", bridged == "1"
	}
	f.Networks, f.Endpoints = s.explained()
	f.Relays = s.relayed()
	return f, nil
}

// parameter reads a parameter of the kernel's; empty if it has none of that name.
func parameter(name string) (string, error) {
	v, err := sysctl.Read(name)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return v, err
}

// explained are the networks and endpoints in the words of package explain.
func (s *Service) explained() (networks []explain.Network, endpoints []explain.Endpoint) {
	for _, n := range s.all() {
		if n.link == nil {
			continue
		}
		for _, g := range n.rec.addressings() {
			networks = append(networks, explain.Network{Name: n.rec.Name, Link: n.link.Name, Subnet: g.subnet, Gateway: g.gateway,
				ICC: n.settings.icc, Internal: n.rec.Internal})
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := range s.every() {
		if e.ahead || e.network.parent != nil {
			continue
		}
		x := explain.Endpoint{ContainerID: e.ContainerID, Name: e.Name, Network: e.NetworkName, Link: e.Link, Beside: e.Beside}
		if e.network.link == nil {
			endpoints = append(endpoints, x)
		}
		for _, a := range e.addrs() {
			f := familyOf(a)
			x.IP, x.Exit, x.Ports = a, *e.exit(f), nil
			for _, p := range e.Ports {
				if familyOf(p.HostIP) == f && !p.opened() {
					x.Ports = append(x.Ports, explain.Port{Proto: p.Proto, Host: netip.AddrPortFrom(p.HostIP, p.Host), Container: p.Container})
				}
			}
			endpoints = append(endpoints, x)
		}
	}
	return networks, endpoints
}

// relayed are the ports that the relay serves, in the words of package explain.
func (s *Service) relayed() (all []explain.Relay) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := range s.every() {
		for _, w := range s.ways(e, e.Ports) {
			if w.relayed {
				all = append(all, explain.Relay{Name: e.Name, Proto: w.port.Proto, Host: netip.AddrPortFrom(w.port.HostIP, w.port.Host), To: w.to})
			}
		}
	}
	return all
}

// outside names the link to a neighbour of the host; empty if it has none.
func (s *Service) outside(f family) string {
	h, err := newHostFacts(s.host, s.cfg.alias())
	if err != nil {
		return ""
	}
	a := h.outside(f)
	if !a.IsValid() {
		return ""
	}
	return h.Via(a)
}

// hostFacts asks the kernel of routes, addresses and sockets.
type hostFacts struct {
	conn  *netlink.Conn
	links []netlink.Link
	alias string // of our links
}

var _ explain.Host = (*hostFacts)(nil)

func newHostFacts(c *netlink.Conn, alias string) (*hostFacts, error) {
	links, err := c.Links()
	return &hostFacts{c, links, alias}, err
}

func (h *hostFacts) Type(a netip.Addr) string {
	if a.IsMulticast() {
		return "multicast"
	}
	_, local, _, err := h.conn.RouteTo(a)
	if a.IsLoopback() || err == nil && local {
		return "local"
	}
	return "unicast"
}

func (h *hostFacts) Via(a netip.Addr) string {
	r, _, ok, err := h.conn.RouteTo(a)
	if err != nil || !ok {
		return ""
	}
	return h.byIndex(r.Index).Name
}

func (h *hostFacts) byIndex(index int) netlink.Link {
	for _, l := range h.links {
		if l.Index == index {
			return l
		}
	}
	return netlink.Link{}
}

func (h *hostFacts) Addr(link string, like netip.Addr) netip.Addr {
	for _, l := range h.links {
		if l.Name != link {
			continue
		}
		addrs, _ := h.conn.Addrs(l.Index)
		for _, a := range addrs {
			if familyOf(a.Addr()) == familyOf(like) && !a.Addr().IsLinkLocalUnicast() {
				return a.Addr()
			}
		}
	}
	return netip.Addr{}
}

func (h *hostFacts) Source(dst netip.Addr) netip.Addr {
	r, _, _, _ := h.conn.RouteTo(dst)
	return r.Src
}

func (h *hostFacts) Listener(pid int, proto string, at netip.AddrPort) (program string, elsewhere []netip.AddrPort, err error) {
	list, err := hostport.Listeners(pid, proto, at.Port())
	for _, l := range list {
		if !l.Receives(at.Addr()) {
			elsewhere = append(elsewhere, l.Addr)
			continue
		}
		owner, name := hostport.Owner(l.Inode)
		if program = "a process"; owner != 0 {
			program = fmt.Sprintf("process %s (%d)", name, owner)
		}
		return program, nil, err
	}
	return "", elsewhere, err
}

// somewhere is an address in the world: of IPv6 a router may be known only by one that is
// of its link. It is of those for documents (RFC 9637).
var somewhere = netip.MustParseAddr("3fff::1")

// outside is a neighbour of the host: the router to the world, or else one that a
// link without containers may have. It may be somebody behind the router.
func (h *hostFacts) outside(f family) (found netip.Addr) {
	routes, err := h.conn.Routes(int(f))
	if err != nil {
		return netip.Addr{}
	}
	routed := false
	for _, r := range routes {
		l := h.byIndex(r.Index)
		if l.Name == "lo" || strings.HasPrefix(l.Alias, h.alias) {
			continue
		}
		switch own := h.Addr(l.Name, unspecified(f)); {
		case r.Dst.Bits() == 0 && r.Gateway.IsValid() && !r.Gateway.IsLinkLocalUnicast():
			return r.Gateway
		case r.Dst.Bits() == 0:
			routed = true
		case !found.IsValid() && !r.Gateway.IsValid() && own.IsValid() && r.Dst.Bits() < r.Dst.Addr().BitLen()-1 && r.Dst.Contains(own):
			if found = r.Dst.Masked().Addr().Next(); found == own {
				found = found.Next()
			}
		}
	}
	if !found.IsValid() && routed && f == v6 {
		return somewhere
	}
	return found
}
