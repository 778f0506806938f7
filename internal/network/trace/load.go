package trace

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/tare-engine/tare/internal/linux/ruleset"
)

// protocols are the numbers of what runs over IP.
var protocols = map[string]byte{"icmp": 1, "tcp": 6, "udp": 17, "dccp": 33, "sctp": 132, "udplite": 136, "esp": 50, "ah": 51, "gre": 47, "ipv6-icmp": 58}

// The kernel's numbers.
const (
	nfprotoIPv4   = 2
	nfprotoIPv6   = 10
	etherIPv4     = 0x0800
	etherIPv6     = 0x86dd
	arphrdEther   = 1
	arphrdLoop    = 772
	stateInvalid  = 1
	ctUntracked   = 64
	statusSNAT    = 1 << 4
	statusDNAT    = 1 << 5
	statusSeen    = 1 << 1 // IPS_SEEN_REPLY
	statusAssured = 1<<2 | 1<<3
	nameLength    = 16
)

var states = map[string]uint32{"established": 2, "related": 4, "new": 8}

// payload loads from the headers, of which some fields are not known.
func (x *execution) payload(e ruleset.Payload) *value {
	var header, mask []byte
	switch e.Base {
	case "network":
		header, mask = x.p.network()
	case "transport":
		header, mask = x.p.transport()
	}
	v := value{b: make([]byte, e.Len), mask: make([]bool, e.Len)}
	for i := range e.Len {
		if at := e.Offset + i; at < len(header) && mask[at] != 0 {
			v.b[i] = header[at]
		} else {
			v.mask[i], v.why = true, "the packet's "+e.Base+" header"
		}
	}
	return &v
}

// network is the packet's IP header, and which of its bytes are known.
func (p *Packet) network() (header, mask []byte) {
	header, mask = make([]byte, 40), make([]byte, 40)
	know := func(at int, b ...byte) {
		copy(header[at:], b)
		for i := range b {
			mask[at+i] = 1
		}
	}
	if p.six() {
		know(0, 0x60)
		know(6, protocols[p.Proto]) // no other header between
		know(8, p.Src.Addr().AsSlice()...)
		know(24, p.Dst.Addr().AsSlice()...)
		return header, mask
	}
	know(0, 0x45, 0)
	know(6, 0x40, 0) // no fragment
	know(9, protocols[p.Proto])
	know(12, p.Src.Addr().AsSlice()...)
	know(16, p.Dst.Addr().AsSlice()...)
	return header[:20], mask[:20]
}

// transport is the beginning of the next header.
func (p *Packet) transport() (header, mask []byte) {
	header, mask = make([]byte, 20), make([]byte, 20)
	for i, port := range []uint16{p.Src.Port(), p.Dst.Port()} {
		if port != 0 {
			binary.BigEndian.PutUint16(header[2*i:], port)
			mask[2*i], mask[2*i+1] = 1, 1
		}
	}
	if p.Proto == "tcp" {
		mask[13] = 1
		header[13] = p.flags()
	}
	return header, mask
}

// flags are those of the first packets of a connection: SYN, and the answer.
func (p *Packet) flags() byte {
	const syn, ack = 2, 16
	switch {
	case p.Reply:
		return syn | ack
	case p.State == "new":
		return syn
	}
	return ack
}

// meta is nil if the kernel's expression does not match.
func (x *execution) meta(key string) *value {
	p := x.p
	switch key {
	case "protocol":
		return known(binary.BigEndian.AppendUint16(nil, of[uint16](p, etherIPv4, etherIPv6)))
	case "nfproto":
		return known([]byte{of[byte](p, nfprotoIPv4, nfprotoIPv6)})
	case "l4proto":
		return known([]byte{protocols[p.Proto]})
	case "mark":
		if p.marked {
			return unknown(4, "meta mark")
		}
		return native32(p.mark)
	case "iifname", "iif", "iifgroup", "iiftype", "iifkind":
		return p.In.meta(key[3:])
	case "oifname", "oif", "oifgroup", "oiftype", "oifkind":
		return p.Out.meta(key[3:])
	case "pkttype":
		return known([]byte{0}) // to this host
	}
	return unknown(nameLength, "meta "+key)
}

func (l Link) meta(key string) *value {
	switch {
	case key == "name" || key == "kind" && l.Name != "":
		name := make([]byte, nameLength)
		copy(name, map[string]string{"name": l.Name, "kind": l.Kind}[key])
		return known(name)
	case key == "":
		return native32(uint32(l.Index))
	case l.Name == "":
		return nil
	case key == "group":
		return native32(l.Group)
	case l.Name == "lo":
		return known(binary.NativeEndian.AppendUint16(nil, arphrdLoop))
	case l.Kind == "bridge" || l.Kind == "veth":
		return known(binary.NativeEndian.AppendUint16(nil, arphrdEther))
	}
	return unknown(2, "meta type of "+l.Name)
}

// ct is nil if the kernel's expression does not match.
func (x *execution) ct(e ruleset.Ct) *value {
	p := x.p
	if !x.tracked() {
		switch {
		case e.Key == "state" && p.untracked:
			return native32(ctUntracked)
		case e.Key == "state":
			return native32(stateInvalid)
		}
		return nil
	}
	switch e.Key {
	case "state":
		return native32(states[p.State])
	case "direction":
		return known([]byte{map[bool]byte{true: 1}[p.Reply]})
	case "status":
		return native32(p.status())
	case "l3proto":
		return known([]byte{of[byte](p, nfprotoIPv4, nfprotoIPv6)})
	case "protocol":
		return known([]byte{protocols[p.Proto]})
	case "zone":
		return known([]byte{0, 0})
	case "mark":
		if p.State == "new" {
			return native32(0)
		}
	case "ip saddr", "ip daddr":
		if p.six() {
			return nil
		}
		return x.original(e)
	case "ip6 saddr", "ip6 daddr":
		if !p.six() {
			return nil
		}
		return x.original(e)
	case "saddr", "daddr", "proto-src", "proto-dst":
		return x.original(e)
	}
	return unknown(nameLength, "ct "+e.Key)
}

// of is the value for the packet's version of IP.
func of[T any](p *Packet, four, six T) T {
	if p.six() {
		return six
	}
	return four
}

// original is part of the connection's addresses.
func (x *execution) original(e ruleset.Ct) *value {
	if v := x.p.tuple(e); v != nil {
		return v
	}
	return unknown(nameLength, "ct "+e.Key)
}

func (p *Packet) status() uint32 {
	var s uint32
	if p.State != "new" {
		s |= statusSeen | statusAssured
	}
	if p.DNATed {
		s |= statusDNAT
	}
	if p.SNATed {
		s |= statusSNAT
	}
	return s
}

// tuple is part of the connection's addresses as the client sees them; what the
// server sees is known only by the packet that shows it.
func (p *Packet) tuple(e ruleset.Ct) *value {
	if e.Direction == "reply" {
		return nil
	}
	src := slices.Contains([]string{"saddr", "ip saddr", "ip6 saddr", "proto-src"}, e.Key)
	a := p.original[1]
	if src {
		a = p.original[0]
	}
	if e.Key == "proto-src" || e.Key == "proto-dst" {
		if a.Port() == 0 {
			return nil
		}
		return known(binary.BigEndian.AppendUint16(nil, a.Port()))
	}
	return known(a.Addr().AsSlice())
}

// addrTypes are the kernel's RTN_ numbers.
var addrTypes = map[string]uint32{"unicast": 1, "local": 2, "broadcast": 3, "multicast": 5}

func (x *execution) fib(e ruleset.Fib) *value {
	of := func(a netip.Addr) *value { return native32(addrTypes[x.walk.host.Type(a)]) }
	switch {
	case e.Result == "type" && slices.Equal(e.Of, []string{"daddr"}):
		return of(x.p.Dst.Addr())
	case e.Result == "type" && slices.Equal(e.Of, []string{"saddr"}):
		return of(x.p.Src.Addr())
	case e.Result == "oif" && slices.Contains(e.Of, "saddr") && slices.Contains(e.Of, "iif") && x.walk.host.Via(x.p.Src.Addr()) == x.p.In.Name:
		return native32(uint32(x.p.In.Index)) // the answer goes where the packet came from
	}
	return unknown(4, "fib "+e.Result)
}
