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

// Publish makes ports of the container reachable on the host, or opens them where it is
// reached at its own addresses, and returns them with the addresses and ports that were
// chosen. Either all are published or none. Ports published earlier stay; naming one of
// them again is no error.
func (s *Service) Publish(ctx context.Context, containerID string, wanted []Port) (_ []Port, err error) {
	if len(s.Endpoints(containerID)) == 0 {
		return nil, errdefs.New(errdefs.NotFound, "container %s is not attached to a network", ident.Short(containerID))
	}
	exits := s.exits(containerID)
	got := s.toOpen(containerID, wanted)
	if len(wanted) == 0 || len(exits.byFamily)+len(got) == 0 { // what does not lead out has nothing published, as with Docker
		return nil, ctx.Err()
	}
	var u undo.Stack
	defer u.Run(&err)
	var all []Port
	for _, ports := range got {
		all = append(all, ports...)
	}
	claimed := claims{}
	for _, p := range wanted {
		if len(exits.byFamily) == 0 || len(exits.places(p)) == 0 && s.opensOnly(containerID, p) {
			continue
		}
		ports, fresh, err := s.reserve(containerID, exits, p, claimed)
		if err != nil {
			return nil, programming(refused(err), s.Endpoints(containerID)[0], err)
		}
		for _, p := range fresh {
			u.Add(func() error { return s.ports.giveBack(p) })
		}
		for _, p := range ports {
			e := exits.of(p)
			got[e] = append(got[e], p)
		}
		all = append(all, ports...)
	}
	failpoint.Hit("start/ports-reserved")
	for e, ports := range got {
		u.Add(func() error { return s.unserve(e, ports) })
		if err := s.serve(e, ports); err != nil {
			return nil, programming(errdefs.Internal, e, err)
		}
	}
	failpoint.Hit("start/ports-published")
	for e, ports := range got {
		if err := s.hairpin(e, ports); err != nil {
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

// hairpin lets an endpoint reach itself by published ports, if it has a port of the
// bridge; before it has, Enter does that.
func (s *Service) hairpin(e *Endpoint, ports []Port) error {
	if e.Beside || e.Index == 0 || !slices.ContainsFunc(ports, func(p Port) bool { return !p.opened() }) {
		return nil
	}
	return e.network.link.Hairpin(s.host, e.Index)
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
func (s *Service) reserve(containerID string, exits exits, p Port, claimed claims) (ports, fresh []Port, err error) {
	p, ports, at := s.claim(exits, p, claimed)
	if len(ports)+len(at) == 0 {
		return nil, nil, exits.unreachable(p)
	}
	if len(at) == 0 {
		return ports, nil, nil
	}
	fresh, err = s.ports.take(containerID, p, at)
	return append(ports, fresh...), fresh, err
}

// claims are published ports that stand for wanted ones, each for one.
type claims map[Port]bool

// claim finds where a wanted port is published already, and where it is to be: there
// with the same number.
func (s *Service) claim(exits exits, p Port, claimed claims) (_ Port, have []Port, rest []netip.Addr) {
	for _, a := range exits.places(p) {
		list := s.portsOf(exits.of(Port{Proto: p.Proto, HostIP: a}))
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
func (s *Service) Retain(containerID string, before, wanted []Port) (taken []Port, _ error) {
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
	for _, e := range s.Endpoints(containerID) {
		gone := s.takePorts(e, func(have Port) bool { return left[have] })
		errs = append(errs, s.withdraw(e, gone))
		taken = append(taken, gone...)
	}
	return taken, errors.Join(append(errs, s.closeRest(containerID, wanted))...)
}

// FreeRest gives up ports that are reserved for a container and not published. Of one
// that has no way out all stay: they are published when it has one.
func (s *Service) FreeRest(containerID string) error {
	if len(s.exits(containerID).byFamily) == 0 {
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

// unpublish takes the ports of an endpoint back. They stay the container's until Release:
// who keeps them reserved for it has their sockets as well.
func (s *Service) unpublish(e *Endpoint) error {
	return s.withdraw(e, s.takePorts(e, func(Port) bool { return true }))
}

// withdraw takes back what was published of an endpoint until now, and parks it.
func (s *Service) withdraw(e *Endpoint, ports []Port) error {
	if len(ports) == 0 {
		return nil
	}
	err := s.unserve(e, ports)
	for _, p := range ports {
		s.ports.park(p)
	}
	s.forgetFlows(e, ports, true)
	return err
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
