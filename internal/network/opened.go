package network

import (
	"errors"
	"slices"
)

// In a network whose gateway is routed, a published port is one that is opened at the
// container's own address: by whichever way the container goes out, and without a port
// of the host (Port.Host is 0).

// translates says that ports of the host can lead to an endpoint by a family.
func (e *Endpoint) translates(f family) bool {
	return e.network.link != nil && e.network.settings.mode(f) != modeRouted
}

// opens are the ports of an endpoint that are to be opened. Of the host's address that
// one names only the family counts.
func (e *Endpoint) opens(wanted []Port) (ports []Port) {
	for _, f := range families {
		if e.network.link == nil || e.network.rec.Internal || !e.ip(f).IsValid() || e.translates(f) {
			continue
		}
		for _, p := range wanted {
			o := Port{Proto: p.Proto, Container: p.Container, HostIP: unspecified(f)}
			if (!p.HostIP.IsValid() || familyOf(p.HostIP) == f) && !slices.Contains(ports, o) {
				ports = append(ports, o)
			}
		}
	}
	return ports
}

// toOpen are the ports of a container's endpoints that are to be opened and are not.
func (ps *publications) toOpen(containerID string, wanted []Port) map[*Endpoint][]Port {
	all := map[*Endpoint][]Port{}
	for _, e := range ps.Endpoints(containerID) {
		have := ps.portsOf(e)
		for _, p := range e.opens(wanted) {
			if !slices.Contains(have, p) {
				all[e] = append(all[e], p)
			}
		}
	}
	return all
}

// opensOnly says that a wanted port is opened at the container's addresses, and nowhere
// else: it names a family by which the container is routed.
func (ps *publications) opensOnly(containerID string, p Port) bool {
	return slices.ContainsFunc(ps.Endpoints(containerID), func(e *Endpoint) bool { return len(e.opens([]Port{p})) > 0 })
}

// closeRest closes the opened ports of a container that are not wanted.
func (ps *publications) closeRest(containerID string, wanted []Port) error {
	var errs []error
	for _, e := range ps.Endpoints(containerID) {
		want := e.opens(wanted)
		gone := ps.takePorts(e, func(p Port) bool { return p.opened() && !slices.Contains(want, p) })
		errs = append(errs, ps.withdraw(e, gone))
	}
	return errors.Join(errs...)
}

// opened says that a port is the container's own, none of the host.
func (p Port) opened() bool { return p.Host == 0 }
