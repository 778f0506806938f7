package trace

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/tare-engine/tare/internal/linux/ruleset"
)

// Text says a rule in nft's words, as far as there are such: for people, who look
// it up by its handle. (What iptables has made has words of iptables, behind "xt".)
func Text(rules *ruleset.Ruleset, c *ruleset.Chain, r *ruleset.Rule) string {
	w := writer{rules: rules, chain: c, holds: map[ruleset.Register]term{}, six: c.Family == "ip6" || c.Family == ruleset.Legacy6}
	for _, e := range r.Exprs {
		w.expr(e)
	}
	if r.Comment != "" {
		w.word(fmt.Sprintf("comment %q", r.Comment))
	}
	return strings.Join(w.explicit(), " ")
}

// explicit are the words without the matches that nft does not write, as the next
// one implies them.
func (w *writer) explicit() []string {
	implied := map[string][]string{
		"meta nfproto ipv4": {"ip ", "icmp "}, "meta nfproto ipv6": {"ip6 ", "icmpv6 "}, "meta l4proto " + w.proto: {w.proto + " ", strings.Replace(w.proto, "ipv6-icmp", "icmpv6", 1) + " "},
	}
	var list []string
	var next string
	for _, word := range slices.Backward(w.words) {
		if slices.ContainsFunc(implied[word], func(begin string) bool { return strings.HasPrefix(next, begin) || strings.Contains(next, " . "+begin) }) {
			continue
		}
		list = append(list, word)
		next = word
	}
	slices.Reverse(list)
	return list
}

// writer collects words, and what registers hold.
type writer struct {
	rules *ruleset.Ruleset
	chain *ruleset.Chain
	holds map[ruleset.Register]term
	words []string
	proto string // of the transport header, once a match has said it
	six   bool   // the network header is that of IPv6
}

// term is what a register holds: its name, and how its values are written.
type term struct {
	name string
	kind string // addr, addr6, port, name, state, status, proto, nfproto, type; empty: hexadecimal
	mask []byte
	len  int // 0: one register of four bytes
}

func (w *writer) word(s string) { w.words = append(w.words, s) }

func (w *writer) expr(e ruleset.Expr) {
	switch e := e.(type) {
	case ruleset.Payload:
		t := w.header(e)
		t.len = e.Len
		w.holds[e.To] = t
	case ruleset.Meta:
		w.holds[e.To] = metaTerm(e.Key)
	case ruleset.Ct:
		w.holds[e.To] = term{name: strings.Join(strings.Fields("ct "+e.Direction+" "+e.Key), " "), kind: map[string]string{
			"state": "state", "status": "status", "saddr": "addr", "daddr": "addr", "ip saddr": "addr", "ip daddr": "addr", "ip6 saddr": "addr", "ip6 daddr": "addr", "proto-dst": "port", "proto-src": "port", "protocol": "proto"}[e.Key]}
	case ruleset.Fib:
		w.holds[e.To] = term{name: "fib " + strings.Join(e.Of, " . ") + " " + e.Result, kind: map[string]string{"type": "type"}[e.Result]}
	case ruleset.Immediate:
		w.holds[e.To] = term{name: constant(e.Data)}
	case ruleset.Bitwise:
		t := w.holds[e.From]
		t.mask = e.Mask
		w.holds[e.To] = t
	case ruleset.Cmp:
		w.compare(e)
	case ruleset.Range:
		t := w.holds[e.From]
		w.word(t.name + map[bool]string{true: " !="}[e.Not] + " " + t.value(e.Min) + "-" + t.value(e.Max))
	case ruleset.Lookup:
		w.lookup(e)
	default:
		w.statement(e)
	}
}

// header names a field of a header.
func (w *writer) header(e ruleset.Payload) term {
	switch {
	case e.Base == "network" && e.Len <= 4 && e.Offset == 12 && !w.six:
		return term{name: "ip saddr", kind: "addr"}
	case e.Base == "network" && e.Len <= 4 && e.Offset == 16 && !w.six:
		return term{name: "ip daddr", kind: "addr"}
	case e.Base == "network" && e.Len == 1 && e.Offset == 9 && !w.six:
		return term{name: "ip protocol", kind: "proto"}
	case e.Base == "network" && e.Len == 16 && e.Offset == 8:
		return term{name: "ip6 saddr", kind: "addr"}
	case e.Base == "network" && e.Len == 16 && e.Offset == 24:
		return term{name: "ip6 daddr", kind: "addr"}
	case e.Base == "network" && e.Len < 16 && e.Offset == 8 && w.six:
		return term{name: "ip6 saddr", kind: "addr6"}
	case e.Base == "network" && e.Len < 16 && e.Offset == 24 && w.six:
		return term{name: "ip6 daddr", kind: "addr6"}
	case e.Base == "network" && e.Len == 1 && e.Offset == 6 && w.six:
		return term{name: "ip6 nexthdr", kind: "proto"}
	case e.Base == "transport" && e.Len == 1 && e.Offset == 0 && icmpTypes[w.proto] != nil:
		return term{name: map[string]string{"icmp": "icmp", "ipv6-icmp": "icmpv6"}[w.proto] + " type", kind: w.proto}
	case e.Base == "transport" && e.Len == 2 && e.Offset <= 2:
		proto := w.proto
		if proto == "" {
			proto = "th"
		}
		return term{name: proto + " " + []string{"sport", "", "dport"}[e.Offset], kind: "port"}
	}
	return term{name: fmt.Sprintf("@%s,%d,%d", map[string]string{"link": "ll", "network": "nh", "transport": "th"}[e.Base], 8*e.Offset, 8*e.Len)}
}

func metaTerm(key string) term {
	kinds := map[string]string{"iifname": "name", "oifname": "name", "iifkind": "name", "oifkind": "name", "l4proto": "proto", "nfproto": "nfproto"}
	name := "meta " + key
	if slices.Contains([]string{"iifname", "oifname", "iif", "oif", "iifgroup", "oifgroup", "iiftype", "oiftype"}, key) {
		name = key
	}
	t := term{name: name, kind: kinds[key]}
	if t.kind == "name" {
		t.len = nameLength
	}
	return t
}

// compare writes a comparison. That with nothing, behind a mask, is a match of bits.
func (w *writer) compare(e ruleset.Cmp) {
	t := w.holds[e.From]
	if t.kind == "proto" && e.Op == "==" && len(e.Data) == 1 {
		w.proto = protoName(e.Data[0])
	}
	if t.kind == "nfproto" && e.Op == "==" && len(e.Data) == 1 {
		w.six = e.Data[0] == nfprotoIPv6
	}
	op := " " + e.Op
	if e.Op == "==" {
		op = ""
	}
	last := len(w.words) - 1
	switch {
	case e.Op == "<=" && last >= 0 && strings.HasPrefix(w.words[last], t.name+" >= "):
		w.words[last] = strings.Replace(w.words[last], ">= ", "", 1) + "-" + t.value(e.Data)
	case t.kind == "addr" && (t.mask != nil || len(e.Data) < 4):
		w.word(t.name + op + " " + prefix(e.Data, t.mask, max(len(e.Data), 4)))
	case t.kind == "addr6":
		w.word(t.name + op + " " + prefix(e.Data, t.mask, 16))
	case t.mask != nil && e.Op == "!=" && len(bytes.Trim(e.Data, "\x00")) == 0:
		w.word(t.name + " " + t.value(t.mask))
	case t.mask != nil:
		w.word(t.name + " & " + term{}.value(t.mask) + " " + e.Op + " " + t.value(e.Data))
	default:
		w.word(t.name + op + " " + t.value(e.Data))
	}
}

// prefix writes an address of so many bytes with its mask, or the beginning of one.
func prefix(addr, mask []byte, length int) string {
	ones := 8 * len(addr)
	if mask != nil {
		ones = 0
		for _, b := range mask {
			ones += bits.OnesCount8(b)
		}
	}
	full := make([]byte, length)
	copy(full, addr)
	a, _ := netip.AddrFromSlice(full)
	return netip.PrefixFrom(a, ones).String()
}

// value writes a value as nft does.
func (t term) value(b []byte) string {
	switch {
	case t.kind == "addr":
		if a, ok := netip.AddrFromSlice(b); ok {
			return a.String()
		}
	case t.kind == "port" && len(b) >= 2:
		return strconv.Itoa(int(binary.BigEndian.Uint16(b)))
	case t.kind == "name":
		name, _, whole := bytes.Cut(b, []byte{0})
		if !whole && len(b) < nameLength {
			return strconv.Quote(string(name) + "*")
		}
		return strconv.Quote(string(name))
	case t.kind == "proto" && len(b) >= 1:
		return protoName(b[0])
	case icmpTypes[t.kind] != nil && len(b) == 1:
		return cmp.Or(icmpTypes[t.kind][b[0]], strconv.Itoa(int(b[0])))
	case t.kind == "nfproto" && len(b) == 1:
		return map[byte]string{2: "ipv4", 10: "ipv6"}[b[0]]
	case len(b) == 4 && (t.kind == "state" || t.kind == "status" || t.kind == "type"):
		return words(t.kind, binary.NativeEndian.Uint32(b))
	case len(b) == 4:
		return fmt.Sprintf("%#x", binary.NativeEndian.Uint32(b))
	}
	return fmt.Sprintf("0x%x", b)
}

// icmpTypes are the names of types of messages.
var icmpTypes = map[string]map[byte]string{
	"icmp": {0: "echo-reply", 3: "destination-unreachable", 5: "redirect", 8: "echo-request", 9: "router-advertisement", 10: "router-solicitation",
		11: "time-exceeded", 12: "parameter-problem", 13: "timestamp-request", 14: "timestamp-reply"},
	"ipv6-icmp": {1: "destination-unreachable", 2: "packet-too-big", 3: "time-exceeded", 4: "parameter-problem", 128: "echo-request", 129: "echo-reply",
		130: "mld-listener-query", 131: "mld-listener-report", 132: "mld-listener-done", 133: "nd-router-solicit", 134: "nd-router-advert",
		135: "nd-neighbor-solicit", 136: "nd-neighbor-advert", 137: "nd-redirect", 138: "router-renumbering", 143: "mld2-listener-report"},
}

func protoName(n byte) string {
	for name, number := range protocols {
		if number == n {
			return name
		}
	}
	return strconv.Itoa(int(n))
}

// words writes bits, or of types numbers, by their names.
func words(kind string, n uint32) string {
	names := map[string][]string{
		"state":  {"invalid", "established", "related", "new", "", "", "untracked"},
		"status": {"expected", "seen-reply", "assured", "confirmed", "snat", "dnat", "", "", "", "dying"},
		"type":   {"unspec", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit"},
	}[kind]
	if kind == "type" {
		if int(n) < len(names) {
			return names[n]
		}
		return strconv.Itoa(int(n))
	}
	var list []string
	for i := range 32 {
		if n&(1<<i) == 0 {
			continue
		}
		if i < len(names) && names[i] != "" {
			list = append(list, names[i])
		} else {
			list = append(list, fmt.Sprintf("%#x", 1<<i))
		}
	}
	return strings.Join(list, ",")
}

// lookup writes a match with a set, whose key may lie in several registers.
func (w *writer) lookup(e ruleset.Lookup) {
	set := w.rules.Set(w.chain.Table, e.Set)
	terms := w.parts(e.From, set)
	var names []string
	for _, t := range terms {
		names = append(names, t.name)
	}
	name := "@" + e.Set
	if set != nil && set.Anonymous {
		name = elements(set, terms)
	}
	text := strings.Join(names, " . ")
	switch {
	case e.Decides:
		w.word(text + " vmap " + name)
	case e.HasValue:
		w.holds[e.To] = term{name: text + " map " + name}
	default:
		w.word(text + map[bool]string{true: " !="}[e.Not] + " " + name)
	}
}

// parts are what a key consists of.
func (w *writer) parts(from ruleset.Register, set *ruleset.Set) []term {
	terms := []term{w.holds[from]}
	if set == nil {
		return terms
	}
	for at := from + terms[0].registers(); at < from+ruleset.Register(set.KeyLen); {
		t, ok := w.holds[at]
		if !ok {
			break
		}
		terms = append(terms, t)
		at += t.registers()
	}
	return terms
}

// registers is the room that a value takes.
func (t term) registers() ruleset.Register { return ruleset.Register((max(t.len, 1) + 3) &^ 3) }

// elements writes the first elements of a set without a name.
func elements(set *ruleset.Set, terms []term) string {
	const most = 8
	var list []string
	sorted := slices.SortedFunc(slices.Values(set.Elements), func(a, b ruleset.Element) int { return bytes.Compare(a.Key, b.Key) })
	for _, el := range sorted {
		if el.End {
			continue
		}
		if len(list) == most {
			list = append(list, "…")
			break
		}
		text := keyText(el.Key, terms)
		switch {
		case el.CatchAll:
			text = "*"
		case el.KeyEnd != nil:
			text += " to " + keyText(el.KeyEnd, terms)
		case set.Interval && set.Fields == nil:
			text = interval(el.Key, behind(set, el.Key), terms[0])
		}
		if el.Verdict != nil {
			text += " : " + verdictText(*el.Verdict)
		}
		list = append(list, text)
	}
	return "{ " + strings.Join(list, ", ") + " }"
}

func keyText(key []byte, terms []term) string {
	var parts []string
	for _, t := range terms {
		n := len(key)
		if len(terms) > 1 {
			n = min(n, int(t.registers()))
		}
		parts = append(parts, t.value(key[:n]))
		key = key[n:]
	}
	return strings.Join(parts, " . ")
}

// behind is the key at which an interval has ended, which is not told where the next
// begins; nil if none follows.
func behind(set *ruleset.Set, first []byte) (end []byte) {
	for _, el := range set.Elements {
		if bytes.Compare(el.Key, first) > 0 && (end == nil || bytes.Compare(el.Key, end) < 0) {
			end = el.Key
		}
	}
	return end
}

// interval writes one as nft does: by a prefix where it is one.
func interval(first, behind []byte, t term) string {
	last := bytes.Repeat([]byte{0xff}, len(first))
	if behind != nil {
		last = slices.Clone(behind)
		for i := len(last) - 1; i >= 0; i-- {
			last[i]--
			if last[i] != 0xff {
				break
			}
		}
	}
	if bytes.Equal(first, last) {
		return t.value(first)
	}
	if from, ok := netip.AddrFromSlice(first); ok && t.kind == "addr" {
		for bits := range from.BitLen() {
			p := netip.PrefixFrom(from, bits)
			if p.Masked() == p && bytes.Equal(lastOf(p), last) {
				return p.String()
			}
		}
	}
	return t.value(first) + "-" + t.value(last)
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) []byte {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return b
}

func verdictText(v ruleset.Verdict) string { return strings.TrimSpace(v.Kind + " " + v.Chain) }

// constant writes what may be an address or a port.
func constant(b []byte) string {
	switch len(b) {
	case 2:
		return strconv.Itoa(int(binary.BigEndian.Uint16(b)))
	case 4, 16:
		a, _ := netip.AddrFromSlice(b)
		return a.String()
	}
	return fmt.Sprintf("0x%x", b)
}

// statement writes what does something.
func (w *writer) statement(e ruleset.Expr) {
	switch e := e.(type) {
	case ruleset.Verdict:
		w.word(verdictText(e))
	case ruleset.Reject:
		w.word("reject")
	case ruleset.Masquerade:
		w.word("masquerade")
	case ruleset.NAT:
		text := e.Kind
		if e.HasAddr {
			text += " to " + w.holds[e.Addr].name
		}
		if t, ok := w.holds[e.Port]; ok && e.HasPort {
			text += ":" + t.name
		}
		w.word(text)
	case ruleset.Redirect:
		w.word("redirect")
		if e.HasPort {
			w.word("to :" + w.holds[e.Port].name)
		}
	case ruleset.SetMark:
		w.word("meta mark set " + w.holds[e.From].name)
	case ruleset.Aside:
		w.word(e.Name)
	case ruleset.Notrack:
		w.word("notrack")
	case ruleset.XTMatch:
		if e.Name != "comment" { // which comes at the end
			w.word(xtText(e))
		}
	case ruleset.XTTarget:
		w.word("xt " + e.Name)
	case ruleset.Unknown:
		w.word(e.Name + " …")
	}
}

// xtText writes a match of iptables with what is looked at most.
func xtText(e ruleset.XTMatch) string {
	text, i := "xt "+e.Name, info(e.Info)
	switch {
	case e.Name == "conntrack" && e.Revision >= 2 && i.u16(146)&1 != 0:
		return text + " " + words("state", uint32(i.u16(150)))
	case (e.Name == "tcp" || e.Name == "udp") && i.u16(6) != 0xffff:
		return fmt.Sprintf("%s dport %d-%d", text, i.u16(4), i.u16(6))
	}
	return text
}
