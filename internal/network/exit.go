package network

import (
	"cmp"
	"errors"
	"net/netip"
	"os"
	"slices"
	"syscall"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/network/bridge"
)

// leadsOut says that a container with an endpoint can go out by it.
func (e *Endpoint) leadsOut(f family) bool {
	n := e.network
	return e.gateway(f).IsValid() || n.parent != nil && n.parent.Layer3() && !n.rec.Internal && e.ip(f).IsValid()
}

// defaultRoute is the way out by an endpoint.
func (e *Endpoint) defaultRoute(f family) netlink.Route {
	if g := *e.gateway(f); g.IsValid() {
		return bridge.DefaultRoute(g, e.Iface)
	}
	return netlink.Route{Dst: netip.PrefixFrom(unspecified(f), 0), Index: e.Iface}
}

// bestExits are the endpoints that are to be the ways out, as with Docker: of those that
// lead out by a family the one of the highest priority, of these one that leads out by
// both, of these the first by the network's name. A family that leads nowhere has none.
func (t *table) bestExits(containerID string) map[family]*Endpoint {
	list := t.Endpoints(containerID)
	slices.SortStableFunc(list, func(a, b *Endpoint) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(b.leads(), a.leads()), cmp.Compare(a.NetworkName, b.NetworkName))
	})
	best := map[family]*Endpoint{}
	for _, e := range list {
		for _, f := range families {
			if best[f] == nil && e.leadsOut(f) {
				best[f] = e
			}
		}
	}
	return best
}

// leads counts the families by which an endpoint leads out.
func (e *Endpoint) leads() (n int) {
	for _, f := range families {
		if e.leadsOut(f) {
			n++
		}
	}
	return n
}

// settleExit moves the default routes and the host's ports to the endpoints that are to
// be the ways out. left has just left the table, nil if none has. Where there is no way
// out any more, or one by which ports are opened instead, they are not published.
func (s *Service) settleExit(containerID string, left *Endpoint, ns *os.File) error {
	best := s.bestExits(containerID)
	before := s.published(containerID, left)
	var errs []error
	moved := false
	for _, f := range families {
		m, err := s.moveExit(containerID, f, left, best[f], ns)
		moved = moved || m
		errs = append(errs, err)
	}
	if moved {
		errs = append(errs, s.movePorts(containerID, before))
	}
	return errors.Join(errs...)
}

// moveExit is settleExit for one family's route.
func (s *Service) moveExit(containerID string, f family, left, to *Endpoint, ns *os.File) (moved bool, err error) {
	from := s.exitOf(containerID, f)
	if from == nil && left != nil && *left.exit(f) {
		from = left
	}
	if from == to {
		return false, nil
	}
	if to != nil && ns != nil && to.made() {
		if err := s.reroute(containerID, f, to, ns); err != nil {
			return false, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if to != nil {
		*to.exit(f) = true
	}
	if from != nil {
		*from.exit(f) = false
	}
	return true, nil
}

// reroute has the container's default route of a family lead to an endpoint. What its
// root has made of the routes otherwise is his business.
func (s *Service) reroute(containerID string, f family, to *Endpoint, ns *os.File) error {
	inside, err := socketIn(ns)
	if err != nil {
		return err
	}
	defer inside.Close()
	routes, err := inside.Routes(int(f))
	if err != nil {
		return err
	}
	ours := s.Endpoints(containerID)
	for _, r := range routes {
		others := slices.ContainsFunc(ours, func(e *Endpoint) bool { return e != to && e.Iface == r.Index })
		if r.Dst.Bits() != 0 || !others {
			continue
		}
		var b netlink.Batch
		b.DelRoute(r)
		if err := inside.Do(&b); err != nil {
			return err
		}
	}
	var b netlink.Batch
	b.AddRoute(to.defaultRoute(f))
	switch err := inside.Do(&b); {
	case err == nil || errors.Is(err, syscall.EEXIST):
		return nil
	case len(to.Sysctls) > 0:
		return errdefs.New(errdefs.InvalidArgument, "network %s: the sysctls of the endpoint leave no way out by IPv%d: %w", to.NetworkName, f, err)
	default:
		return err
	}
}
