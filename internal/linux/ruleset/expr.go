package ruleset

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Expr is one expression of a rule: a value of one of the types below.
type Expr any

// Register is the first byte of a register: all are one memory of 80 bytes, of
// which the first 16 are the verdict's.
type Register int

// Registers is the length of that memory.
const Registers = 80

// register counts the two ways in which the kernel numbers registers.
func register(n uint32) Register {
	if n >= unix.NFT_REG32_00 {
		return Register(16 + 4*(n-unix.NFT_REG32_00))
	}
	return Register(16 * n)
}

// Load puts something of the packet, or of what is known of it, into a register.
type (
	// Payload loads bytes of a header: "link", "network", "transport".
	Payload struct {
		Base        string
		Offset, Len int
		To          Register
	}
	// Meta loads what the kernel knows of the packet beside it, by nft's name.
	Meta struct {
		Key string
		To  Register
	}
	// Ct loads what the kernel knows of the packet's connection, by nft's name.
	Ct struct {
		Key       string
		Direction string // original, reply, or empty
		To        Register
	}
	// Fib loads what routing says of addresses.
	Fib struct {
		Result string // type, oif, oifname
		Of     []string
		To     Register
	}
	// Immediate loads a constant.
	Immediate struct {
		Data []byte
		To   Register
	}
)

// What is done with registers.
type (
	// Bitwise is To = From & Mask ^ Xor.
	Bitwise struct {
		From, To  Register
		Mask, Xor []byte
	}
	// Cmp matches if the comparison (==, !=, <, <=, >, >=) holds.
	Cmp struct {
		Op   string
		From Register
		Data []byte
	}
	// Range matches values between two, both included; or, inverted, the others.
	Range struct {
		Not      bool
		From     Register
		Min, Max []byte
	}
	// Lookup matches what is in a set, loads a map's value, or gives its verdict.
	Lookup struct {
		Set      string
		Not      bool
		From     Register
		To       Register
		HasValue bool
		// Decides says that the map's values are verdicts.
		Decides bool
	}
)

// What becomes of the packet.
type (
	// Verdict is accept, drop, jump, goto, return, continue or queue.
	Verdict struct {
		Kind  string
		Chain string
	}
	// Reject drops and answers.
	Reject struct{}
	// NAT translates source (snat) or destination (dnat), to what is in registers.
	NAT struct {
		Kind             string
		Addr, Port       Register
		HasAddr, HasPort bool
	}
	// Masquerade translates the source to the address of the link.
	Masquerade struct{}
	// Redirect translates the destination to the host itself.
	Redirect struct {
		Port    Register
		HasPort bool
	}
	// SetMark gives the packet a mark.
	SetMark struct{ From Register }
	// Aside does something that does not decide about the packet: counter, log.
	Aside struct{ Name string }
	// XTMatch is a match of iptables.
	XTMatch struct {
		Name     string
		Revision int
		Info     []byte
	}
	// XTTarget is a target of iptables.
	XTTarget struct {
		Name     string
		Revision int
		Info     []byte
	}
	// Notrack keeps the packet out of the table of connections.
	Notrack struct{}
	// Unknown is any other expression. It may match or not, and load any register.
	Unknown struct {
		Name    string
		Decides bool // it may give a verdict by itself
	}
)

// decode makes an expression of its attributes. Their numbers are those of
// linux/netfilter/nf_tables.h.
func decode(name string, a *attributes) Expr {
	if e := decodeLoad(name, a); e != nil {
		return e
	}
	if e := decodeMatch(name, a); e != nil {
		return e
	}
	switch name {
	case "reject":
		return Reject{}
	case "nat":
		return decodeNAT(a)
	case "masq":
		return Masquerade{}
	case "redir":
		return Redirect{Port: register(a.u32(1)), HasPort: a.has(1)}
	case "match":
		return XTMatch{a.str(1), int(a.u32(2)), a.bytes(3)}
	case "target":
		return XTTarget{a.str(1), int(a.u32(2)), a.bytes(3)}
	case "notrack":
		return Notrack{}
	case "counter", "log", "flow_offload", "last", "dup":
		return Aside{name}
	case "limit", "quota", "connlimit", "dynset", "objref", "osf", "hash", "numgen", "exthdr", "rt", "tunnel", "xfrm", "socket", "byteorder":
		return Unknown{Name: name}
	}
	return Unknown{Name: name, Decides: true}
}

// decodeLoad decodes what loads; the same expressions also set what they load.
func decodeLoad(name string, a *attributes) Expr {
	switch name {
	case "payload":
		bases := []string{"link", "network", "transport"}
		base := int(a.u32(2))
		switch {
		case !a.has(1):
			return Aside{"payload set"}
		case base >= len(bases):
			return Unknown{Name: name}
		}
		return Payload{bases[base], int(a.u32(3)), int(a.u32(4)), register(a.u32(1))}
	case "meta":
		key := nameOf(metaKeys, a.u32(2))
		switch {
		case a.has(1):
			return Meta{key, register(a.u32(1))}
		case key == "mark":
			return SetMark{register(a.u32(3))}
		}
		return Aside{"meta " + key + " set"}
	case "ct":
		key := nameOf(ctKeys, a.u32(2))
		if !a.has(1) {
			return Aside{"ct " + key + " set"}
		}
		c := Ct{Key: key, To: register(a.u32(1))}
		if d := a.bytes(3); len(d) == 1 {
			c.Direction = []string{"original", "reply"}[d[0]&1]
		}
		return c
	case "fib":
		f := Fib{Result: nameOf([]string{"", "oif", "oifname", "type"}, a.u32(2)), To: register(a.u32(1))}
		for i, of := range []string{"saddr", "daddr", "mark", "iif", "oif", "present"} {
			if a.u32(3)&(1<<i) != 0 {
				f.Of = append(f.Of, of)
			}
		}
		return f
	case "immediate":
		d := a.nested(2)
		if d.has(unix.NFTA_DATA_VERDICT) {
			return *verdict(d.nested(unix.NFTA_DATA_VERDICT))
		}
		return Immediate{value(d), register(a.u32(1))}
	}
	return nil
}

func decodeMatch(name string, a *attributes) Expr {
	switch name {
	case "bitwise":
		to := register(a.u32(2))
		if a.u32(6) != 0 || a.has(7) || a.has(8) || !a.has(4) || !a.has(5) { // shifts, and operations of two registers
			return Unknown{Name: name}
		}
		return Bitwise{register(a.u32(1)), to, value(a.nested(4)), value(a.nested(5))}
	case "cmp":
		return Cmp{nameOf([]string{"==", "!=", "<", "<=", ">", ">="}, a.u32(2)), register(a.u32(1)), value(a.nested(3))}
	case "range":
		return Range{a.u32(2) == 1, register(a.u32(1)), value(a.nested(3)), value(a.nested(4))}
	case "lookup":
		l := Lookup{Set: a.str(1), Not: a.u32(5)&1 != 0, From: register(a.u32(2)), To: register(a.u32(3)), HasValue: a.has(3)}
		l.Decides = l.HasValue && l.To == 0
		return l
	}
	return nil
}

func decodeNAT(a *attributes) Expr {
	n := NAT{Kind: "snat", Addr: register(a.u32(3)), Port: register(a.u32(5)), HasAddr: a.has(3), HasPort: a.has(5)}
	if a.u32(1) == 1 {
		n.Kind = "dnat"
	}
	return n
}

func verdict(a *attributes) *Verdict {
	v := &Verdict{Chain: a.str(2)}
	switch code := int32(a.u32(1)); code {
	case -1:
		v.Kind = "continue"
	case -3:
		v.Kind = "jump"
	case -4:
		v.Kind = "goto"
	case -5:
		v.Kind = "return"
	case 0:
		v.Kind = "drop"
	case 1:
		v.Kind = "accept"
	default:
		v.Kind = fmt.Sprintf("verdict %d", code)
	}
	return v
}

func nameOf(names []string, n uint32) string {
	if int64(n) < int64(len(names)) {
		return names[n]
	}
	return fmt.Sprintf("key %d", n)
}

var metaKeys = []string{
	"length", "protocol", "priority", "mark", "iif", "oif", "iifname", "oifname", "iiftype", "oiftype", "skuid", "skgid", "nftrace", "rtclassid", "secmark", "nfproto",
	"l4proto", "ibrname", "obrname", "pkttype", "cpu", "iifgroup", "oifgroup", "cgroup", "random", "secpath", "iifkind", "oifkind", "ibrpvid", "ibrvproto",
	"time", "day", "hour", "sdif", "sdifname", "broute",
}

var ctKeys = []string{
	"state", "direction", "status", "mark", "secmark", "expiration", "helper", "l3proto", "saddr", "daddr", "protocol", "proto-src", "proto-dst", "label", "packets", "bytes", "avgpkt",
	"zone", "event", "ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr", "id",
}
