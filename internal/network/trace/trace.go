// Package trace walks a packet through the host's packet filter, in thought: it
// says which rule drops it, or that none does, or what it cannot tell.
//
//	w := trace.New(rules, host)
//	p := trace.Packet{Proto: "tcp", Src: client, Dst: server, In: link, State: "new"}
//	if out := w.Hook("prerouting", &p); out.Stopped() { … }
//	p.Out = …                      // routing, which is the caller's, may follow a new p.Dst
//	out := w.Hook("forward", &p)
//
// A rule with an expression that is not known may match or not. What it would do
// is a doubt, and the walk goes on as if it did not: if the end is the same either
// way, the doubt does not matter. Nothing is guessed.
package trace

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/tare-engine/tare/internal/linux/ruleset"
)

// Host tells of the machine whose rules are walked through.
type Host interface {
	// Type is local, unicast, broadcast or multicast.
	Type(netip.Addr) string
	// Via names the link by which packets to an address go out; empty if none.
	Via(netip.Addr) string
	// Addr is the address of a link of the family of another address, which masquerade
	// and redirect take.
	Addr(link string, like netip.Addr) netip.Addr
}

// Link is a network link.
type Link struct {
	Name  string
	Index int
	Group uint32
	Kind  string // bridge, veth, …; empty for hardware
}

// Packet is a packet of IPv4 or, if its addresses are, of IPv6. Hook changes what rules
// change.
type Packet struct {
	Proto    string         // tcp, udp, sctp
	Src, Dst netip.AddrPort // a port of 0 is one that is not known
	In, Out  Link           // without a name: there is none
	State    string         // of the connection: new, established
	Reply    bool           // it goes from server to client
	DNATed   bool           // the connection's destination was translated
	SNATed   bool

	// As is the address that the source was translated to; zero if that is not known.
	As netip.Addr

	original  [2]netip.AddrPort // of the connection's first packet, source and destination
	mark      uint32
	marked    bool // by a rule that may not have matched: the mark is not known
	untracked bool
}

// six reports whether it is a packet of IPv6.
func (p *Packet) six() bool { return p.Dst.Addr().Is6() }

// Place is where something happens to a packet.
type Place struct {
	Hook   string
	Table  string // family and name
	Chain  string
	Handle uint64 // of the rule; 0: the chain's policy
	Rule   string // its text
	Base   string // the chain with the hook by which the packet came there, if it is another
	Doubt  string // the expression that is not known
	Does   string // accept, drop, reject, dnat to …, masquerade, …
}

// Outcome is what became of a packet at a hook.
type Outcome struct {
	Dropped *Place   // nil if it goes on
	Doubts  []Place  // what may have become of it instead
	Changes []Place  // that were made to it
	Chains  []string // that it has met
}

// Stopped reports whether the packet surely does not go on.
func (o Outcome) Stopped() bool { return o.Dropped != nil && len(o.Doubts) == 0 }

// Walk is a way through rules.
type Walk struct {
	rules *ruleset.Ruleset
	host  Host
}

// New returns a walk.
func New(rules *ruleset.Ruleset, host Host) *Walk { return &Walk{rules, host} }

// Hook takes the packet through all chains of a hook, in the order of their
// priorities: each has to let it pass.
func (w *Walk) Hook(name string, p *Packet) Outcome {
	if !p.original[0].IsValid() {
		p.original = [2]netip.AddrPort{p.Src, p.Dst}
	}
	var out Outcome
	var changed []Place // perhaps: all that follows is another packet's then
	translated := false
	for _, c := range w.chains(name, p) {
		if c.Kind == "nat" && (p.State != "new" || translated) {
			continue // the first packet's translation is the connection's
		}
		out.Chains = append(out.Chains, c.String())
		run := &run{walk: w, hook: name, base: c, p: p}
		src, dst := p.Src, p.Dst
		p.Src, p.Dst = p.onWire(name, c.Priority)
		seen := p.Dst
		end := run.chain(c, sure, 0)
		if p.Src = src; p.Dst == seen { // it was not translated
			p.Dst = dst
		}
		if end.kind == "" || end.kind == "return" {
			end = run.policy()
		}
		translated = translated || run.translated
		out.Changes = append(out.Changes, run.changes...)
		switch {
		case end.kind == "drop":
			out.Dropped = &end.place
			// It is only what would have let the packet pass that matters now.
			out.Doubts = append(changed, doubts(run.doubts, "accept")...)
			return out
		default:
			out.Doubts = append(out.Doubts, doubts(run.doubts, "drop")...)
			changed = append(changed, doubts(run.doubts, "changed")...)
		}
	}
	return out
}

// Chain takes the packet through one chain with a hook alone.
func (w *Walk) Chain(c *ruleset.Chain, p *Packet) Outcome {
	alone := &Walk{&ruleset.Ruleset{Sets: w.rules.Sets}, w.host}
	for _, o := range w.rules.Chains {
		if o == c || o.Hook == "" {
			alone.rules.Chains = append(alone.rules.Chains, o)
		}
	}
	return alone.Hook(c.Hook, p)
}

// doubts are those whose outcome is another one than accept, or than drop.
func doubts(all []doubt, kind string) (list []Place) {
	for _, d := range all {
		if d.kind == kind || d.kind == "other" || d.kind == "changed" {
			list = append(list, d.place)
		}
	}
	return list
}

// chains are those that a packet meets at a hook.
func (w *Walk) chains(hook string, p *Packet) []*ruleset.Chain {
	var list []*ruleset.Chain
	for _, c := range w.rules.Chains {
		switch {
		case c.Hook != hook:
		case p.Sees(c.Family):
			if len(c.Devices) == 0 || slices.Contains(c.Devices, p.In.Name) {
				list = append(list, c)
			}
		case c.Family == "netdev" && slices.Contains(c.Devices, p.device(hook)):
			list = append(list, c)
		}
	}
	slices.SortStableFunc(list, func(a, b *ruleset.Chain) int { return cmp.Compare(a.Priority, b.Priority) })
	return list
}

// Sees reports whether a packet of this kind comes to the chains with hooks of a family of
// tables, those of netdev apart, which are of links.
func (p *Packet) Sees(family string) bool {
	if p.six() {
		return family == "ip6" || family == "inet" || family == ruleset.Legacy6
	}
	return family == "ip" || family == "inet" || family == ruleset.Legacy
}

// onWire are the addresses that chains of a priority see. The kernel translates the
// answers back where it translates the first packet: the destination at -100 before
// routing, the source at 100 behind it.
func (p *Packet) onWire(hook string, priority int) (src, dst netip.AddrPort) {
	const dstNAT, srcNAT = -100, 100
	src, dst = p.Src, p.Dst
	out := hook == "egress" || priority >= srcNAT && (hook == "postrouting" || hook == "input")
	in := hook == "ingress" || priority < dstNAT && hook == "prerouting"
	switch {
	case p.Reply && in && p.SNATed && p.As.IsValid():
		dst = netip.AddrPortFrom(p.As, dst.Port())
	case p.Reply && out && p.DNATed:
		src = p.original[1]
	case !p.Reply && hook == "egress" && p.SNATed && p.As.IsValid():
		src = netip.AddrPortFrom(p.As, 0)
	}
	return src, dst
}

func (p *Packet) device(hook string) string {
	if hook == "egress" {
		return p.Out.Name
	}
	return p.In.Name
}

// tracked reports whether connections are known to chains of a priority.
func (r *run) tracked() bool {
	const conntrack = -200
	return !r.p.untracked && r.hook != "ingress" && (r.base.Priority > conntrack || r.hook != "prerouting" && r.hook != "output")
}

// run is the way through one chain with a hook and those that it leads to.
type run struct {
	walk       *Walk
	hook       string
	base       *ruleset.Chain
	p          *Packet
	doubts     []doubt
	changes    []Place
	translated bool
}

// doubt is what a rule would do that may match.
type doubt struct {
	kind  string // accept, drop, changed, other
	place Place
}

// end is how a chain ends: accept, drop, return, or empty for its last rule.
type end struct {
	kind  string
	place Place
}

func (r *run) policy() end {
	e := end{"accept", Place{Hook: r.hook, Table: r.base.Table.String(), Chain: r.base.Chain, Rule: "policy accept", Does: "accept"}}
	if r.base.Drops {
		e.kind, e.place.Rule, e.place.Does = "drop", "policy drop", "drop"
	}
	return e
}

// certainty says whether a chain is reached: sure is the zero value, else it names
// the rule and the expression on which that depends.
type certainty struct{ doubt string }

var sure certainty

func (c certainty) holds() bool { return c.doubt == "" }

// maxDepth is the kernel's bound of jumps within jumps.
const maxDepth = 16

// chain executes the rules of a chain. What it may do, if it is not sure whether
// it is reached, becomes a doubt.
func (r *run) chain(c *ruleset.Chain, reached certainty, depth int) end {
	for i := range c.Rules {
		v, matched := r.rule(c, &c.Rules[i], reached)
		if v == nil {
			continue
		}
		if matched.holds() {
			matched = reached
		}
		e := r.follow(c, &c.Rules[i], *v, matched, depth)
		switch {
		case e.kind == "":
		case matched.holds():
			return e
		case e.kind == "return": // or not: what follows is executed perhaps
			reached = matched
		default:
			r.doubts = append(r.doubts, doubt(e))
		}
	}
	return end{}
}

// follow says how a rule's verdict ends the chain; empty if the next rule follows.
func (r *run) follow(c *ruleset.Chain, rule *ruleset.Rule, v ruleset.Verdict, matched certainty, depth int) end {
	if v.Kind == "jump" || v.Kind == "goto" {
		return r.jump(c, rule, v, matched, depth)
	}
	place := r.place(c, rule, v.Kind)
	place.Doubt = matched.doubt
	switch v.Kind {
	case "accept", "return":
		return end{v.Kind, place}
	case "drop", "reject":
		return end{"drop", place}
	case "continue":
		return end{}
	}
	place.Doubt = cmp.Or(place.Doubt, v.Kind)
	return r.other(place)
}

// jump goes through another chain; a goto does not come back to this one.
func (r *run) jump(c *ruleset.Chain, rule *ruleset.Rule, v ruleset.Verdict, matched certainty, depth int) end {
	to := r.walk.rules.Chain(c.Table, v.Chain)
	if to == nil || depth == maxDepth {
		place := r.place(c, rule, v.Kind)
		place.Doubt = fmt.Sprintf("chain %s cannot be followed", v.Chain)
		return r.other(place)
	}
	e := r.chain(to, matched, depth+1)
	switch {
	case e.kind != "return" && e.kind != "":
		return e
	case v.Kind == "goto":
		return end{"return", r.place(c, rule, v.Kind)}
	}
	return end{}
}

// other is an end that is not known: neither way of going on is sure.
func (r *run) other(place Place) end {
	r.doubts = append(r.doubts, doubt{"other", place})
	return end{}
}

func (r *run) place(c *ruleset.Chain, rule *ruleset.Rule, does string) Place {
	p := Place{Hook: r.hook, Table: c.Table.String(), Chain: c.Chain, Handle: rule.Handle, Rule: Text(r.walk.rules, c, rule), Does: does}
	if c != r.base {
		p.Base = r.base.Chain
	}
	return p
}
