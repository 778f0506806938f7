// Package conntrack makes the kernel forget connections that it tracks.
//
// Address translation is decided by the first packet of a connection. UDP has
// no end that the kernel could see: a client that goes on sending from the same
// port is sent to where the first packet went for minutes, whatever the rules
// say by then.
package conntrack

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Flow is a tracked UDP connection: To is the destination that the client sees,
// Server is who answers, which differs if the destination was translated.
type Flow struct {
	From, To, Server netip.AddrPort
}

// ForgetUDP deletes the UDP flows that match, in the network namespace of
// the calling thread, and returns how many there were. It reads the whole table
// of connections.
func ForgetUDP(match func(Flow) bool) (int, error) {
	count := 0
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		n, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, filter(match))
		count += int(n)
		if err != nil {
			return count, fmt.Errorf("delete tracked connections: %w", err)
		}
	}
	return count, nil
}

type filter func(Flow) bool

// MatchConntrackFlow is called by the library for every connection.
func (f filter) MatchConntrackFlow(c *netlink.ConntrackFlow) bool {
	if c.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	from, ok1 := netip.AddrFromSlice(c.Forward.SrcIP)
	to, ok2 := netip.AddrFromSlice(c.Forward.DstIP)
	server, ok3 := netip.AddrFromSlice(c.Reverse.SrcIP)
	return ok1 && ok2 && ok3 && f(Flow{
		From:   netip.AddrPortFrom(from.Unmap(), c.Forward.SrcPort),
		To:     netip.AddrPortFrom(to.Unmap(), c.Forward.DstPort),
		Server: netip.AddrPortFrom(server.Unmap(), c.Reverse.SrcPort),
	})
}
