package network

import (
	"fmt"
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
	endpoints map[string]*Endpoint // by container
	booked    map[string]*Network  // of containers whose endpoints are being made
}

func newTable() *table {
	return &table{endpoints: map[string]*Endpoint{}, booked: map[string]*Network{}}
}

// Endpoint returns the endpoint of a container, or nil.
func (t *table) Endpoint(containerID string) *Endpoint {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.endpoints[containerID]
}

// book keeps a place for the container's endpoint: there is one.
func (t *table) book(containerID string, n *Network) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.endpoints[containerID] != nil || t.booked[containerID] != nil {
		return errdefs.New(errdefs.Conflict, "container %s is attached to a network already", ident.Short(containerID))
	}
	if n.removed {
		return errdefs.New(errdefs.NotFound, "network %s not found", n.rec.Name)
	}
	t.booked[containerID] = n
	return nil
}

// close keeps containers from being attached to a network that is to be removed,
// unless one is.
func (t *table) close(n *Network) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var active []string
	for id, e := range t.endpoints {
		if e.network == n {
			active = append(active, fmt.Sprintf("name:%q id:%q", e.Name, ident.Short(id)))
		}
	}
	for id, other := range t.booked {
		if other == n {
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
	for _, e := range t.endpoints {
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
		t.endpoints[e.ContainerID] = e
	}
}

// Bind makes a reserved endpoint an ordinary one, with the name of its
// container.
func (t *table) Bind(containerID, name string) (*Endpoint, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.endpoints[containerID]
	if e == nil || !e.ahead {
		return nil, fmt.Errorf("no endpoint is reserved for container %s", ident.Short(containerID))
	}
	e.ahead, e.Name = false, name
	return e, nil
}

// Rename gives a container's endpoint the container's new name.
func (t *table) Rename(containerID, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.endpoints[containerID]; e != nil {
		e.Name = name
	}
}

// portsOf returns what is published of an endpoint.
func (t *table) portsOf(e *Endpoint) []Port {
	t.mu.Lock()
	defer t.mu.Unlock()
	return e.Ports
}

// hasAddr reports whether an endpoint has the address.
func (t *table) hasAddr(ip netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.endpoints {
		if e.IP.Addr() == ip {
			return true
		}
	}
	return false
}
