// Package nft programs nftables, the kernel's packet filter.
//
// A program describes one table as a whole, in values of this package, and
// applies it in one transaction: either all of it is in force or nothing has
// changed. Elements of sets and maps are then added and removed one by one.
//
//	t := &nft.Table{Name: "example", Chains: []nft.Chain{{
//		Name: "forward", Hook: nft.Forward, Rules: []nft.Rule{
//			{nft.OIfName("br0"), nft.Established(), nft.Accept()},
//		}}}}
//	err := conn.Apply(t)
//
// Rules are made of typed values only; no text is parsed.
package nft

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Table is a table of the family inet: one for IPv4 and IPv6.
type Table struct {
	Name   string
	Sets   []*Set
	Chains []Chain
}

// Chain is a list of rules, hooked into the path of packets if Hook is set.
type Chain struct {
	Name     string
	Hook     Hook
	Priority int
	// Keep leaves the rules alone that the chain has: somebody else's.
	Keep  bool
	Rules []Rule
}

// Hook is a kind of chain and its place in the path of packets. The zero value
// is a chain that others jump to. The policy of hooked chains is to accept.
type Hook struct {
	kind nftables.ChainType
	num  *nftables.ChainHook
}

// Hooks.
var (
	Prerouting     = Hook{nftables.ChainTypeFilter, nftables.ChainHookPrerouting}
	Forward        = Hook{nftables.ChainTypeFilter, nftables.ChainHookForward}
	NATPrerouting  = Hook{nftables.ChainTypeNAT, nftables.ChainHookPrerouting}
	NATOutput      = Hook{nftables.ChainTypeNAT, nftables.ChainHookOutput}
	NATPostrouting = Hook{nftables.ChainTypeNAT, nftables.ChainHookPostrouting}
)

// Priorities of chains of one hook: the lower runs first.
const (
	PriorityRaw    = -300 // before connections are tracked
	PriorityDstNAT = -100
	PriorityFilter = 0
	PrioritySrcNAT = 100
)

// Rule is a list of matches that ends in a verdict.
type Rule []Statement

func (r Rule) exprs() (all []expr.Any) {
	for _, s := range r {
		all = append(all, s...)
	}
	return all
}

// Statement is one match or verdict.
type Statement []expr.Any

// The kernel names registers in two ways: 1 to 4 have 16 bytes, 8 to 23 are the
// same memory in words of 4.
const (
	reg  = unix.NFT_REG_1
	word = unix.NFT_REG32_00
)

func ifname(s string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, s)
	return b
}

func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func meta(k expr.MetaKey) *expr.Meta { return &expr.Meta{Key: k, Register: reg} }

func cmp(op expr.CmpOp, data []byte) *expr.Cmp { return &expr.Cmp{Op: op, Register: reg, Data: data} }

// NotIIfName matches packets that came in on another link.
func NotIIfName(name string) Statement {
	return Statement{meta(expr.MetaKeyIIFNAME), cmp(expr.CmpOpNeq, ifname(name))}
}

// IIfName matches packets that came in on a link.
func IIfName(name string) Statement {
	return Statement{meta(expr.MetaKeyIIFNAME), cmp(expr.CmpOpEq, ifname(name))}
}

// OIfName matches packets that go out on a link.
func OIfName(name string) Statement {
	return Statement{meta(expr.MetaKeyOIFNAME), cmp(expr.CmpOpEq, ifname(name))}
}

// Counter counts the packets that come to it.
func Counter() Statement { return Statement{&expr.Counter{}} }

// IIfIn matches packets that came in on a link of a set of names.
func IIfIn(s *Set) Statement {
	return Statement{meta(expr.MetaKeyIIFNAME), &expr.Lookup{SourceRegister: reg, SetName: s.Name}}
}

// IIfNotIn matches packets that came in on a link that is in no set of names.
func IIfNotIn(s *Set) Statement {
	return Statement{meta(expr.MetaKeyIIFNAME), &expr.Lookup{SourceRegister: reg, SetName: s.Name, Invert: true}}
}

// OIfIn matches packets that go out on a link of a set of names.
func OIfIn(s *Set) Statement {
	return Statement{meta(expr.MetaKeyOIFNAME), &expr.Lookup{SourceRegister: reg, SetName: s.Name}}
}

// OIfNotIn matches packets that go out on another link.
func OIfNotIn(s *Set) Statement {
	return Statement{meta(expr.MetaKeyOIFNAME), &expr.Lookup{SourceRegister: reg, SetName: s.Name, Invert: true}}
}

// jumps has the first register looked up in a map of verdicts.
func jumps(m *Set) *expr.Lookup {
	return &expr.Lookup{SourceRegister: reg, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true, SetName: m.Name}
}

// JumpByIIf goes where a map says for the link that the packet came in on.
func JumpByIIf(m *Set) Statement { return Statement{meta(expr.MetaKeyIIFNAME), jumps(m)} }

// JumpByOIf goes where a map says for the link that the packet goes out on.
func JumpByOIf(m *Set) Statement { return Statement{meta(expr.MetaKeyOIFNAME), jumps(m)} }

// JumpBySrc goes where a map says for the source of a packet of a family.
func JumpBySrc(m *Set, f Family) Statement {
	return append(Of(f), load(expr.PayloadBaseNetworkHeader, f.src(), f.len(), reg), jumps(m))
}

// NotGroups matches packets of which neither link is in a link group.
func NotGroups(group uint32) Statement {
	return Statement{
		meta(expr.MetaKeyIIFGROUP), cmp(expr.CmpOpNeq, native(group)),
		meta(expr.MetaKeyOIFGROUP), cmp(expr.CmpOpNeq, native(group)),
	}
}

// NotPairIn matches packets that come in and go out by no pair of links of a set.
func NotPairIn(s *Set) Statement {
	return Statement{
		&expr.Meta{Key: expr.MetaKeyIIF, Register: word}, &expr.Meta{Key: expr.MetaKeyOIF, Register: word + 1},
		&expr.Lookup{SourceRegister: word, SetName: s.Name, Invert: true},
	}
}

// FromGroup matches packets that came in on a link of a link group.
func FromGroup(group uint32) Statement {
	return Statement{meta(expr.MetaKeyIIFGROUP), cmp(expr.CmpOpEq, native(group))}
}

// Of matches packets of a family: the table sees both.
func Of(f Family) Statement {
	return Statement{meta(expr.MetaKeyNFPROTO), cmp(expr.CmpOpEq, []byte{f.number()})}
}

// ICMP matches messages of the control protocol of a family.
func ICMP(f Family) Statement {
	proto := byte(unix.IPPROTO_ICMP)
	if f == IPv6 {
		proto = unix.IPPROTO_ICMPV6
	}
	return append(Of(f), meta(expr.MetaKeyL4PROTO), cmp(expr.CmpOpEq, []byte{proto}))
}

func (f Family) number() byte {
	if f == IPv4 {
		return unix.NFPROTO_IPV4
	}
	return unix.NFPROTO_IPV6
}

// src is the offset of the source in the header, behind which the destination is.
func (f Family) src() uint32 {
	if f == IPv4 {
		return 12
	}
	return 8
}

// len is the length of an address.
func (f Family) len() uint32 {
	if f == IPv4 {
		return 4
	}
	return 16
}

func (f Family) dst() uint32 { return f.src() + f.len() }

// portOffset is that of the destination's port in a transport header.
const portOffset = 2

func load(base expr.PayloadBase, offset, n, register uint32) *expr.Payload {
	return &expr.Payload{DestRegister: register, Base: base, Offset: offset, Len: n}
}

func addrIn(offset uint32, p netip.Prefix) Statement {
	f := FamilyOf(p.Addr())
	mask := make([]byte, f.len())
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return append(Of(f),
		load(expr.PayloadBaseNetworkHeader, offset, f.len(), reg),
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: f.len(), Mask: mask, Xor: make([]byte, f.len())},
		cmp(expr.CmpOpEq, p.Masked().Addr().AsSlice()))
}

// SrcIn matches packets from a prefix.
func SrcIn(p netip.Prefix) Statement { return addrIn(FamilyOf(p.Addr()).src(), p) }

// DstIn matches packets to a prefix.
func DstIn(p netip.Prefix) Statement { return addrIn(FamilyOf(p.Addr()).dst(), p) }

// DstLocal matches packets to an address of the host itself.
func DstLocal() Statement {
	return Statement{&expr.Fib{Register: reg, ResultADDRTYPE: true, FlagDADDR: true}, cmp(expr.CmpOpEq, native(unix.RTN_LOCAL))}
}

// DstNotLocal matches packets to no address of the host itself.
func DstNotLocal() Statement {
	return Statement{&expr.Fib{Register: reg, ResultADDRTYPE: true, FlagDADDR: true}, cmp(expr.CmpOpNeq, native(unix.RTN_LOCAL))}
}

// ctBit matches packets whose connection has one of the bits of a key.
func ctBit(key expr.CtKey, bits uint32) Statement {
	return Statement{
		&expr.Ct{Key: key, Register: reg},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: native(bits), Xor: make([]byte, 4)},
		cmp(expr.CmpOpNeq, make([]byte, 4)),
	}
}

// Established matches packets of connections seen in both directions, and what
// belongs to such (errors).
func Established() Statement {
	return ctBit(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

// DNATed matches packets of connections whose destination was translated.
func DNATed() Statement { return ctBit(expr.CtKeySTATUS, 1<<5) } // IPS_DST_NAT

// Notrack keeps the packet out of the table of connections. It has to be said before
// connections are tracked (PriorityRaw).
func Notrack() Statement { return Statement{&expr.Notrack{}} }

// Accept ends the chain's hook.
func Accept() Statement { return Statement{&expr.Verdict{Kind: expr.VerdictAccept}} }

// Drop drops the packet.
func Drop() Statement { return Statement{&expr.Verdict{Kind: expr.VerdictDrop}} }

// Return goes back to where the chain was jumped from.
func Return() Statement { return Statement{&expr.Verdict{Kind: expr.VerdictReturn}} }

// Jump goes through another chain and comes back.
func Jump(chain string) Statement {
	return Statement{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
}

// Masquerade gives the connection the address of the link as its source.
func Masquerade() Statement { return Statement{&expr.Masq{}} }

// SNAT gives the connection an address of the host as its source.
func SNAT(a netip.Addr) Statement {
	return Statement{
		&expr.Immediate{Register: word, Data: a.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: uint32(FamilyOf(a).number()), RegAddrMin: word},
	}
}

// DNATByPort translates the destination by a map from (protocol, port).
func DNATByPort(m *Set, f Family) Statement {
	return append(append(Of(f),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: word},
		load(expr.PayloadBaseTransportHeader, portOffset, 2, word+1)),
		dnat(m, f)...)
}

// DNATByAddrPort translates the destination by a map from (address, protocol,
// port).
func DNATByAddrPort(m *Set, f Family) Statement { return append(destination(f), dnat(m, f)...) }

// DstPortIn matches packets to one of a set of (address, protocol, port).
func DstPortIn(s *Set, f Family) Statement {
	return append(destination(f), &expr.Lookup{SourceRegister: word, SetName: s.Name})
}

// destination loads (address, protocol, port) into the first registers.
func destination(f Family) Statement {
	words := f.len() / 4
	return append(Of(f),
		load(expr.PayloadBaseNetworkHeader, f.dst(), f.len(), word),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: word + words},
		load(expr.PayloadBaseTransportHeader, portOffset, 2, word+words+1))
}

// WayIn matches packets whose way is in a set.
func WayIn(s *Set, f Family) Statement {
	words := f.len() / 4
	return append(Of(f),
		load(expr.PayloadBaseNetworkHeader, f.src(), f.len(), word),
		load(expr.PayloadBaseNetworkHeader, f.dst(), f.len(), word+words),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: word + 2*words},
		load(expr.PayloadBaseTransportHeader, portOffset, 2, word+2*words+1),
		&expr.Lookup{SourceRegister: word, SetName: s.Name})
}

// dnat looks the first registers up in a map to (address, port) and translates.
// The map's value comes to lie over the key's registers.
func dnat(m *Set, f Family) Statement {
	return Statement{
		&expr.Lookup{SourceRegister: word, DestRegister: word, IsDestRegSet: true, SetName: m.Name},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.number()), RegAddrMin: word, RegProtoMin: word + f.len()/4, Specified: true},
	}
}
