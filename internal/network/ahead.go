package network

import (
	"context"
	"errors"
	"fmt"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/network/ipam"
)

// Endpoints are made ahead, for containers that do not exist yet: those show nowhere,
// have no names, and keep nothing from anybody. A network that has no others can be
// removed, and an address that somebody asks for is his.

// SetEvict names who keeps endpoints reserved, once, before the first of Reserve. evict
// releases those of a network that are not bound; it returns when none is left, and
// may not make or remove networks.
func (s *Service) SetEvict(evict func(networkID string)) { s.evict = evict }

// Reserve is Attach for a container that does not exist yet, in a network of bridges,
// and has names served in its namespace: nothing of it shows until Bind.
func (s *Service) Reserve(ctx context.Context, r Request) (_ *Endpoint, err error) {
	n, err := s.find(r.Network)
	if err != nil {
		return nil, err
	}
	if n.link == nil || n.scarce() {
		return nil, errdefs.New(errdefs.Forbidden, "network %s has no endpoints ahead", n.rec.Name)
	}
	r.ahead = true
	e, err := s.attach(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := s.ServeNames(r.ContainerID, nil, e.NetNS); err != nil {
		return nil, errors.Join(err, s.Release(context.WithoutCancel(ctx), r.ContainerID))
	}
	return e, nil
}

// spare is how many addresses a network must have left for endpoints to be made ahead.
const spare = 16

// scarce reports whether the network is about to run out of addresses.
func (n *Network) scarce() bool {
	for _, pool := range n.pools {
		if !pool.Has(spare) {
			return true
		}
	}
	return false
}

// Plain reports whether an endpoint that was made ahead can be what is asked for: its
// addresses and the name of its link are as they are.
func (r Request) Plain() bool {
	return !r.IP.IsValid() && !r.IP6.IsValid() && len(r.MAC) == 0 && r.IfaceName == "" && !r.Later
}

// Bind makes a reserved endpoint the ordinary one of a plain request for its container
// and its network. On an error the endpoint stays as it was.
func (s *Service) Bind(r Request) (*Endpoint, error) {
	n, err := s.find(r.Network)
	if err != nil {
		return nil, err
	}
	e, err := s.bind(n, r)
	if err == nil {
		s.changed(e, true)
	}
	return e, err
}

// bind is Bind.
func (t *table) bind(n *Network, r Request) (*Endpoint, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.endpoints[r.ContainerID]
	switch {
	case len(list) != 1 || !list[0].ahead || list[0].network != n || n.removed:
		return nil, fmt.Errorf("no endpoint of network %s is reserved for container %s", n.rec.Name, ident.Short(r.ContainerID))
	case !r.Plain():
		return nil, fmt.Errorf("the endpoint reserved for container %s has a link already", ident.Short(r.ContainerID))
	}
	e := list[0]
	e.ahead = false
	e.Name, e.Hostname, e.Aliases, e.Links, e.Priority = r.Name, r.Hostname, r.Aliases, r.Links, r.Priority
	t.names.add(e)
	return e, nil
}

// evictFor gives up the endpoints ahead of a network if that may be why an address
// cannot be had, and waits until theirs are free.
func (s *Service) evictFor(n *Network, err error) bool {
	if s.evict == nil || !errors.Is(err, ipam.ErrInUse) && !errors.Is(err, ipam.ErrExhausted) && !errors.Is(err, ipam.ErrExhausted6) {
		return false
	}
	s.mu.Lock()
	var ahead []*Endpoint
	for e := range s.every() {
		if e.network == n && e.ahead {
			ahead = append(ahead, e)
		}
	}
	s.mu.Unlock()
	if len(ahead) == 0 {
		return false
	}
	s.evict(n.rec.ID)
	for _, e := range ahead {
		for _, a := range e.addrs() {
			s.leaving.hasten(n, a)
		}
	}
	return true
}
