package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
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
	e := s.Exit(containerID)
	if len(wanted) == 0 || e == nil { // what does not lead out has nothing published, as with Docker
		return nil, ctx.Err()
	}
	var u undo.Stack
	defer u.Run(&err)
	var got []Port
	for _, p := range wanted {
		p, fresh, err := s.reserve(e, p)
		if err != nil {
			return nil, programming(refused(err), e, err)
		}
		if fresh {
			u.Add(func() error { return s.ports.giveBack(p) })
		}
		got = append(got, p)
	}
	failpoint.Hit("start/ports-reserved")
	u.Add(func() error { return s.wall.Remove(bindings(e.IP.Addr(), got)...) })
	if err := s.wall.Add(bindings(e.IP.Addr(), got)...); err != nil {
		return nil, programming(errdefs.Internal, e, err)
	}
	failpoint.Hit("start/ports-published")
	if !e.Routed && e.Index != 0 { // else Enter does it
		if err := e.network.link.Hairpin(s.host, e.Index); err != nil {
			return nil, programming(errdefs.Internal, e, err)
		}
	}
	s.forgetFlows(e, got, false)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.Ports = merge(e.Ports, got)
	return got, nil
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
// the request is wrong by itself.
func refused(err error) errdefs.Kind {
	if errdefs.Is(err, errdefs.InvalidArgument) {
		return errdefs.InvalidArgument
	}
	return errdefs.Conflict
}

// programming wraps an error of publishing in Docker's words.
func programming(k errdefs.Kind, e *Endpoint, err error) error {
	return errdefs.New(k, "failed to set up container networking: driver failed programming external connectivity on endpoint %s (%s): %w", e.Name, e.EndpointID, err)
}

// reserve reserves one wanted port; fresh says that it was not the endpoint's
// before.
func (s *Service) reserve(e *Endpoint, p Port) (_ Port, fresh bool, err error) {
	if p, err = e.resolved(p); err != nil {
		return p, false, err
	}
	for _, have := range s.portsOf(e) {
		if have.Proto == p.Proto && have.Container == p.Container && have.HostIP == p.HostIP && p.offers(have.Host) {
			return have, false, nil
		}
	}
	p, err = s.ports.take(e.ContainerID, p)
	return p, true, err
}

// Retain takes back the published ports of a container that none of the wanted ones
// asks for. They stay reserved for it, so that it may publish them otherwise, until
// FreeRest.
func (s *Service) Retain(containerID string, wanted []Port) error {
	e := s.Exit(containerID)
	if e == nil {
		return nil
	}
	s.mu.Lock()
	var stay, gone []Port
	for _, have := range e.Ports {
		asked := slices.ContainsFunc(wanted, func(p Port) bool {
			p, err := e.resolved(p)
			return err == nil && have.Proto == p.Proto && have.Container == p.Container && have.HostIP == p.HostIP && p.offers(have.Host)
		})
		if asked {
			stay = append(stay, have)
		} else {
			gone = append(gone, have)
		}
	}
	e.Ports = stay
	s.mu.Unlock()
	if len(gone) == 0 {
		return nil
	}
	for _, p := range gone {
		s.ports.park(p)
	}
	err := s.wall.Remove(bindings(e.IP.Addr(), gone)...)
	s.forgetFlows(e, gone, true)
	return err
}

// FreeRest gives up ports that are reserved for a container and not published. Of one
// that has no way out all stay: they are published when it has one.
func (s *Service) FreeRest(containerID string) error {
	if s.Exit(containerID) == nil {
		return nil
	}
	return s.ports.releaseParked(containerID)
}

// resolved is a wanted port with the address of the host that it does not name.
func (e *Endpoint) resolved(p Port) (Port, error) {
	if !p.HostIP.IsValid() {
		p.HostIP = e.network.settings.hostIP
	}
	if !p.HostIP.Is4() {
		return p, errdefs.New(errdefs.InvalidArgument, "invalid host address %s: ports are published on IPv4 addresses", p.HostIP)
	}
	return p, nil
}

// offers reports whether a wanted port would be satisfied by a host port.
func (p Port) offers(host uint16) bool {
	return p.Host == 0 || p.Host <= host && host <= max(p.Host, p.HostEnd)
}

// unpublish takes all ports of an endpoint back. They stay the container's until
// Release: who keeps them reserved for it has their sockets as well.
func (s *Service) unpublish(e *Endpoint) error {
	s.mu.Lock()
	ports := e.Ports
	e.Ports = nil
	s.mu.Unlock()
	if len(ports) == 0 {
		return nil
	}
	for _, p := range ports {
		s.ports.park(p)
	}
	err := s.wall.Remove(bindings(e.IP.Addr(), ports)...)
	s.forgetFlows(e, ports, true)
	return err
}

// bindings says ports in the firewall's terms.
func bindings(ip netip.Addr, ports []Port) []firewall.Binding {
	var all []firewall.Binding
	for _, p := range ports {
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

// bindError is what Docker says of a port that the kernel refused.
func bindError(p Port, err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		err = no
	}
	return fmt.Errorf("failed to bind host port %s:%d/%s: %w", p.HostIP, p.Host, p.Proto, err)
}
