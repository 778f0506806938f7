package network

import (
	"errors"
	"maps"
	"net/netip"
	"slices"

	"github.com/tare-engine/tare/internal/linux/sysctl"
	"github.com/tare-engine/tare/internal/network/firewall"
)

// opened are ways between containers of the default network, where it has none otherwise
// (NoICC), by who uses them and to whom they lead. The table's lock guards it.
type opened map[string]map[string][]firewall.Link

// SetLinks lets a container reach ports of others by the default network, and no more than
// these, if its containers do not reach each other anyway. Ports name a protocol and a
// port of the container. Who has no address there is left out. Release of either closes
// the way.
func (s *Service) SetLinks(from string, to map[string][]Port) error {
	n, err := s.find("bridge")
	if err != nil || n.link == nil || n.settings.icc {
		return err
	}
	now := map[string][]firewall.Link{}
	source := s.addressIn(from, n)
	for id, ports := range to {
		dest := s.addressIn(id, n)
		if !source.IsValid() || !dest.IsValid() {
			continue
		}
		for _, p := range ports {
			now[id] = append(now[id], firewall.Link{Proto: p.Proto, From: source, To: netip.AddrPortFrom(dest, p.Container)})
		}
	}
	s.mu.Lock()
	before := flat(s.opened[from])
	if s.opened[from] = now; len(now) == 0 {
		delete(s.opened, from)
	}
	s.mu.Unlock()
	wanted := flat(now)
	gone := slices.DeleteFunc(slices.Clone(before), func(l firewall.Link) bool { return slices.Contains(wanted, l) })
	if len(wanted) == 0 {
		return s.wall.RemoveLinks(gone...)
	}
	// Ports of the bridge are isolated from each other: the host answers for the others'
	// addresses, and sends on what the firewall lets through.
	return errors.Join(s.wall.RemoveLinks(gone...), s.wall.AddLinks(wanted...), sysctl.Write("net/ipv4/conf/"+n.link.Name+"/proxy_arp_pvlan", "1"))
}

// dropLinks closes the ways from a container and to it.
func (s *Service) dropLinks(id string) error {
	s.mu.Lock()
	gone := flat(s.opened[id])
	delete(s.opened, id)
	for _, to := range s.opened {
		gone = append(gone, to[id]...)
		delete(to, id)
	}
	s.mu.Unlock()
	return s.wall.RemoveLinks(gone...)
}

func flat(by map[string][]firewall.Link) []firewall.Link {
	return slices.Concat(slices.Collect(maps.Values(by))...)
}

// addressIn is a container's IPv4 address in a network; zero if it has none.
func (s *Service) addressIn(id string, n *Network) netip.Addr {
	for _, e := range s.Endpoints(id) {
		if e.network == n {
			return e.IP.Addr()
		}
	}
	return netip.Addr{}
}
