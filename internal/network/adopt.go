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

	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/hostport"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/network/firewall"
)

// Report says what Adopt found.
type Report struct {
	Adopted int      // endpoints
	Gone    []string // containers whose link has disappeared; Release them
	Removed []string // what was left over in the kernel
	Lost    []error  // what could not be kept as it was
	Unsure  []string // containers that may have been in the middle of a connect or disconnect, or whose way out is another now; Settle them
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
		for _, p := range e.Ports {
			f := kept[p.key()]
			delete(kept, p.key())
			if err := s.ports.adopt(e.ContainerID, p, f); err != nil {
				r.Lost = append(r.Lost, fmt.Errorf("container %s: %w", ident.Short(e.ContainerID), err))
			}
		}
		s.keepServable(e, &r)
		ways := s.ways(e, e.Ports)
		if err := s.relayTo(ways); err != nil {
			r.Lost = append(r.Lost, fmt.Errorf("container %s: %w", ident.Short(e.ContainerID), err))
		}
		published = append(published, bindings(ways)...)
	}
	for _, f := range kept {
		s.ports.closeUnused(f)
	}
	if err := errors.Join(s.removeRest(links, &r), s.removeBridges(&r)); err != nil {
		return r, err
	}
	if err := s.forwarding(); err != nil {
		return r, err
	}
	return r, s.wall.Apply(firewall.State{Networks: s.rules(), Bindings: published, Guard: maps.Clone(s.guarded)})
}

// keepServable gives up the ports of an endpoint that only a relay could serve, if there is
// none any more.
func (s *Service) keepServable(e *Endpoint, r *Report) {
	if s.relay != nil {
		return
	}
	for _, p := range s.takePorts(e, func(p Port) bool { w := s.way(e, p); return !w.translated && !w.relayed }) {
		r.Lost = append(r.Lost, fmt.Errorf("container %s: port %s/%s of the host is not served without --userland-proxy", ident.Short(e.ContainerID), p.key().addr, p.Proto))
		if err := s.ports.giveBack(p); err != nil {
			r.Lost = append(r.Lost, err)
		}
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

// adoptEndpoint books the endpoint of a record.
func (s *Service) adoptEndpoint(rec Record, links map[int]netlink.Link, r *Report) *Endpoint {
	n, err := s.find(rec.NetworkID)
	if err != nil {
		r.Lost = append(r.Lost, fmt.Errorf("container %s: %w", ident.Short(rec.ContainerID), err))
		return nil
	}
	e := &Endpoint{Record: rec, network: n, NetworkName: n.rec.Name}
	if n.link == nil {
		e.Exit, e.Exit6 = false, false // of the host's network, or one that could not be brought up
	} else {
		if n.rec.Name == "bridge" && e.IP6.IsValid() && !n.rec.Gateway6.IsValid() {
			s.turnOff6(e, r)
		}
		if err := n.claim(e); err != nil {
			r.Lost = append(r.Lost, fmt.Errorf("container %s: %w", ident.Short(rec.ContainerID), err))
			return nil
		}
		switch l, ok := links[e.Index]; {
		case !ok || l.Name != e.Link:
			e.gone = true
			if !slices.Contains(r.Gone, e.ContainerID) {
				r.Gone = append(r.Gone, e.ContainerID)
			}
		case e.Routed || l.Master != n.link.Index():
			if err := s.reconnect(e); err != nil {
				r.Lost = append(r.Lost, fmt.Errorf("container %s: %w", ident.Short(rec.ContainerID), err))
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(e)
	r.Adopted++
	return e
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

// claim marks the addresses of an endpoint as used; those that the network does not
// have any more are errors.
func (n *Network) claim(e *Endpoint) error {
	for i, a := range e.addrs() {
		f := familyOf(a)
		err := errors.New("the network has no such addresses any more")
		if n.pools[f] != nil {
			err = n.pools[f].Claim(a)
		}
		if err != nil {
			for _, before := range e.addrs()[:i] {
				n.pools[familyOf(before)].Release(before)
			}
			return fmt.Errorf("%s: %w", a, err)
		}
		*e.gateway(f) = n.exit(f)
	}
	return nil
}

// removeRest removes links without a record, and neighbours without a link. It notes
// the containers that are unsure: of which a link was left, and those of several
// networks.
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
	for id, list := range s.endpoints {
		if len(list) > 1 && !slices.Contains(r.Unsure, id) {
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
			if !s.hasAddr(ip) {
				b.DelNeighbour(n.link.Index(), ip)
				r.Removed = append(r.Removed, "neighbour "+ip.String())
			}
		}
	}
	return s.host.Do(&b)
}

// removeBridges removes the bridges of networks that were never acknowledged, or
// whose removal was cut off.
func (s *Service) removeBridges(r *Report) error {
	links, err := s.host.Links()
	if err != nil {
		return err
	}
	var b netlink.Batch
	for _, l := range links {
		known := slices.ContainsFunc(s.all(), func(n *Network) bool {
			return n.settings.link == l.Name || n.link != nil && n.link.Index() == l.Index // it may have been renamed
		})
		if l.Kind != "bridge" || l.Alias != s.cfg.alias() || known {
			continue
		}
		b.DelLink(l.Index)
		r.Removed = append(r.Removed, "bridge "+l.Name)
	}
	return s.host.Do(&b)
}
