package network

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"sync"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/network/firewall"
	"github.com/tare-engine/tare/internal/network/relay"
	"github.com/tare-engine/tare/internal/undo"
)

// Port is a published port, wanted or had.
type Port struct {
	Proto     string     `json:"proto"`             // tcp, udp, sctp
	Container uint16     `json:"container"`         // port in the container
	HostIP    netip.Addr `json:"hostIP,omitzero"`   // zero: the engine's default
	Host      uint16     `json:"host"`              // port of the host; 0: wanted, chosen; had, none: it is opened at the container's address
	HostEnd   uint16     `json:"hostEnd,omitempty"` // wanted: last of a range from which one is chosen
}

// publications are the ports that are published of containers, and what that takes: the
// host's ports are reserved, then each is served in its way; who has no way out keeps them
// parked.
type publications struct {
	*table
	host  *netlink.Conn
	wall  *firewall.Firewall
	relay *relay.Relay // nil: NoRelay
	ports *reservations
	log   *slog.Logger
	done  *sync.WaitGroup // of what goes on in the background
}

// openPublications makes them, of which there are none yet.
func (s *Service) openPublications() (err error) {
	s.publications = &publications{table: s.table, host: s.host, wall: s.wall, ports: newReservations(), log: s.log, done: &s.done}
	if !s.cfg.NoRelay {
		s.relay, err = relay.Open(s.log, s.cutOff)
	}
	return err
}

// cutOff reports whether an address is of an internal network, whose containers reach no
// others, by the host's published ports neither. A link-local one has its link as zone.
func (s *Service) cutOff(a netip.Addr) bool {
	link, _ := strconv.Atoi(a.Zone())
	if link != 0 {
		s.mu.Lock()
		e := s.links[link]
		s.mu.Unlock()
		if e != nil {
			return e.network.rec.Internal
		}
	}
	return slices.ContainsFunc(s.all(), func(n *Network) bool {
		if !n.rec.Internal || n.link == nil {
			return false
		}
		hosts := slices.ContainsFunc(n.link.Gateways, func(g netip.Prefix) bool { return g.Addr() == a })
		return n.link.Index() == link || !hosts && slices.ContainsFunc(n.rec.prefixes(), func(p netip.Prefix) bool { return p.Contains(a) })
	})
}

// Publish makes ports of the container reachable on the host, or opens them where it is
// reached at its own addresses, and returns them with the addresses and ports that were
// chosen. Either all are published or none. Ports published earlier stay; naming one of
// them again is no error.
func (ps *publications) Publish(ctx context.Context, containerID string, wanted []Port) (_ []Port, err error) {
	if len(ps.Endpoints(containerID)) == 0 {
		return nil, errdefs.New(errdefs.NotFound, "container %s is not attached to a network", ident.Short(containerID))
	}
	exits := ps.exits(containerID)
	got := ps.toOpen(containerID, wanted)
	if len(wanted) == 0 || len(exits.byFamily)+len(got) == 0 { // what does not lead out has nothing published, as with Docker
		return nil, ctx.Err()
	}
	all := slices.Concat(slices.Collect(maps.Values(got))...)
	var u undo.Stack
	defer u.Run(&err)
	reserved, err := ps.reserveAll(containerID, exits, wanted, &u)
	if err != nil {
		return nil, programming(refused(err), ps.Endpoints(containerID)[0], err)
	}
	for _, p := range reserved {
		e := exits.of(p)
		got[e] = append(got[e], p)
	}
	failpoint.Hit("start/ports-reserved")
	if err := ps.serveAll(got, &u); err != nil {
		return nil, err
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for e, ports := range got {
		e.Ports = merge(e.Ports, ports)
	}
	return append(all, reserved...), nil
}

// reserveAll reserves the wanted ports that are to be published at the host, and returns
// them, with those that are published already.
func (ps *publications) reserveAll(containerID string, exits exits, wanted []Port, u *undo.Stack) (all []Port, err error) {
	claimed := claims{}
	for _, p := range wanted {
		if len(exits.byFamily) == 0 || len(exits.places(p)) == 0 && ps.opensOnly(containerID, p) {
			continue
		}
		ports, fresh, err := ps.reserve(containerID, exits, p, claimed)
		if err != nil {
			return nil, err
		}
		for _, p := range fresh {
			u.Add(func() error { return ps.ports.giveBack(p) })
		}
		all = append(all, ports...)
	}
	return all, nil
}

// serveAll has ports lead to their endpoints.
func (ps *publications) serveAll(ports map[*Endpoint][]Port, u *undo.Stack) error {
	for e, list := range ports {
		u.Add(func() error { return ps.unserve(e, list) })
		if err := ps.serve(e, list); err != nil {
			return programming(errdefs.Internal, e, err)
		}
	}
	failpoint.Hit("start/ports-published")
	for e, list := range ports {
		if err := ps.hairpin(e, list); err != nil {
			return programming(errdefs.Internal, e, err)
		}
		ps.forgetFlows(e, list, false)
	}
	return nil
}

// hairpin lets an endpoint reach itself by published ports, if it has a port of the
// bridge; before it has, Enter does that.
func (ps *publications) hairpin(e *Endpoint, ports []Port) error {
	if e.Beside || e.Index == 0 || !slices.ContainsFunc(ports, func(p Port) bool { return !p.opened() }) {
		return nil
	}
	return e.network.link.Hairpin(ps.host, e.Index)
}

// merge adds the ports that are not there yet, in a new slice: readers may have
// the old one.
func merge(have, more []Port) []Port {
	all := slices.Clone(have)
	known := make(map[Port]bool, len(all))
	for _, p := range all {
		known[p] = true
	}
	for _, p := range more {
		if !known[p] {
			known[p] = true
			all = append(all, p)
		}
	}
	return all
}

// refused is the kind of an error of reserving: the port is in the way, unless
// the request is wrong by itself, or the kernel lacks the protocol.
func refused(err error) errdefs.Kind {
	if k := errdefs.KindOf(err); k == errdefs.InvalidArgument || k == errdefs.NotImplemented {
		return k
	}
	return errdefs.Conflict
}

// programming wraps an error of publishing in Docker's words.
func programming(k errdefs.Kind, e *Endpoint, err error) error {
	return errdefs.New(k, "failed to set up container networking: driver failed programming external connectivity on endpoint %s (%s): %w", e.Name, e.EndpointID, err)
}

// reserve reserves one wanted port where it is to be published; fresh are those that
// were not the container's before.
func (ps *publications) reserve(containerID string, exits exits, p Port, claimed claims) (ports, fresh []Port, err error) {
	p, ports, at := ps.claim(exits, p, claimed)
	if len(ports)+len(at) == 0 {
		return nil, nil, exits.unreachable(p)
	}
	if len(at) == 0 {
		return ports, nil, nil
	}
	fresh, err = ps.ports.take(containerID, p, at)
	return append(ports, fresh...), fresh, err
}

// claims are published ports that stand for wanted ones, each for one.
type claims map[Port]bool

// claim finds where a wanted port is published already, and where it is to be: there
// with the same number.
func (ps *publications) claim(exits exits, p Port, claimed claims) (_ Port, have []Port, rest []netip.Addr) {
	for _, a := range exits.places(p) {
		list := ps.portsOf(exits.of(Port{Proto: p.Proto, HostIP: a}))
		at := slices.IndexFunc(list, func(h Port) bool { return h.HostIP == a && p.satisfied(h) && !claimed[h] })
		if at < 0 {
			rest = append(rest, a)
			continue
		}
		claimed[list[at]] = true
		have = append(have, list[at])
		p.Host, p.HostEnd = list[at].Host, 0
	}
	return p, have, rest
}

// Retain takes back the published ports of a container that were wanted before and are
// not any more, and returns them. They stay reserved for it, so that it may publish them
// otherwise, or again, until FreeRest.
func (ps *publications) Retain(containerID string, before, wanted []Port) (taken []Port, _ error) {
	exits := ps.exits(containerID)
	claimed, left := claims{}, claims{}
	rest := slices.Clone(wanted)
	for _, p := range before {
		_, have, _ := ps.claim(exits, p, claimed)
		if i := slices.Index(rest, p); i >= 0 {
			rest = slices.Delete(rest, i, i+1)
			continue
		}
		for _, h := range have {
			left[h] = true
		}
	}
	var errs []error
	for _, e := range ps.Endpoints(containerID) {
		gone := ps.takePorts(e, func(have Port) bool { return left[have] })
		errs = append(errs, ps.withdraw(e, gone))
		taken = append(taken, gone...)
	}
	return taken, errors.Join(append(errs, ps.closeRest(containerID, wanted))...)
}

// FreeRest gives up ports that are reserved for a container and not published. Of one
// that has no way out all stay: they are published when it has one.
func (ps *publications) FreeRest(containerID string) error {
	if len(ps.exits(containerID).byFamily) == 0 {
		return nil
	}
	return ps.ports.releaseParked(containerID)
}

// satisfied reports whether a wanted port is one that is published, on whatever address.
func (p Port) satisfied(have Port) bool {
	return have.Proto == p.Proto && have.Container == p.Container && p.offers(have.Host)
}

// offers reports whether a wanted port would be satisfied by a host port.
func (p Port) offers(host uint16) bool {
	return p.Host == 0 || p.Host <= host && host <= max(p.Host, p.HostEnd)
}

// unpublish takes the ports of an endpoint back. They stay the container's until Release:
// who keeps them reserved for it has their sockets as well.
func (ps *publications) unpublish(e *Endpoint) error {
	return ps.withdraw(e, ps.takePorts(e, func(Port) bool { return true }))
}

// withdraw takes back what was published of an endpoint until now, and parks it.
func (ps *publications) withdraw(e *Endpoint, ports []Port) error {
	if len(ports) == 0 {
		return nil
	}
	err := ps.unserve(e, ports)
	for _, p := range ports {
		ps.ports.park(p)
	}
	ps.forgetFlows(e, ports, true)
	return err
}

// published is how the host's ports of a container are served, by the endpoints at which
// they are published. Those that are opened at its own addresses do not move.
func (ps *publications) published(containerID string, left *Endpoint) map[*Endpoint][]way {
	list := ps.Endpoints(containerID)
	if left != nil {
		list = append(list, left)
	}
	all := map[*Endpoint][]way{}
	for _, e := range list {
		if ports := slices.DeleteFunc(slices.Clone(ps.portsOf(e)), Port.opened); len(ports) > 0 {
			all[e] = ps.ways(e, ports)
		}
	}
	return all
}

// movePorts publishes the host's ports of a container at its ways out, which were others
// before. Those that cannot lead there stay reserved for it.
func (ps *publications) movePorts(containerID string, before map[*Endpoint][]way) error {
	exits := ps.exits(containerID)
	now := map[*Endpoint][]Port{}
	var errs []error
	for from, ways := range before {
		var gone []way
		for _, w := range ways {
			to := exits.of(w.port)
			if to != nil {
				now[to] = append(now[to], w.port)
			}
			if to == nil || ps.way(to, w.port) != w {
				gone = append(gone, w)
			}
		}
		ps.takePorts(from, func(p Port) bool { return !p.opened() })
		errs = append(errs, ps.unserveWays(from, gone))
		ps.forgetWays(from, gone)
		for _, w := range gone {
			if exits.of(w.port) == nil {
				ps.ports.park(w.port)
			}
		}
	}
	for to, ports := range now {
		errs = append(errs, ps.serve(to, ports), ps.hairpin(to, ports))
		ps.mu.Lock()
		to.Ports = merge(to.Ports, ports)
		ps.mu.Unlock()
	}
	return errors.Join(errs...)
}

// forgetWays is forgetFlows for what is not served like that any more.
func (ps *publications) forgetWays(e *Endpoint, gone []way) {
	var ports []Port
	for _, w := range gone {
		if w.translated {
			ports = append(ports, w.port)
		}
	}
	ps.forgetFlows(e, ports, true)
}
