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

// JumpBySrc goes where a map says for the source of an IPv4 packet.
func JumpBySrc(m *Set) Statement {
	return append(ipv4(), load(expr.PayloadBaseNetworkHeader, srcOffset, 4, reg), jumps(m))
}

// NotGroups matches packets of which neither link is in a link group.
func NotGroups(group uint32) Statement {
	return Statement{
		meta(expr.MetaKeyIIFGROUP), cmp(expr.CmpOpNeq, native(group)),
		meta(expr.MetaKeyOIFGROUP), cmp(expr.CmpOpNeq, native(group)),
	}
}

// ipv4 matches IPv4 packets: the table sees both families.
func ipv4() Statement {
	return Statement{meta(expr.MetaKeyNFPROTO), cmp(expr.CmpOpEq, []byte{unix.NFPROTO_IPV4})}
}

// Offsets of the addresses in an IPv4 header, of the port in a transport header.
const (
	srcOffset  = 12
	dstOffset  = 16
	portOffset = 2
)

func load(base expr.PayloadBase, offset, n, register uint32) *expr.Payload {
	return &expr.Payload{DestRegister: register, Base: base, Offset: offset, Len: n}
}

func addrIn(offset uint32, p netip.Prefix) Statement {
	var mask [4]byte
	binary.BigEndian.PutUint32(mask[:], ^uint32(0)<<(32-p.Bits()))
	return append(ipv4(),
		load(expr.PayloadBaseNetworkHeader, offset, 4, reg),
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: mask[:], Xor: make([]byte, 4)},
		cmp(expr.CmpOpEq, p.Masked().Addr().AsSlice()))
}

// SrcIn matches IPv4 packets from a prefix.
func SrcIn(p netip.Prefix) Statement { return addrIn(srcOffset, p) }

// DstIn matches IPv4 packets to a prefix.
func DstIn(p netip.Prefix) Statement { return addrIn(dstOffset, p) }

// DstLocal matches packets to an address of the host itself.
func DstLocal() Statement {
	return Statement{&expr.Fib{Register: reg, ResultADDRTYPE: true, FlagDADDR: true}, cmp(expr.CmpOpEq, native(unix.RTN_LOCAL))}
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

// Accept ends the chain's hook.
func Accept() Statement { return Statement{&expr.Verdict{Kind: expr.VerdictAccept}} }

// Drop drops the packet.
func Drop() Statement { return Statement{&expr.Verdict{Kind: expr.VerdictDrop}} }

// Jump goes through another chain and comes back.
func Jump(chain string) Statement {
	return Statement{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
}

// Masquerade gives the connection the address of the link as its source.
func Masquerade() Statement { return Statement{&expr.Masq{}} }

// DNATByPort translates the destination by a map from (protocol, port).
func DNATByPort(m *Set) Statement {
	return append(append(ipv4(),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: word},
		load(expr.PayloadBaseTransportHeader, portOffset, 2, word+1)),
		dnat(m)...)
}

// DNATByAddrPort translates the destination by a map from (address, protocol,
// port).
func DNATByAddrPort(m *Set) Statement {
	return append(append(ipv4(),
		load(expr.PayloadBaseNetworkHeader, dstOffset, 4, word),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: word + 1},
		load(expr.PayloadBaseTransportHeader, portOffset, 2, word+2)),
		dnat(m)...)
}

// dnat looks the first registers up in a map to (address, port) and translates.
// The map's value comes to lie over the key's registers.
func dnat(m *Set) Statement {
	return Statement{
		&expr.Lookup{SourceRegister: word, DestRegister: word, IsDestRegSet: true, SetName: m.Name},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: word, RegProtoMin: word + 1, Specified: true},
	}
}
