package trace

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/tare-engine/tare/internal/linux/ruleset"
)

// registers are the memory of a rule. Bytes that are not known are so for a reason.
type registers struct {
	b       [ruleset.Registers]byte
	unknown [ruleset.Registers]string
}

// load writes a value; as in the kernel, whole words are written.
func (m *registers) load(at ruleset.Register, v value) {
	for i := range (len(v.b) + 3) &^ 3 {
		if int(at)+i >= len(m.b) {
			return
		}
		m.b[int(at)+i], m.unknown[int(at)+i] = 0, ""
		if i < len(v.b) {
			m.b[int(at)+i], m.unknown[int(at)+i] = v.b[i], v.unknown(i)
		}
	}
}

// get reads n bytes; why is not empty if one of them is not known.
func (m *registers) get(at ruleset.Register, n int) (b []byte, why string) {
	end := min(int(at)+n, len(m.b))
	for _, u := range m.unknown[at:end] {
		why = cmp.Or(why, u)
	}
	return m.b[at:end], why
}

func (m *registers) forget(why string) {
	for i := range m.unknown {
		m.unknown[i] = why
	}
}

// value is bytes of which some may not be known.
type value struct {
	b    []byte
	why  string // some are not known, for this reason
	mask []bool // which ones; nil: all
}

func (v value) unknown(i int) string {
	if v.why == "" || v.mask != nil && !v.mask[i] {
		return ""
	}
	return v.why
}

func known(b []byte) *value { return &value{b: b} }

func native32(n uint32) *value { return known(binary.NativeEndian.AppendUint32(nil, n)) }

func unknown(n int, why string) *value { return &value{b: make([]byte, n), why: why} }

// rule executes the expressions of a rule. It returns the verdict, nil if the next
// rule follows, and whether that is sure, apart from whether the rule is reached.
func (r *run) rule(c *ruleset.Chain, rule *ruleset.Rule, reached certainty) (*ruleset.Verdict, certainty) {
	x := &execution{run: r, chain: c, rule: rule, reached: reached}
	for _, e := range rule.Exprs {
		if !x.do(e) {
			return nil, sure
		}
		if x.verdict != nil {
			return x.verdict, x.matched
		}
	}
	return nil, sure
}

// execution is a rule that is being executed.
type execution struct {
	*run
	chain   *ruleset.Chain
	rule    *ruleset.Rule
	reached certainty
	mem     registers
	matched certainty // so far
	verdict *ruleset.Verdict
}

// maybe notes that the rule matches only perhaps.
func (x *execution) maybe(why string) bool {
	if x.matched.holds() {
		x.matched = certainty{why}
	}
	return true
}

// is is the result of a match; why says that it is not known.
func (x *execution) is(ok bool, why string) bool {
	if why != "" {
		return x.maybe(why)
	}
	return ok
}

// do executes an expression; false if it does not match.
func (x *execution) do(e ruleset.Expr) bool {
	switch e := e.(type) {
	case ruleset.Payload, ruleset.Meta, ruleset.Ct, ruleset.Fib, ruleset.Immediate:
		return x.load(e)
	case ruleset.Bitwise:
		x.bitwise(e)
	case ruleset.Cmp:
		return x.compare(e)
	case ruleset.Range:
		b, why := x.mem.get(e.From, len(e.Min))
		in := bytes.Compare(b, e.Min) >= 0 && bytes.Compare(b, e.Max) <= 0
		return x.is(in != e.Not, why)
	case ruleset.Lookup:
		return x.lookup(e)
	case ruleset.Verdict:
		x.verdict = &e
	case ruleset.Reject:
		x.verdict = &ruleset.Verdict{Kind: "reject"}
	case ruleset.XTMatch:
		ok, why := x.xtMatch(e)
		return x.is(ok, why)
	case ruleset.XTTarget:
		x.xtTarget(e)
	case ruleset.Unknown:
		x.mem.forget(e.Name)
		x.maybe(e.Name)
		if e.Decides {
			x.verdict = &ruleset.Verdict{Kind: e.Name}
		}
	default:
		x.change(e)
	}
	return true
}

// change executes what changes the packet, or is beside it.
func (x *execution) change(e ruleset.Expr) {
	switch e := e.(type) {
	case ruleset.SetMark:
		b, why := x.mem.get(e.From, 4)
		x.setMark(binary.NativeEndian.Uint32(b), why)
	case ruleset.Notrack:
		if x.sure() {
			x.p.untracked = true
		}
	case ruleset.Masquerade:
		x.translate("masquerade", x.linkAddr(), "")
	case ruleset.Redirect:
		port, why := x.port(e.Port, e.HasPort)
		x.redirect(port, why)
	case ruleset.NAT:
		x.nat(e)
	}
}

// sure reports whether what the rule does is done for sure.
func (x *execution) sure() bool { return x.reached.holds() && x.matched.holds() }

func (x *execution) setMark(mark uint32, why string) {
	x.p.mark = mark
	x.p.marked = why != "" || !x.sure()
}

func (x *execution) port(from ruleset.Register, has bool) (uint16, string) {
	if !has {
		return x.p.Dst.Port(), ""
	}
	b, why := x.mem.get(from, 2)
	return binary.BigEndian.Uint16(b), why
}

func (x *execution) nat(e ruleset.NAT) {
	if e.Kind == "snat" {
		a, why := x.addr(e.Addr)
		as := netip.AddrPort{}
		if e.HasAddr && why == "" {
			as = netip.AddrPortFrom(a, 0)
		}
		x.translate("snat", as, "")
		return
	}
	port, why := x.port(e.Port, e.HasPort)
	to := x.p.Dst.Addr()
	if e.HasAddr {
		a, unsure := x.addr(e.Addr)
		to, why = a, cmp.Or(why, unsure)
	}
	x.translate("dnat", netip.AddrPortFrom(to, port), why)
}

// addr reads an address of the packet's version of IP.
func (x *execution) addr(from ruleset.Register) (netip.Addr, string) {
	b, why := x.mem.get(from, of(x.p, 4, 16))
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		why = "an address beyond the registers"
	}
	return a, why
}

// linkAddr is the address by which the packet leaves.
func (x *execution) linkAddr() netip.AddrPort {
	return netip.AddrPortFrom(x.walk.host.Addr(x.p.Out.Name, x.p.Dst.Addr()), 0)
}

// redirect translates to the host itself.
func (x *execution) redirect(port uint16, why string) {
	to := of(x.p, netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback())
	if x.hook == "prerouting" {
		to = x.walk.host.Addr(x.p.In.Name, to)
	}
	x.translate("dnat", netip.AddrPortFrom(to, port), why)
}

// translate changes an address, and ends the chain: the kernel translates once at
// a hook.
func (x *execution) translate(kind string, to netip.AddrPort, why string) {
	place := x.place(x.chain, x.rule, kind)
	if kind == "dnat" {
		place.Does = "dnat to " + to.String()
	}
	if why = cmp.Or(x.reached.doubt, x.matched.doubt, why); why != "" {
		place.Doubt = why
		x.doubts = append(x.doubts, doubt{"changed", place})
		return
	}
	if kind == "dnat" {
		x.p.Dst, x.p.DNATed = to, true
	} else {
		x.p.SNATed, x.p.As = true, to.Addr()
	}
	x.translated = true
	x.changes = append(x.changes, place)
	x.verdict = &ruleset.Verdict{Kind: "accept"}
}

func (x *execution) bitwise(e ruleset.Bitwise) {
	n := min(len(e.Mask), len(e.Xor))
	var out [16]byte
	var why [16]string
	for i := range min(n, len(out)) {
		b, u := x.mem.get(e.From+ruleset.Register(i), 1)
		out[i] = b[0]&e.Mask[i] ^ e.Xor[i]
		if e.Mask[i] != 0 {
			why[i] = u
		}
	}
	for i := range min(n, len(out)) {
		x.mem.b[int(e.To)+i], x.mem.unknown[int(e.To)+i] = out[i], why[i]
	}
}

// compare compares as the kernel does, byte by byte. Equality is refuted by a byte
// that is known, whatever the others are.
func (x *execution) compare(e ruleset.Cmp) bool {
	b, why := x.mem.get(e.From, len(e.Data))
	if e.Op == "==" || e.Op == "!=" {
		for i := range b {
			if x.mem.unknown[int(e.From)+i] == "" && b[i] != e.Data[i] {
				return e.Op == "!="
			}
		}
		return x.is(e.Op == "==", why)
	}
	order := bytes.Compare(b, e.Data)
	switch e.Op {
	case "<":
		return x.is(order < 0, why)
	case "<=":
		return x.is(order <= 0, why)
	case ">":
		return x.is(order > 0, why)
	case ">=":
		return x.is(order >= 0, why)
	}
	return x.maybe("comparison " + e.Op)
}

func (x *execution) lookup(e ruleset.Lookup) bool {
	set := x.walk.rules.Set(x.chain.Table, e.Set)
	if set == nil {
		x.mem.forget("set " + e.Set)
		return x.maybe("set " + e.Set)
	}
	found, why := x.find(set, e.From)
	switch {
	case why != "":
		if e.HasValue {
			x.mem.forget(why)
		}
		x.maybe(why)
		if e.Decides { // one of the map's verdicts, or none
			x.verdict = &ruleset.Verdict{Kind: "verdict of map " + e.Set}
		}
		return true
	case found == nil:
		return e.Not
	case e.Decides && found.Verdict != nil:
		x.verdict = found.Verdict
	case e.HasValue:
		x.mem.load(e.To, value{b: found.Data})
	}
	return !e.Not
}

// find looks a key up that begins at a register.
func (x *execution) find(set *ruleset.Set, from ruleset.Register) (found *ruleset.Element, why string) {
	var below *ruleset.Element // the last one that does not lie above the key
	for i := range set.Elements {
		el := &set.Elements[i]
		if el.CatchAll {
			continue
		}
		key, unsure := x.mem.get(from, len(el.Key))
		switch {
		case el.KeyEnd != nil:
			if !within(set.Fields, key, el.Key, el.KeyEnd) && unsure == "" {
				continue
			}
		case set.Interval && set.Fields == nil:
			if unsure != "" {
				return nil, unsure
			}
			if order := bytes.Compare(el.Key, key); order <= 0 && (below == nil || above(el, below)) {
				below = el
			}
			continue
		case !x.mayBe(from, el.Key):
			continue
		}
		if unsure != "" {
			return nil, unsure
		}
		return el, ""
	}
	if below != nil && !below.End {
		return below, ""
	}
	at := slices.IndexFunc(set.Elements, func(e ruleset.Element) bool { return e.CatchAll })
	if at >= 0 {
		return &set.Elements[at], ""
	}
	return nil, ""
}

// above orders the ends of intervals: where one ends another may begin.
func above(a, b *ruleset.Element) bool {
	order := bytes.Compare(a.Key, b.Key)
	return order > 0 || order == 0 && b.End
}

// within compares the parts of a concatenation one by one.
func within(fields []int, key, first, last []byte) bool {
	if len(fields) == 0 {
		fields = []int{len(key)}
	}
	at := 0
	for _, n := range fields {
		if at+n > len(key) || at+n > len(last) {
			return false
		}
		if bytes.Compare(key[at:at+n], first[at:at+n]) < 0 || bytes.Compare(key[at:at+n], last[at:at+n]) > 0 {
			return false
		}
		at += n
	}
	return true
}

// mayBe reports whether the bytes that are known equal a key's.
func (x *execution) mayBe(from ruleset.Register, key []byte) bool {
	for i := range key {
		at := int(from) + i
		if at >= len(x.mem.b) || x.mem.unknown[at] == "" && x.mem.b[at] != key[i] {
			return false
		}
	}
	return true
}

// load executes what loads a register; false if the kernel would not go on.
func (x *execution) load(e ruleset.Expr) bool {
	var v *value
	var to ruleset.Register
	switch e := e.(type) {
	case ruleset.Payload:
		v, to = x.payload(e), e.To
	case ruleset.Meta:
		v, to = x.meta(e.Key), e.To
	case ruleset.Ct:
		v, to = x.ct(e), e.To
	case ruleset.Fib:
		v, to = x.fib(e), e.To
	case ruleset.Immediate:
		v, to = known(e.Data), e.To
	}
	if v == nil {
		return false
	}
	x.mem.load(to, *v)
	return true
}
