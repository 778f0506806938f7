package trace

import (
	"encoding/binary"
	"net/netip"

	"github.com/tare-engine/tare/internal/linux/ruleset"
)

// info reads the structures of iptables' matches and targets, in the host's order.
type info []byte

func (i info) u8(at int) byte {
	if at < len(i) {
		return i[at]
	}
	return 0
}

func (i info) u16(at int) uint16 {
	if at+2 <= len(i) {
		return binary.NativeEndian.Uint16(i[at:])
	}
	return 0
}

func (i info) u32(at int) uint32 {
	if at+4 <= len(i) {
		return binary.NativeEndian.Uint32(i[at:])
	}
	return 0
}

// xtMatch evaluates a match of iptables; why is not empty if that is not known.
func (x *execution) xtMatch(e ruleset.XTMatch) (ok bool, why string) {
	i := info(e.Info)
	switch {
	case e.Name == "comment":
		return true, ""
	case e.Name == "conntrack" && (e.Revision == 2 || e.Revision == 3):
		return x.xtConntrack(i)
	case e.Name == "state" && e.Revision == 0:
		return i.u32(0)&x.xtState() != 0, ""
	case e.Name == "addrtype" && e.Revision == 1:
		return x.xtAddrtype(i)
	case e.Name == "tcp":
		return x.xtTCP(i)
	case e.Name == "udp":
		return x.xtPorts(i, i.u8(8))
	case e.Name == "multiport" && e.Revision == 1:
		return x.xtMultiport(i)
	case e.Name == "mark" && e.Revision == 1:
		if x.p.marked {
			return false, "xt mark"
		}
		return (x.p.mark&i.u32(4) == i.u32(0)) != (i.u8(8) != 0), ""
	case e.Name == "devgroup" && e.Revision == 0:
		return x.xtDevgroup(i), ""
	}
	return false, "xt " + e.Name
}

// xtState is the connection's state in iptables' bits.
func (x *execution) xtState() uint32 {
	const untracked = 1 << 8
	switch {
	case x.p.untracked:
		return untracked
	case !x.tracked():
		return stateInvalid
	}
	return states[x.p.State]
}

func (x *execution) xtConntrack(i info) (bool, string) {
	const (
		state, status = 1, 1 << 6
		alias         = 1 << 13        // it was written as a match of state
		snat, dnat    = 1 << 6, 1 << 7 // beside the states
		flagsAt       = 146
		invertAt      = 148
		stateMaskAt   = 150
		statusMaskAt  = 152
	)
	flags, invert := i.u16(flagsAt), i.u16(invertAt)
	if flags&^(state|status|alias) != 0 {
		return false, "xt conntrack"
	}
	if flags&state != 0 {
		bits := x.xtState()
		if x.p.SNATed {
			bits |= snat
		}
		if x.p.DNATed {
			bits |= dnat
		}
		if (uint32(i.u16(stateMaskAt))&bits != 0) == (invert&state != 0) {
			return false, ""
		}
	}
	if flags&status != 0 && (uint32(i.u16(statusMaskAt))&x.p.status() != 0) == (invert&status != 0) {
		return false, ""
	}
	return true, ""
}

func (x *execution) xtAddrtype(i info) (bool, string) {
	const invertSrc, invertDst, limitIn, limitOut = 1, 2, 4, 8
	flags := i.u32(4)
	if flags&(limitIn|limitOut) != 0 {
		return false, "xt addrtype"
	}
	is := func(a netip.Addr, types uint16, invert bool) bool {
		return types == 0 || (types&(1<<addrTypes[x.walk.host.Type(a)]) != 0) != invert
	}
	return is(x.p.Src.Addr(), i.u16(0), flags&invertSrc != 0) && is(x.p.Dst.Addr(), i.u16(2), flags&invertDst != 0), ""
}

// xtPorts are two ranges of ports, of source and destination.
func (x *execution) xtPorts(i info, invert byte) (bool, string) {
	var why string
	for at, port := range []uint16{x.p.Src.Port(), x.p.Dst.Port()} {
		low, high := i.u16(4*at), i.u16(4*at+2)
		switch inverted := invert&(1<<at) != 0; {
		case low == 0 && high == 0xffff && !inverted:
		case port == 0:
			why = "the packet's port"
		case (low <= port && port <= high) == inverted:
			return false, ""
		}
	}
	return true, why
}

func (x *execution) xtTCP(i info) (bool, string) {
	const invertFlags = 4
	ok, why := x.xtPorts(i, i.u8(11)&3)
	if mask := i.u8(9); ok && mask != 0 {
		ok = (x.p.flags()&mask == i.u8(10)) != (i.u8(11)&invertFlags != 0)
	}
	if ok && i.u8(8) != 0 {
		why = "xt tcp option"
	}
	return ok, why
}

func (x *execution) xtMultiport(i info) (bool, string) {
	const source, destination = 0, 1
	var port uint16
	switch i.u8(0) {
	case source:
		port = x.p.Src.Port()
	case destination:
		port = x.p.Dst.Port()
	}
	if port == 0 {
		return false, "xt multiport"
	}
	in := false
	for n := 0; n < int(i.u8(1)) && n < 15; n++ {
		low := i.u16(2 + 2*n)
		high := low
		if i.u8(32+n) != 0 { // a range, whose end is the next one
			n++
			high = i.u16(2 + 2*n)
		}
		in = in || low <= port && port <= high
	}
	return in != (i.u8(47) != 0), ""
}

func (x *execution) xtDevgroup(i info) bool {
	const src, invertSrc, dst, invertDst = 1, 2, 4, 8
	flags := i.u32(0)
	if flags&src != 0 && (x.p.In.Group&i.u32(8) == i.u32(4)) == (flags&invertSrc != 0) {
		return false
	}
	return flags&dst == 0 || (x.p.Out.Group&i.u32(16) == i.u32(12)) != (flags&invertDst != 0)
}

// xtTarget executes a target of iptables.
func (x *execution) xtTarget(e ruleset.XTTarget) {
	i := info(e.Info)
	switch {
	case e.Name == "REJECT":
		x.verdict = &ruleset.Verdict{Kind: "reject"}
	case e.Name == "LOG" || e.Name == "NFLOG" || e.Name == "TCPMSS" || e.Name == "CHECKSUM" || e.Name == "TOS" || e.Name == "DSCP":
	case e.Name == "MARK" && e.Revision == 2:
		mark, mask := i.u32(0), i.u32(4)
		x.setMark(x.p.mark&^mask^mark, map[bool]string{true: "meta mark"}[x.p.marked])
	case e.Name == "MASQUERADE":
		x.translate("masquerade", x.linkAddr(), "")
	case e.Name == "SNAT":
		x.translate("snat", netip.AddrPort{}, "")
	case e.Name == "DNAT" || e.Name == "REDIRECT":
		x.xtDNAT(e.Name, e.Revision, i)
	default:
		x.maybe("xt " + e.Name)
		x.verdict = &ruleset.Verdict{Kind: "xt " + e.Name}
	}
}

// xtDNAT reads struct nf_nat_range (2) of newer revisions and of IPv6, or the IPv4 one before.
func (x *execution) xtDNAT(name string, revision int, i info) {
	const mapAddr, mapPort = 1, 2
	flags, addr, port := i.u32(0), 4, 36
	if revision == 0 && !x.p.six() {
		flags, addr, port = i.u32(4), 8, 16
	}
	to := x.p.Dst
	if flags&mapPort != 0 && port+2 <= len(i) {
		to = netip.AddrPortFrom(to.Addr(), binary.BigEndian.Uint16(i[port:]))
	}
	if name == "REDIRECT" {
		x.redirect(to.Port(), "")
		return
	}
	if n := of(x.p, 4, 16); flags&mapAddr != 0 && addr+n <= len(i) {
		a, _ := netip.AddrFromSlice(i[addr : addr+n])
		to = netip.AddrPortFrom(a, to.Port())
	}
	x.translate("dnat", to, "")
}
