package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/network/firewall"
	"github.com/tare-engine/tare/internal/undo"
)

// Port is a published port, wanted or had.
type Port struct {
	Proto     string     `json:"proto"`             // tcp, udp, sctp
	Container uint16     `json:"container"`         // port in the container
	HostIP    netip.Addr `json:"hostIP,omitzero"`   // zero: the engine's default
	Host      uint16     `json:"host"`              // port of the host; 0: chosen
	HostEnd   uint16     `json:"hostEnd,omitempty"` // wanted: last of a range from which one is chosen
}

// Publish makes ports of the container reachable on the host and returns them
// with the addresses and ports that were chosen. Either all are published or
// none. Ports published earlier stay; naming one of them again is no error.
func (s *Service) Publish(ctx context.Context, containerID string, wanted []Port) (_ []Port, err error) {
	if len(s.Endpoints(containerID)) == 0 {
		return nil, errdefs.New(errdefs.NotFound, "container %s is not attached to a network", ident.Short(containerID))
	}
	exits := s.exits(containerID)
	if len(wanted) == 0 || len(exits) == 0 { // what does not lead out has nothing published, as with Docker
		return nil, ctx.Err()
	}
	var u undo.Stack
	defer u.Run(&err)
	got := map[*Endpoint][]Port{}
	var all []Port
	claimed := claims{}
	for _, p := range wanted {
		ports, fresh, err := s.reserve(containerID, exits, p, claimed)
		if err != nil {
			return nil, programming(refused(err), s.Endpoints(containerID)[0], err)
		}
		for _, p := range fresh {
			u.Add(func() error { return s.ports.giveBack(p) })
		}
		for _, p := range ports {
			e := exits[familyOf(p.HostIP)]
			got[e] = append(got[e], p)
		}
		all = append(all, ports...)
	}
	failpoint.Hit("start/ports-reserved")
	for e, ports := range got {
		u.Add(func() error { return s.wall.Remove(bindings(e, ports)...) })
		if err := s.wall.Add(bindings(e, ports)...); err != nil {
			return nil, programming(errdefs.Internal, e, err)
		}
	}
	failpoint.Hit("start/ports-published")
	for e, ports := range got {
		if err := s.hairpin(e); err != nil {
			return nil, programming(errdefs.Internal, e, err)
		}
		s.forgetFlows(e, ports, false)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for e, ports := range got {
		e.Ports = merge(e.Ports, ports)
	}
	return all, nil
}

// exits are the ways out of a container by family.
func (s *Service) exits(containerID string) map[family]*Endpoint {
	exits := map[family]*Endpoint{}
	for _, f := range families {
		if e := s.Exit(containerID, f); e != nil {
			exits[f] = e
		}
	}
	return exits
}

// hairpin lets an endpoint reach itself by a published port, if it has a port of the
// bridge; before it has, Enter does that.
func (s *Service) hairpin(e *Endpoint) error {
	if e.Routed || e.Index == 0 {
		return nil
	}
	return e.network.link.Hairpin(s.host, e.Index)
}

// merge adds the ports that are not there yet, in a new slice: readers may have
// the old one.
func merge(have, more []Port) []Port {
	all := append([]Port(nil), have...)
	for _, p := range more {
		known := false
		for _, h := range have {
			known = known || h == p
		}
		if !known {
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
func (s *Service) reserve(containerID string, exits map[family]*Endpoint, p Port, claimed claims) (ports, fresh []Port, err error) {
	p, ports, at := s.claim(exits, p, claimed)
	if len(ports)+len(at) == 0 {
		return nil, nil, errdefs.New(errdefs.InvalidArgument, "port %d/%s cannot be published: the container has no way out by the protocol of the host's address", p.Container, p.Proto)
	}
	if len(at) == 0 {
		return ports, nil, nil
	}
	fresh, err = s.ports.take(containerID, p, at)
	return append(ports, fresh...), fresh, err
}

// places are the addresses of the host where a port is published. One that names none
// is on all of both families, as far as the container can be reached by them, unless
// its network says another address.
func places(exits map[family]*Endpoint, asked netip.Addr) (all []netip.Addr) {
	if asked.IsValid() {
		if exits[familyOf(asked)] == nil {
			return nil
		}
		return []netip.Addr{asked}
	}
	var own netip.Addr // of the network of the first way out
	for _, f := range families {
		e := exits[f]
		if e == nil {
			continue
		}
		if !own.IsValid() {
			own = e.network.settings.hostIP
		}
		switch {
		case own.IsUnspecified():
			all = append(all, f.all())
		case familyOf(own) == f:
			all = append(all, own)
		}
	}
	return all
}

// claims are published ports that stand for wanted ones, each for one.
type claims map[Port]bool

// claim finds where a wanted port is published already, and where it is to be: there
// with the same number.
func (s *Service) claim(exits map[family]*Endpoint, p Port, claimed claims) (_ Port, have []Port, rest []netip.Addr) {
	for _, a := range places(exits, p.HostIP) {
		list := s.portsOf(exits[familyOf(a)])
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
// not any more. They stay reserved for it, so that it may publish them otherwise, until
// FreeRest.
func (s *Service) Retain(containerID string, before, wanted []Port) error {
	exits := s.exits(containerID)
	claimed, left := claims{}, claims{}
	rest := slices.Clone(wanted)
	for _, p := range before {
		_, have, _ := s.claim(exits, p, claimed)
		if i := slices.Index(rest, p); i >= 0 {
			rest = slices.Delete(rest, i, i+1)
			continue
		}
		for _, h := range have {
			left[h] = true
		}
	}
	var errs []error
	for f, e := range exits {
		gone := s.takePorts(e, func(have Port) bool { return familyOf(have.HostIP) == f && left[have] })
		errs = append(errs, s.withdraw(e, gone))
	}
	return errors.Join(errs...)
}

// FreeRest gives up ports that are reserved for a container and not published. Of one
// that has no way out all stay: they are published when it has one.
func (s *Service) FreeRest(containerID string) error {
	if len(s.exits(containerID)) == 0 {
		return nil
	}
	return s.ports.releaseParked(containerID)
}

// satisfied reports whether a wanted port is one that is published, on whatever address.
func (p Port) satisfied(have Port) bool {
	return have.Proto == p.Proto && have.Container == p.Container && p.offers(have.Host)
}

// offers reports whether a wanted port would be satisfied by a host port.
func (p Port) offers(host uint16) bool {
	return p.Host == 0 || p.Host <= host && host <= max(p.Host, p.HostEnd)
}

// unpublish takes the ports of an endpoint back that are published by one family. They
// stay the container's until Release: who keeps them reserved for it has their sockets
// as well.
func (s *Service) unpublish(e *Endpoint, f family) error {
	return s.withdraw(e, s.takePorts(e, ofFamily(f)))
}

// withdraw takes back what was published of an endpoint until now, and parks it.
func (s *Service) withdraw(e *Endpoint, ports []Port) error {
	if len(ports) == 0 {
		return nil
	}
	for _, p := range ports {
		s.ports.park(p)
	}
	err := s.wall.Remove(bindings(e, ports)...)
	s.forgetFlows(e, ports, true)
	return err
}

// bindings says ports of an endpoint in the firewall's terms.
func bindings(e *Endpoint, ports []Port) []firewall.Binding {
	var all []firewall.Binding
	for _, p := range ports {
		ip := e.ip(familyOf(p.HostIP)).Addr()
		all = append(all, firewall.Binding{Proto: p.Proto, From: netip.AddrPortFrom(p.HostIP, p.Host), To: netip.AddrPortFrom(ip, p.Container)})
	}
	return all
}

// HeldSockets returns the sockets that reserve a container's ports, and those of its
// name server. They stay the service's; a process that outlives the engine may hold
// duplicates and give them to Adopt.
func (s *Service) HeldSockets(containerID string) []*os.File {
	return append(s.ports.files(containerID), s.resolvers.Sockets(containerID)...)
}

// bindError is what Docker says of a port that the kernel refused. SCTP is something
// that kernels may be without.
func bindError(p Port, err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		err = no
	}
	err = fmt.Errorf("failed to bind host port %s/%s: %w", p.key().addr, p.Proto, err)
	if no == syscall.EPROTONOSUPPORT || no == syscall.ESOCKTNOSUPPORT {
		return errdefs.New(errdefs.NotImplemented, "%w: this kernel has no %s", err, strings.ToUpper(p.Proto))
	}
	return err
}
