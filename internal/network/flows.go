package network

import (
	"net"
	"net/netip"
	"slices"

	"github.com/tare-engine/tare/internal/linux/conntrack"
)

// forgetFlows ends UDP connections that were begun under other rules: those to
// ports just published that did not get to the container, or, once it is
// released, those that still go there. It works in the background: the table
// of connections may be long.
func (ps *publications) forgetFlows(e *Endpoint, ports []Port, released bool) {
	udp := map[uint16]bool{}
	for _, p := range ports {
		if p.Proto == "udp" {
			udp[p.Host] = true
		}
	}
	if len(udp) == 0 {
		return
	}
	ours := e.addrs()
	ps.done.Go(func() {
		local := localAddrs()
		_, err := conntrack.ForgetUDP(func(f conntrack.Flow) bool {
			stale := released == slices.Contains(ours, f.Server.Addr())
			return stale && udp[f.To.Port()] && local[f.To.Addr()]
		})
		if err != nil {
			ps.log.Warn("stale UDP connections", "err", err)
		}
	})
}

// localAddrs is the set of the host's own addresses.
func localAddrs() map[netip.Addr]bool {
	set := map[netip.Addr]bool{}
	all, _ := net.InterfaceAddrs()
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			set[p.Addr()] = true
		}
	}
	return set
}
