package netlink

import (
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// family returns the address family's number.
func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// Addr is an address of a link.
type Addr struct {
	Prefix        netip.Prefix
	NoPrefixRoute bool // make no route for the prefix
}

// AddAddr gives a link an address. One of IPv6 is used at once, without asking on the
// wire whether somebody has it.
func (b *Batch) AddAddr(index int, a Addr) {
	ip := a.Prefix.Addr()
	b.begin(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, "add address %s", a.Prefix)
	b.u8(family(ip), byte(a.Prefix.Bits()), 0, unix.RT_SCOPE_UNIVERSE)
	b.u32(uint32(index))
	b.attr(unix.IFA_LOCAL, ip.AsSlice())
	b.attr(unix.IFA_ADDRESS, ip.AsSlice())
	if ip.Is4() && a.Prefix.Bits() < 31 {
		b.attr(unix.IFA_BROADCAST, broadcast(a.Prefix))
	}
	if flags := a.flags(); flags != 0 {
		b.attr32(unix.IFA_FLAGS, flags)
	}
	b.end()
}

func (a Addr) flags() (flags uint32) {
	if a.NoPrefixRoute {
		flags |= unix.IFA_F_NOPREFIXROUTE
	}
	if a.Prefix.Addr().Is6() {
		flags |= unix.IFA_F_NODAD
	}
	return flags
}

// broadcast returns the last address of an IPv4 prefix.
func broadcast(p netip.Prefix) []byte {
	ip := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		ip[i/8] |= 0x80 >> (i % 8)
	}
	return ip[:]
}

// Route is a unicast route of the main table.
type Route struct {
	Dst     netip.Prefix
	Gateway netip.Addr // zero: Dst is on the link itself
	Src     netip.Addr // preferred source; zero: the kernel's choice
	Index   int        // of the link
	OnLink  bool       // the gateway need not be in a prefix of the link
}

// AddRoute adds a route or replaces the one with the same destination.
func (b *Batch) AddRoute(r Route) {
	b.begin(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, "add route to %s", r.Dst)
	b.route(r)
}

// DelRoute removes a route; it is no error if there is none.
func (b *Batch) DelRoute(r Route) {
	b.begin(unix.RTM_DELROUTE, 0, "delete route to %s", r.Dst)
	b.route(r)
	b.ignore(unix.ESRCH, unix.ENODEV)
}

func (b *Batch) route(r Route) {
	scope, flags := byte(unix.RT_SCOPE_UNIVERSE), uint32(0)
	if !r.Gateway.IsValid() {
		scope = unix.RT_SCOPE_LINK
	}
	if r.OnLink {
		flags = unix.RTNH_F_ONLINK
	}
	b.u8(family(r.Dst.Addr()), byte(r.Dst.Bits()), 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, scope, unix.RTN_UNICAST)
	b.u32(flags)
	if r.Dst.Bits() > 0 {
		b.attr(unix.RTA_DST, r.Dst.Addr().AsSlice())
	}
	if r.Gateway.IsValid() {
		b.attr(unix.RTA_GATEWAY, r.Gateway.AsSlice())
	}
	if r.Src.IsValid() {
		b.attr(unix.RTA_PREFSRC, r.Src.AsSlice())
	}
	b.attr32(unix.RTA_OIF, uint32(r.Index))
	b.end()
}

// AddNeighbour makes a permanent neighbour entry: the address is never asked
// for on the wire, and the garbage collection of neighbours never sees it.
func (b *Batch) AddNeighbour(index int, ip netip.Addr, mac net.HardwareAddr) {
	b.begin(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, "add neighbour %s", ip)
	b.neighbour(index, family(ip), unix.NUD_PERMANENT, 0)
	b.attr(unix.NDA_DST, ip.AsSlice())
	b.attr(unix.NDA_LLADDR, mac)
	b.end()
}

// DelNeighbour removes a neighbour entry; it is no error if there is none.
func (b *Batch) DelNeighbour(index int, ip netip.Addr) {
	b.begin(unix.RTM_DELNEIGH, 0, "delete neighbour %s", ip)
	b.neighbour(index, family(ip), 0, 0)
	b.attr(unix.NDA_DST, ip.AsSlice())
	b.end()
	b.ignore(unix.ENOENT, unix.ENODEV)
}

// AddProxy has the link answer when somebody asks for an IPv6 address that is elsewhere,
// also after the link's carrier was gone (before Linux 6.0 it forgets that then).
func (b *Batch) AddProxy(index int, ip netip.Addr) {
	b.begin(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, "answer for %s", ip)
	b.neighbour(index, family(ip), unix.NUD_PERMANENT, unix.NTF_PROXY)
	b.attr(unix.NDA_DST, ip.AsSlice())
	b.end()
}

// DelProxy ends that; it is no error if the link does not answer.
func (b *Batch) DelProxy(index int, ip netip.Addr) {
	b.begin(unix.RTM_DELNEIGH, 0, "do not answer for %s", ip)
	b.neighbour(index, family(ip), 0, unix.NTF_PROXY)
	b.attr(unix.NDA_DST, ip.AsSlice())
	b.end()
	b.ignore(unix.ENOENT, unix.ENODEV)
}

// AddForwarding tells the bridge of a port which MAC is behind it, so that the
// first frame is not flooded to all ports.
func (b *Batch) AddForwarding(port int, mac net.HardwareAddr) {
	b.begin(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, "add forwarding entry %s", mac)
	b.neighbour(port, unix.AF_BRIDGE, unix.NUD_NOARP, unix.NTF_MASTER)
	b.attr(unix.NDA_LLADDR, mac)
	b.end()
}

func (b *Batch) neighbour(index int, family byte, state uint16, flags byte) {
	b.u8(family, 0, 0, 0)
	b.u32(uint32(index))
	b.u16(state)
	b.u8(flags, 0)
}

// DelAddr takes an address from a link; it is no error if it does not have it.
func (b *Batch) DelAddr(index int, p netip.Prefix) {
	b.begin(unix.RTM_DELADDR, 0, "delete address %s", p)
	b.u8(family(p.Addr()), byte(p.Bits()), 0, 0)
	b.u32(uint32(index))
	b.attr(unix.IFA_LOCAL, p.Addr().AsSlice())
	b.end()
	b.ignore(unix.EADDRNOTAVAIL)
}
