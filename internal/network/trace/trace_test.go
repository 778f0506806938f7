package trace

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/tare-engine/tare/internal/linux/ruleset"
)

// nowhere is a machine without addresses.
type nowhere struct{}

func (nowhere) Type(netip.Addr) string             { return "unicast" }
func (nowhere) Via(netip.Addr) string              { return "" }
func (nowhere) Addr(string, netip.Addr) netip.Addr { return netip.MustParseAddr("192.0.2.9") }

var table = ruleset.Table{Family: "inet", Name: "t"}

// rule numbers rules by what they are made of.
func rule(handle uint64, exprs ...ruleset.Expr) ruleset.Rule {
	return ruleset.Rule{Handle: handle, Exprs: exprs}
}

func verdict(kind, chain string) ruleset.Verdict { return ruleset.Verdict{Kind: kind, Chain: chain} }

// perhaps may match.
var perhaps = ruleset.Unknown{Name: "riddle"}

func forward(rules ...ruleset.Rule) *ruleset.Ruleset {
	return &ruleset.Ruleset{Chains: []*ruleset.Chain{
		{Table: table, Chain: "f", Hook: "forward", Kind: "filter", Rules: rules},
		{Table: table, Chain: "x", Rules: []ruleset.Rule{rule(100, perhaps, verdict("return", "")), rule(101, verdict("drop", ""))}},
		{Table: table, Chain: "loop", Rules: []ruleset.Rule{rule(102, verdict("jump", "loop"))}},
	}}
}

func sample() Packet {
	return Packet{Proto: "tcp", Src: netip.MustParseAddrPort("192.0.2.2:0"), Dst: netip.MustParseAddrPort("172.17.0.2:80"), State: "new", In: Link{Name: "a"}, Out: Link{Name: "b"}}
}

// TestDoubts: a rule that may match leaves the end open only if the end is another.
func TestDoubts(t *testing.T) {
	accept, drop := verdict("accept", ""), verdict("drop", "")
	for name, c := range map[string]struct {
		rules   []ruleset.Rule
		dropped uint64 // rule; 0: none
		doubt   uint64
	}{
		"drop perhaps":            {[]ruleset.Rule{rule(1, perhaps, drop)}, 0, 1},
		"drop perhaps, and then":  {[]ruleset.Rule{rule(1, perhaps, drop), rule(2, drop)}, 2, 0},
		"accept perhaps":          {[]ruleset.Rule{rule(1, perhaps, accept)}, 0, 0},
		"accept perhaps, or drop": {[]ruleset.Rule{rule(1, perhaps, accept), rule(2, drop)}, 2, 1},
		"return perhaps":          {[]ruleset.Rule{rule(1, verdict("jump", "x"))}, 0, 101},
		"return perhaps, or drop": {[]ruleset.Rule{rule(1, verdict("jump", "x")), rule(2, drop)}, 2, 0},
		"jump perhaps":            {[]ruleset.Rule{rule(1, perhaps, verdict("jump", "x")), rule(2, accept)}, 0, 101},
		"a chain that is missing": {[]ruleset.Rule{rule(1, verdict("jump", "nosuch"))}, 0, 1},
		"a loop":                  {[]ruleset.Rule{rule(1, verdict("jump", "loop"))}, 0, 102},
		"a set that is missing":   {[]ruleset.Rule{rule(1, ruleset.Lookup{Set: "nosuch"}, drop)}, 0, 1},
		"it decides by itself":    {[]ruleset.Rule{rule(1, ruleset.Unknown{Name: "queue", Decides: true})}, 0, 1},
		"a target of iptables":    {[]ruleset.Rule{rule(1, ruleset.XTTarget{Name: "TARPIT"})}, 0, 1},
		"a match of iptables":     {[]ruleset.Rule{rule(1, ruleset.XTMatch{Name: "bpf"}, drop)}, 0, 1},
		"no match by what is known": {[]ruleset.Rule{rule(1, perhaps, ruleset.Meta{Key: "iifname", To: 16},
			ruleset.Cmp{Op: "==", From: 16, Data: []byte("c\x00")}, drop)}, 0, 0},
	} {
		p := sample()
		out := New(forward(c.rules...), nowhere{}).Hook("forward", &p)
		var dropped, doubt uint64
		if out.Dropped != nil {
			dropped = out.Dropped.Handle
		}
		if len(out.Doubts) > 0 {
			doubt = out.Doubts[0].Handle
			if out.Doubts[0].Doubt == "" {
				t.Errorf("%s: the doubt has no reason", name)
			}
		}
		if dropped != c.dropped || doubt != c.doubt {
			t.Errorf("%s: dropped by %d, in doubt of %d: %+v", name, dropped, doubt, out)
		}
	}
}

// TestTranslationInDoubt: what follows is another packet's perhaps.
func TestTranslationInDoubt(t *testing.T) {
	to := ruleset.NAT{Kind: "dnat", Addr: 16, HasAddr: true}
	where := ruleset.Immediate{Data: []byte{10, 0, 0, 1}, To: 16}
	for sure, rules := range map[bool][]ruleset.Rule{true: {rule(1, where, to)}, false: {rule(1, perhaps, where, to)}} {
		r := forward(rules...)
		r.Chains[0].Hook, r.Chains[0].Kind = "prerouting", "nat"
		r.Chains = append(r.Chains, &ruleset.Chain{Table: table, Chain: "late", Hook: "prerouting", Kind: "filter", Priority: 1, Drops: true})
		p := sample()
		out := New(r, nowhere{}).Hook("prerouting", &p)
		if p.DNATed != sure || (p.Dst.String() == "10.0.0.1:80") != sure || out.Stopped() != sure {
			t.Errorf("%v: %+v %+v", sure, out, p)
		}
	}
}

// TestIntervalsThatTouch: where one ends the next begins, in whatever order the kernel
// lists them.
func TestIntervalsThatTouch(t *testing.T) {
	drop := verdict("drop", "")
	list := []ruleset.Element{{Key: []byte{172, 16, 0, 0}, Verdict: &ruleset.Verdict{Kind: "accept"}}, {Key: []byte{172, 17, 0, 0}, End: true}, {Key: []byte{172, 17, 0, 0}, Verdict: &drop}, {Key: []byte{172, 18, 0, 0}, End: true}}
	for range 2 {
		r := forward(rule(1, ruleset.Payload{Base: "network", Offset: 16, Len: 4, To: 16}, ruleset.Lookup{Set: "s", From: 16, HasValue: true, Decides: true}))
		r.Sets = []*ruleset.Set{{Table: table, Set: "s", Map: true, Interval: true, KeyLen: 4, Elements: list}}
		for dst, dropped := range map[string]bool{"172.16.255.255:80": false, "172.17.0.0:80": true, "172.17.255.255:80": true, "172.18.0.0:80": false} {
			p := sample()
			p.Dst = netip.MustParseAddrPort(dst)
			if out := New(r, nowhere{}).Hook("forward", &p); out.Stopped() != dropped {
				t.Errorf("%s: %+v", dst, out)
			}
		}
		slices.Reverse(list)
	}
}

// FuzzRule: no rule, whatever is in it, brings the walk or the text down.
func FuzzRule(f *testing.F) {
	f.Add("conntrack", 3, make([]byte, 160), 20, 4)
	f.Add("multiport", 1, []byte{1, 15, 0}, 70, 30)
	f.Add("tcp", 0, []byte{}, 0, 0)
	f.Fuzz(func(t *testing.T, name string, revision int, info []byte, at, n int) {
		reg := ruleset.Register(uint(at) % (ruleset.Registers - 16))
		for _, e := range []ruleset.Expr{
			ruleset.XTMatch{Name: name, Revision: revision, Info: info}, ruleset.XTTarget{Name: name, Revision: revision, Info: info},
			ruleset.Cmp{Op: "==", From: reg, Data: info[:min(len(info), 16)]}, ruleset.Payload{Base: "network", Offset: int(uint(at) % 256), Len: int(uint(n) % 17), To: reg},
			ruleset.Bitwise{From: reg, To: reg, Mask: info[:min(len(info), 16)], Xor: info[:min(len(info), 16)]}, ruleset.Immediate{Data: info, To: reg},
			ruleset.Range{From: reg, Min: info, Max: info}, ruleset.Lookup{Set: "s", From: reg, To: reg, HasValue: true}, ruleset.Verdict{Kind: name},
			ruleset.NAT{Kind: "dnat", Addr: reg, HasAddr: true, Port: reg, HasPort: true}, ruleset.SetMark{From: reg},
		} {
			r := forward(rule(1, ruleset.Immediate{Data: info, To: reg}, e, ruleset.Verdict{Kind: "drop"}))
			r.Sets = []*ruleset.Set{{Table: table, Set: "s", Map: true, KeyLen: len(info), Elements: []ruleset.Element{{Key: info, Data: info}}}}
			p := sample()
			New(r, nowhere{}).Hook("forward", &p)
			Text(r, r.Chains[0], &r.Chains[0].Rules[0])
		}
	})
}
