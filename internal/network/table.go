package network

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
)

// table are the endpoints there are, and those that are being made. Its lock
// guards what changes of an endpoint too.
type table struct {
	mu        sync.Mutex
	endpoints map[string]*Endpoint // by container
	booked    map[string]bool      // containers whose endpoints are being made
}

func newTable() *table { return &table{endpoints: map[string]*Endpoint{}, booked: map[string]bool{}} }

// Endpoint returns the endpoint of a container, or nil.
func (t *table) Endpoint(containerID string) *Endpoint {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.endpoints[containerID]
}

// book keeps a place for the container's endpoint: there is one.
func (t *table) book(containerID string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.endpoints[containerID] != nil || t.booked[containerID] {
		return errdefs.New(errdefs.Conflict, "container %s is attached to a network already", ident.Short(containerID))
	}
	t.booked[containerID] = true
	return nil
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
