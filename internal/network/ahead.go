package network

import (
	"context"
	"errors"
	"fmt"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/undo"
)

// Endpoints are made ahead, for containers that do not exist yet: those show nowhere,
// have neither names nor addresses, and keep nothing from anybody: a network that has no
// others can be removed.

// SetEvict names who keeps endpoints reserved, once, before the first of Reserve. evict
// releases those of a network that are not bound; it returns when none is left, and
// may not make or remove networks.
func (s *Service) SetEvict(evict func(networkID string)) { s.evict = evict }

// Reservable finds a network in which endpoints can be made ahead, and returns its ID.
// Those whose links hang on one of the host's are made with their addresses.
func (s *Service) Reservable(ref string) (id string, ok bool) {
	n, err := s.find(ref)
	if err != nil || n.link == nil {
		return "", false
	}
	return n.rec.ID, true
}

// Reserve is Attach for a container that does not exist yet, in a network of bridges,
// and has names served in its namespace: nothing of it shows until Bind, and it has no
// address.
func (s *Service) Reserve(ctx context.Context, r Request) (_ *Endpoint, err error) {
	if _, ok := s.Reservable(r.Network); !ok {
		return nil, errdefs.New(errdefs.Forbidden, "network %s has no endpoints ahead", r.Network)
	}
	r.ahead = true
	e, err := s.Attach(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := s.ServeNames(r.ContainerID, nil, e.NetNS); err != nil {
		return nil, errors.Join(err, s.Release(context.WithoutCancel(ctx), r.ContainerID))
	}
	return e, nil
}

// Plain reports whether an endpoint that was made ahead can be what is asked for: it has
// a namespace, in which its link has a name and nothing else than its network gives it.
// Limits are given to it when it is bound.
func (r Request) Plain() bool {
	return r.IfaceName == "" && !r.Later && len(r.LinkLocal) == 0 && len(r.Sysctls) == 0
}

// Bind makes a reserved endpoint the ordinary one of a plain request for its container
// and its network. After an error it can only be released.
func (s *Service) Bind(r Request) (_ *Endpoint, err error) {
	if err := s.Check(r); err != nil {
		return nil, err
	}
	n, err := s.find(r.Network)
	if err != nil {
		return nil, err
	}
	e, err := s.bookAhead(n, r)
	if err != nil {
		return nil, err
	}
	defer func() { s.unbook(r.ContainerID) }()
	bound := *e
	bound.Name, bound.Hostname, bound.Aliases, bound.Links, bound.Priority, bound.MAC = r.Name, r.Hostname, r.Aliases, r.Links, r.Priority, MAC(r.MAC)
	bound.Limits = r.Limits
	if err := s.assign(&bound, r); err != nil {
		return nil, fmt.Errorf("network %s: %w", n.rec.Name, err)
	}
	s.bind(e, bound)
	if err := s.limitNew(e); err != nil {
		return nil, err
	}
	s.changed(e, true)
	return e, nil
}

// assign gives an endpoint ahead its addresses.
func (s *Service) assign(e *Endpoint, r Request) (err error) {
	var u undo.Stack
	defer u.Run(&err)
	if err := s.takeIPs(e, r); err != nil {
		return err
	}
	u.Add(func() error { e.network.giveBack(e.addrs()); return nil })
	e.Exit, e.Exit6 = e.leadsOut(v4), e.leadsOut(v6)
	on := s.driven(e)
	u.Add(func() error { return e.network.link.Forget(s.host, on) })
	if err := e.network.link.Assign(s.host, e.inside, on); err != nil {
		return err
	}
	return e.inside.Close()
}

// bookAhead finds a container's endpoint ahead and keeps its network from being removed
// until unbook.
func (t *table) bookAhead(n *Network, r Request) (*Endpoint, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.endpoints[r.ContainerID]
	switch {
	case len(list) != 1 || !list[0].ahead || list[0].network != n || n.removed || t.booked[r.ContainerID] != nil:
		return nil, fmt.Errorf("no endpoint of network %s is reserved for container %s", n.rec.Name, ident.Short(r.ContainerID))
	case !r.Plain():
		return nil, fmt.Errorf("the endpoint reserved for container %s has a link already", ident.Short(r.ContainerID))
	}
	t.booked[r.ContainerID] = &Endpoint{network: n, Record: Record{ContainerID: r.ContainerID, Beside: list[0].Beside}}
	return list[0], nil
}

func (t *table) unbook(containerID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.booked, containerID)
}

// bind makes an endpoint ahead an ordinary one.
func (t *table) bind(e *Endpoint, bound Endpoint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(e)
	e.Record, e.Gateway, e.Gateway6, e.ahead, e.inside = bound.Record, bound.Gateway, bound.Gateway6, false, nil
	t.add(e)
}
