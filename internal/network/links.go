package network

import (
	"errors"
	"maps"
	"net/netip"
	"slices"

	"github.com/tare-engine/tare/internal/network/firewall"
)

// linkWays are ways between containers of the default network, where it has none otherwise
// (NoICC), by who uses them and to whom they lead. The table's lock guards it.
type linkWays map[string]map[string][]firewall.Way

// SetLinks lets a container reach ports of others by the default network, and no more than
// these, if its containers do not reach each other anyway. Ports name a protocol and a
// port of the container. Who has no address there is left out. Release of either closes
// the way.
func (s *Service) SetLinks(from string, to map[string][]Port) error {
	n, err := s.find("bridge")
	if err != nil || n.link == nil || n.settings.icc {
		return err
	}
	now := map[string][]firewall.Way{}
	source := s.addressIn(from, n)
	for id, ports := range to {
		dest := s.addressIn(id, n)
		if !source.IsValid() || !dest.IsValid() {
			continue
		}
		for _, p := range ports {
			now[id] = append(now[id], firewall.Way{Proto: p.Proto, From: source, To: netip.AddrPortFrom(dest, p.Container)})
		}
	}
	s.mu.Lock()
	before := flat(s.linkWays[from])
	if s.linkWays[from] = now; len(now) == 0 {
		delete(s.linkWays, from)
	}
	s.mu.Unlock()
	wanted := flat(now)
	gone := slices.DeleteFunc(slices.Clone(before), func(w firewall.Way) bool { return slices.Contains(wanted, w) })
	if len(wanted) == 0 {
		return s.wall.RemoveWays(gone...)
	}
	return errors.Join(s.wall.RemoveWays(gone...), s.wall.AddWays(wanted...))
}

// dropLinks closes the ways from a container and to it.
func (s *Service) dropLinks(id string) error {
	s.mu.Lock()
	gone := flat(s.linkWays[id])
	delete(s.linkWays, id)
	for _, to := range s.linkWays {
		gone = append(gone, to[id]...)
		delete(to, id)
	}
	s.mu.Unlock()
	return s.wall.RemoveWays(gone...)
}

func flat(by map[string][]firewall.Way) []firewall.Way {
	return slices.Concat(slices.Collect(maps.Values(by))...)
}

// addressIn is a container's IPv4 address in a network; zero if it has none.
func (t *table) addressIn(id string, n *Network) netip.Addr {
	for _, e := range t.Endpoints(id) {
		if e.network == n {
			return e.IP.Addr()
		}
	}
	return netip.Addr{}
}
