package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Set is a named set or map of a table. Its elements are made by the functions
// below; which one fits is said at the set's constructor.
type Set struct {
	Name     string
	Elements []Element

	isMap  bool
	key    nftables.SetDatatype
	data   nftables.SetDatatype
	concat bool
}

// Element is a member of a set, with a value in maps.
type Element struct{ key, value string }

func (e Element) element() nftables.SetElement {
	return nftables.SetElement{Key: []byte(e.key), Val: []byte(e.value)}
}

// LinkSet is a set of link names; its elements are made by LinkElement.
func LinkSet(name string) *Set { return &Set{Name: name, key: nftables.TypeIFName} }

// PortMap maps (protocol, port) to (address, port); see PortElement.
func PortMap(name string) *Set {
	return &Set{Name: name, isMap: true, concat: true,
		key:  nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService),
		data: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)}
}

// AddrPortMap maps (address, protocol, port) to (address, port); see
// AddrPortElement.
func AddrPortMap(name string) *Set {
	return &Set{Name: name, isMap: true, concat: true,
		key:  nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService),
		data: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)}
}

// LinkElement is the name of a link.
func LinkElement(name string) Element { return Element{key: string(ifname(name))} }

// PortElement sends a port of every address of the host to a destination.
func PortElement(proto string, port uint16, to netip.AddrPort) (Element, error) {
	n, err := protocol(proto)
	if !to.Addr().Is4() {
		return Element{}, fmt.Errorf("port map to %s: not IPv4", to)
	}
	return Element{string(appendPort(pad(n), port)), addrPort(to)}, err
}

// AddrPortElement sends a port of one address of the host to a destination.
func AddrPortElement(proto string, from, to netip.AddrPort) (Element, error) {
	n, err := protocol(proto)
	if !from.Addr().Is4() || !to.Addr().Is4() {
		return Element{}, fmt.Errorf("port map of %s to %s: not IPv4", from, to)
	}
	key := append(from.Addr().AsSlice(), pad(n)...)
	return Element{string(appendPort(key, from.Port())), addrPort(to)}, err
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
