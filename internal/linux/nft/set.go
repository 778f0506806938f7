package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Set is a named set or map of a table. Its elements are made by the functions
// below; which one fits is said at the set's constructor.
type Set struct {
	Name     string
	Elements []Element

	isMap    bool
	key      nftables.SetDatatype
	data     nftables.SetDatatype
	concat   bool
	interval bool
}

// Element is a member of a set, with a value in maps.
type Element struct {
	key, value string
	chain      string // to jump to, in maps of verdicts
	end        bool   // the first key behind an interval
}

func (e Element) element() nftables.SetElement {
	el := nftables.SetElement{Key: []byte(e.key), Val: []byte(e.value), IntervalEnd: e.end}
	if e.chain != "" {
		el.VerdictData = &expr.Verdict{Kind: expr.VerdictJump, Chain: e.chain}
	}
	return el
}

// LinkSet is a set of link names; its elements are made by LinkElement.
func LinkSet(name string) *Set { return &Set{Name: name, key: nftables.TypeIFName} }

// LinkJumps maps link names to chains; see LinkJump.
func LinkJumps(name string) *Set {
	return &Set{Name: name, isMap: true, key: nftables.TypeIFName, data: nftables.TypeVerdict}
}

// LinkPairs is a set of pairs of links, by their indexes; see LinkPair.
func LinkPairs(name string) *Set {
	return &Set{Name: name, concat: true, key: nftables.MustConcatSetType(nftables.TypeIFIndex, nftables.TypeIFIndex)}
}

// Family is a version of the Internet protocol: a set has addresses of one.
type Family int

// Families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// FamilyOf is the family of an address.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

func (f Family) addr() nftables.SetDatatype {
	if f == IPv4 {
		return nftables.TypeIPAddr
	}
	return nftables.TypeIP6Addr
}

// PrefixJumps maps addresses to chains; see PrefixJump.
func PrefixJumps(name string, f Family) *Set {
	return &Set{Name: name, isMap: true, interval: true, key: f.addr(), data: nftables.TypeVerdict}
}

// PortMap maps (protocol, port) to (address, port); see PortElement.
func PortMap(name string, f Family) *Set {
	return &Set{Name: name, isMap: true, concat: true,
		key:  nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService),
		data: nftables.MustConcatSetType(f.addr(), nftables.TypeInetService)}
}

// AddrPortMap maps (address, protocol, port) to (address, port); see
// AddrPortElement.
func AddrPortMap(name string, f Family) *Set {
	return &Set{Name: name, isMap: true, concat: true,
		key:  nftables.MustConcatSetType(f.addr(), nftables.TypeInetProto, nftables.TypeInetService),
		data: nftables.MustConcatSetType(f.addr(), nftables.TypeInetService)}
}

// AddrPortSet is a set of (address, protocol, port); see AddrPortMember.
func AddrPortSet(name string, f Family) *Set {
	return &Set{Name: name, concat: true, key: nftables.MustConcatSetType(f.addr(), nftables.TypeInetProto, nftables.TypeInetService)}
}

// WaySet is a set of (source, destination, protocol, port of the destination); see
// WayElement.
func WaySet(name string, f Family) *Set {
	return &Set{Name: name, concat: true, key: nftables.MustConcatSetType(f.addr(), f.addr(), nftables.TypeInetProto, nftables.TypeInetService)}
}

// WayElement is the way from an address to a port of another of the same family.
func WayElement(proto string, from netip.Addr, to netip.AddrPort) (Element, error) {
	n, err := protocol(proto)
	if FamilyOf(from) != FamilyOf(to.Addr()) {
		return Element{}, fmt.Errorf("way from %s to %s: not of one family", from, to)
	}
	key := append(append(from.AsSlice(), to.Addr().AsSlice()...), pad(n)...)
	return Element{key: string(appendPort(key, to.Port()))}, err
}

// LinkElement is the name of a link.
func LinkElement(name string) Element { return Element{key: string(ifname(name))} }

// LinkJump leads from a link to a chain.
func LinkJump(link, chain string) Element { return Element{key: string(ifname(link)), chain: chain} }

// LinkPair is what comes in on one link and goes out on another, or the same.
func LinkPair(in, out int) Element {
	return Element{key: string(native(uint32(in))) + string(native(uint32(out)))}
}

// PrefixJump leads from the addresses of a prefix to a chain. Prefixes of one
// map must not overlap.
func PrefixJump(p netip.Prefix, chain string) []Element {
	last := p.Masked().Addr().AsSlice()
	list := []Element{{key: string(last), chain: chain}}
	for i := p.Bits(); i < len(last)*8; i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(last)
	if behind := a.Next(); behind.IsValid() {
		list = append(list, Element{key: string(behind.AsSlice()), end: true})
	}
	return list
}

// PortElement sends a port of every address of the host to a destination.
func PortElement(proto string, port uint16, to netip.AddrPort) (Element, error) {
	n, err := protocol(proto)
	return Element{key: string(appendPort(pad(n), port)), value: addrPort(to)}, err
}

// AddrPortMember is a port of an address.
func AddrPortMember(proto string, a netip.AddrPort) (Element, error) {
	n, err := protocol(proto)
	return Element{key: addrPortKey(n, a)}, err
}

// AddrPortElement sends a port of one address of the host to a destination.
func AddrPortElement(proto string, from, to netip.AddrPort) (Element, error) {
	n, err := protocol(proto)
	if FamilyOf(from.Addr()) != FamilyOf(to.Addr()) {
		return Element{}, fmt.Errorf("port map of %s to %s: not of one family", from, to)
	}
	return Element{key: addrPortKey(n, from), value: addrPort(to)}, err
}

func addrPortKey(proto byte, a netip.AddrPort) string {
	return string(appendPort(append(a.Addr().AsSlice(), pad(proto)...), a.Port()))
}

// pad makes a byte a register of four.
func pad(b byte) []byte { return []byte{b, 0, 0, 0} }

func appendPort(b []byte, port uint16) []byte {
	return append(binary.BigEndian.AppendUint16(b, port), 0, 0)
}

func addrPort(a netip.AddrPort) string {
	return string(appendPort(a.Addr().AsSlice(), a.Port()))
}

func protocol(name string) (byte, error) {
	switch name {
	case "tcp":
		return unix.IPPROTO_TCP, nil
	case "udp":
		return unix.IPPROTO_UDP, nil
	case "sctp":
		return unix.IPPROTO_SCTP, nil
	}
	return 0, fmt.Errorf("unknown protocol %q", name)
}
