package network

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
)

// table are the endpoints there are, and those that are being made. Its lock
// guards what changes of an endpoint too.
type table struct {
	mu        sync.Mutex
	endpoints map[string][]*Endpoint // by container, in the order in which they came
	booked    map[string]*Endpoint   // by container: those that are being made
	names     names
	linkWays  linkWays

	links  map[int]*Endpoint  // by the link's index
	hosts  map[spot]*Endpoint // by network and address
	ported map[*Network]int   // how many have a port of the network's bridge
}

// spot is an address in a network.
type spot struct {
	networkID string
	addr      netip.Addr
}

func newTable() *table {
	return &table{
		endpoints: map[string][]*Endpoint{}, booked: map[string]*Endpoint{}, names: names{}, linkWays: linkWays{},
		links: map[int]*Endpoint{}, hosts: map[spot]*Endpoint{}, ported: map[*Network]int{},
	}
}

// every is the endpoints of all containers.
//
// Preconditions: t.mu is held.
func (t *table) every() iter.Seq[*Endpoint] {
	return func(yield func(*Endpoint) bool) {
		for _, list := range t.endpoints {
			for _, e := range list {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// Endpoints returns the endpoints of a container, in the order in which they came.
func (t *table) Endpoints(containerID string) []*Endpoint {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.endpoints[containerID])
}

// exitOf returns the endpoint by which a container goes out, and where its ports
// are published; nil if there is none. Of IPv6 it may be another than of IPv4.
func (t *table) exitOf(containerID string, f family) *Endpoint {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.endpoints[containerID] {
		if *e.exit(f) {
			return e
		}
	}
	return nil
}

// book keeps a place for one more endpoint of its container. Of a network there is
// one.
func (t *table) book(e *Endpoint, first bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := e.network
	switch have := t.endpoints[e.ContainerID]; {
	case slices.ContainsFunc(have, func(e *Endpoint) bool { return e.network == n }):
		return errdefs.New(errdefs.Forbidden, "endpoint with name %s already exists in network %s", e.Name, n.rec.Name)
	case first && len(have) > 0 || t.booked[e.ContainerID] != nil:
		return errdefs.New(errdefs.Conflict, "container %s is attached to a network already", ident.Short(e.ContainerID))
	case n.removed:
		return errdefs.New(errdefs.NotFound, "network %s not found", n.rec.Name)
	}
	t.booked[e.ContainerID] = e
	return nil
}

// close keeps containers from being attached to a network that is to be removed,
// unless one is, or is about to be. Endpoints ahead do not count, and are no longer
// bound.
func (t *table) close(n *Network) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var active []string
	for e := range t.every() {
		if e.network == n && !e.ahead {
			active = append(active, fmt.Sprintf("name:%q id:%q", e.Name, ident.Short(e.ContainerID)))
		}
	}
	for id, e := range t.booked {
		if e.network == n && !e.ahead {
			active = append(active, fmt.Sprintf("id:%q", ident.Short(id)))
		}
	}
	if len(active) > 0 {
		slices.Sort(active)
		return errdefs.New(errdefs.Forbidden, "error while removing network: network %s has active endpoints (%s)", n.rec.Name, strings.Join(active, ", "))
	}
	n.removed = true
	return nil
}

// InUse reports whether a container is attached to a network.
func (t *table) InUse(networkID string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := range t.every() {
		if e.NetworkID == networkID && !e.ahead {
			return true
		}
	}
	return false
}

// reopen takes close back.
func (t *table) reopen(n *Network) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n.removed = false
}

// enroll puts a finished endpoint into the place that was booked, or gives the
// place up.
func (t *table) enroll(e *Endpoint, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.booked, e.ContainerID)
	if err == nil {
		t.add(e)
	}
}

// add adds an endpoint, which is found by its names from now on.
//
// Preconditions: t.mu is held.
func (t *table) add(e *Endpoint) {
	t.endpoints[e.ContainerID] = append(t.endpoints[e.ContainerID], e)
	t.names.add(e)
	if !e.Beside {
		t.ported[e.network]++
	}
	for _, a := range e.addrs() {
		t.hosts[spot{e.NetworkID, a}] = e
	}
	t.linked(e)
}

// linked notes that an endpoint has its link.
//
// Preconditions: t.mu is held.
func (t *table) linked(e *Endpoint) {
	if e.Index != 0 {
		t.links[e.Index] = e
	}
}

// remove takes one endpoint out.
//
// Preconditions: t.mu is held.
func (t *table) remove(e *Endpoint) {
	t.names.drop(e)
	rest := slices.DeleteFunc(slices.Clone(t.endpoints[e.ContainerID]), func(other *Endpoint) bool { return other == e })
	if t.endpoints[e.ContainerID] = rest; len(rest) == 0 {
		delete(t.endpoints, e.ContainerID)
	}
	if !e.Beside {
		if t.ported[e.network]--; t.ported[e.network] == 0 {
			delete(t.ported, e.network)
		}
	}
	for _, a := range e.addrs() {
		delete(t.hosts, spot{e.NetworkID, a})
	}
	delete(t.links, e.Index)
}

// removeAll takes all endpoints of a container out.
func (t *table) removeAll(containerID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.endpoints[containerID] {
		t.remove(e)
	}
}

// Rename gives a container's endpoints the container's new name.
func (t *table) Rename(containerID, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.endpoints[containerID] {
		t.names.drop(e)
		e.Name = name
		t.names.add(e)
	}
}

// portsOf returns what is published of an endpoint.
func (t *table) portsOf(e *Endpoint) []Port {
	t.mu.Lock()
	defer t.mu.Unlock()
	return e.Ports
}

// takePorts takes ports that are published of an endpoint from it.
func (t *table) takePorts(e *Endpoint, which func(Port) bool) (taken []Port) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var rest []Port
	for _, p := range e.Ports {
		if which(p) {
			taken = append(taken, p)
		} else {
			rest = append(rest, p)
		}
	}
	e.Ports = rest
	return taken
}

// has reports whether an endpoint of a network has an address.
func (t *table) has(networkID string, ip netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.hosts[spot{networkID, ip}] != nil
}
