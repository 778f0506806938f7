package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/hostport"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/network/bridge"
	"github.com/tare-engine/tare/internal/network/firewall"
	"github.com/tare-engine/tare/internal/network/vlan"
)

// Report says what Adopt found.
type Report struct {
	Adopted int      // endpoints
	Gone    []string // containers whose link has disappeared; Release them
	Removed []string // what was left over in the kernel
	Lost    []error  // what could not be kept as it was
	Unsure  []string // containers that may have been in the middle of a connect or disconnect, or whose way out is another now; Settle them
}

// lose notes what could not be kept of a container; nil is nothing.
func (r *Report) lose(containerID string, err error) {
	if err != nil {
		r.Lost = append(r.Lost, fmt.Errorf("container %s: %w", ident.Short(containerID), err))
	}
}

// Adopt makes the kernel and the service agree on which endpoints there are:
// those of the records. Everything else that bears the engine's id is removed.
// held are sockets of reserved ports and name servers that outlived the last engine; the service
// owns them from now on. It is called once, before the first Attach, also when
// there are no records.
func (s *Service) Adopt(ctx context.Context, records []Record, held []*os.File) (Report, error) {
	var r Report
	if err := ctx.Err(); err != nil {
		return r, err
	}
	links, err := s.ownLinks()
	if err != nil {
		return r, err
	}
	if held, err = s.resolvers.keep(held); err != nil {
		return r, err
	}
	kept := keptPorts(held)
	var published []firewall.Binding
	for _, rec := range records {
		e := s.adoptEndpoint(rec, links, &r)
		if e == nil {
			continue
		}
		delete(links, e.Index)
		r.lose(e.ContainerID, s.adoptLimits(e, links))
		s.adoptPorts(e, kept, &r)
		ways := s.ways(e, e.Ports)
		r.lose(e.ContainerID, s.relayTo(ways))
		published = append(published, bindings(ways)...)
	}
	for k, f := range kept {
		s.ports.closeUnused(k, f)
	}
	if err := errors.Join(s.removeRest(links, &r), s.removeNetworkLinks(&r)); err != nil {
		return r, err
	}
	if err := errors.Join(s.forwarding(), s.restoreRoutes()); err != nil {
		return r, err
	}
	all, err := s.host.Links()
	if err != nil {
		return r, err
	}
	s.foreignCame(all)
	return r, s.wall.Apply(firewall.State{Networks: s.rules(), Bindings: published, Guard: maps.Clone(s.guarded)})
}

// adoptPorts books the host's ports of an endpoint, with the sockets that were kept for them.
func (ps *publications) adoptPorts(e *Endpoint, kept map[hostPort]*os.File, r *Report) {
	for _, p := range e.Ports {
		if p.opened() {
			continue
		}
		f := kept[p.key()]
		delete(kept, p.key())
		r.lose(e.ContainerID, ps.ports.adopt(e.ContainerID, p, f))
	}
	ps.keepServable(e, r)
}

// keepServable gives up the ports of an endpoint that only a relay could serve, if there is
// none any more.
func (ps *publications) keepServable(e *Endpoint, r *Report) {
	if ps.relay != nil {
		return
	}
	for _, p := range ps.takePorts(e, func(p Port) bool { w := ps.way(e, p); return !p.opened() && !w.translated && !w.relayed }) {
		r.lose(e.ContainerID, fmt.Errorf("port %s/%s of the host is not served without --userland-proxy", p.key().addr, p.Proto))
		r.lose(e.ContainerID, ps.ports.giveBack(p))
	}
}

// keptPorts sorts sockets by the port they reserve; others are closed.
func keptPorts(held []*os.File) map[hostPort]*os.File {
	kept := map[hostPort]*os.File{}
	for _, f := range held {
		proto, addr, err := hostport.Of(f)
		k := hostPort{proto, addr}
		if err != nil || kept[k] != nil {
			f.Close()
			continue
		}
		kept[k] = f
		if hostport.Both(f) {
			kept[k.other()] = f
		}
	}
	return kept
}

// ownLinks lists the host's ends of endpoints of this engine, by index.
func (s *Service) ownLinks() (map[int]netlink.Link, error) {
	links, err := s.host.Links()
	if err != nil {
		return nil, err
	}
	own := map[int]netlink.Link{}
	for _, l := range links {
		if strings.HasPrefix(l.Alias, s.cfg.alias()+":") || s.unfinished(l) {
			own[l.Index] = l
		}
	}
	return own, nil
}

// unfinished recognizes a pair whose maker was killed before it got its alias:
// a port of our own bridge.
func (s *Service) unfinished(l netlink.Link) bool {
	if l.Alias != "" || l.Kind != "veth" {
		return false
	}
	for _, n := range s.all() {
		if n.link != nil && l.Master == n.link.Index() {
			return true
		}
	}
	return false
}

// adoptEndpoint books the endpoint of a record; nil if it cannot be kept.
func (s *Service) adoptEndpoint(rec Record, links map[int]netlink.Link, r *Report) *Endpoint {
	n, err := s.find(rec.NetworkID)
	if err != nil {
		r.lose(rec.ContainerID, err)
		return nil
	}
	e := &Endpoint{Record: rec, network: n, NetworkName: n.rec.Name}
	if n.linked() {
		err = s.adoptLink(e, links, r)
	} else {
		e.Exit, e.Exit6 = false, false // of the host's network, or one that could not be brought up
	}
	if err != nil {
		r.lose(rec.ContainerID, err)
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(e)
	r.Adopted++
	return e
}

// adoptLink claims the addresses of an endpoint and looks after its link.
func (s *Service) adoptLink(e *Endpoint, links map[int]netlink.Link, r *Report) error {
	n := e.network
	if n.rec.Name == "bridge" && e.IP6.IsValid() && !n.rec.has(v6) {
		s.turnOff6(e, r)
	}
	if err := n.claim(e); err != nil {
		return err
	}
	switch l, ok := links[e.Index]; {
	case n.parent != nil:
		s.adoptChild(e, r)
	case !ok || l.Name != e.Link:
		r.goneIs(e)
	case e.Beside || !l.Up || l.Master != n.link.Index():
		err := s.reconnect(e)
		if s.vanished(e.Link, err) {
			r.goneIs(e)
			return nil
		}
		r.lose(e.ContainerID, err)
	}
	return nil
}

// turnOff6 takes IPv6 from an endpoint of the default network, which was told to have none
// any more. Settle takes it from the container's link.
func (s *Service) turnOff6(e *Endpoint, r *Report) {
	r.Removed = append(r.Removed, fmt.Sprintf("address %s of container %s: the default network has no IPv6 any more", e.IP6.Addr(), ident.Short(e.ContainerID)))
	e.IP6, e.Exit6, e.off6 = netip.Prefix{}, false, true
	if !slices.Contains(r.Unsure, e.ContainerID) {
		r.Unsure = append(r.Unsure, e.ContainerID)
	}
}

// adoptChild looks whether the link of an endpoint without an end at the host is there.
func (s *Service) adoptChild(e *Endpoint, r *Report) {
	there, err := false, error(nil)
	if e.Netns != nil {
		there, err = vlan.Own(s.host, *e.Netns, s.hangs(e))
	}
	r.lose(e.ContainerID, err)
	if !there && err == nil {
		r.goneIs(e)
	}
}

// goneIs notes that the link of an endpoint is not there any more; the caller tells of it.
func (r *Report) goneIs(e *Endpoint) {
	e.gone, e.told = true, true
	if !slices.Contains(r.Gone, e.ContainerID) {
		r.Gone = append(r.Gone, e.ContainerID)
	}
}

// claim marks the addresses of an endpoint as used; those that the network does not
// have any more are errors.
func (n *Network) claim(e *Endpoint) error {
	for i, a := range e.addrs() {
		if err := n.claimIP(a); err != nil {
			n.giveBack(e.addrs()[:i])
			return fmt.Errorf("%s: %w", a, err)
		}
		*e.gateway(familyOf(a)) = n.exit(a)
	}
	return nil
}

// removeRest removes links without a record, and neighbours without a link. It notes
// the containers that are unsure: of which a link was left, and those of several
// networks. If there are networks whose containers' links are not seen from here, all are.
func (s *Service) removeRest(links map[int]netlink.Link, r *Report) error {
	var b netlink.Batch
	for _, l := range links {
		b.DelLink(l.Index)
		r.Removed = append(r.Removed, "link "+l.Name)
		if id := strings.TrimPrefix(l.Alias, s.cfg.alias()+":"); len(s.Endpoints(id)) > 0 && !slices.Contains(r.Unsure, id) {
			r.Unsure = append(r.Unsure, id)
		}
	}
	s.mu.Lock()
	unseen := slices.ContainsFunc(s.all(), func(n *Network) bool { return n.settings.vlan != nil })
	for id, list := range s.endpoints {
		if (len(list) > 1 || unseen) && !slices.Contains(r.Unsure, id) {
			r.Unsure = append(r.Unsure, id)
		}
	}
	s.mu.Unlock()
	for _, n := range s.all() {
		if n.link == nil {
			continue
		}
		known, err := s.host.Neighbours(n.link.Index())
		if err != nil {
			return err
		}
		for _, ip := range known {
			if !s.has(n.rec.ID, ip) {
				b.DelNeighbour(n.link.Index(), ip)
				r.Removed = append(r.Removed, "neighbour "+ip.String())
			}
		}
	}
	return s.host.Do(&b)
}

// removeNetworkLinks removes the links of networks that were never acknowledged, or
// whose removal was cut off.
func (s *Service) removeNetworkLinks(r *Report) error {
	own, begun, err := s.strayLinks()
	if err != nil {
		return err
	}
	if len(begun) > 0 {
		time.Sleep(beginning)
		_, still, err := s.strayLinks()
		if err != nil {
			return err
		}
		for _, l := range begun {
			if slices.ContainsFunc(still, func(k netlink.Link) bool { return k.Index == l.Index && k.Name == l.Name }) {
				own = append(own, l)
			}
		}
	}
	var b netlink.Batch
	for _, l := range own {
		b.DelLink(l.Index)
		r.Removed = append(r.Removed, l.Kind+" "+l.Name)
	}
	return s.host.Do(&b)
}

// beginning is far longer than an engine takes between the first two messages for a
// bridge.
const beginning = 100 * time.Millisecond

// strayLinks are those of this engine that no network has, and the beginnings of
// bridges, which do not say whose they are: an engine that lives makes more of its own soon.
func (s *Service) strayLinks() (own, begun []netlink.Link, err error) {
	links, err := s.host.Links()
	if err != nil {
		return nil, nil, err
	}
	for _, l := range links {
		known := slices.ContainsFunc(s.all(), func(n *Network) bool {
			return n.settings.link == l.Name || n.settings.vlan != nil && n.settings.vlan.Name() == l.Name || n.link != nil && n.link.Index() == l.Index // it may have been renamed
		})
		switch {
		case known:
			continue
		case l.Alias == s.cfg.alias():
			own = append(own, l)
			continue
		case l.Kind != "bridge":
			continue
		}
		finished, err := bridge.Finished(s.host, l)
		if err != nil {
			return nil, nil, err
		}
		if !finished {
			begun = append(begun, l)
		}
	}
	return own, begun, nil
}
