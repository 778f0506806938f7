package firewall

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/tare-engine/tare/internal/linux/nft"
	"github.com/tare-engine/tare/internal/linux/ruleset"
	"github.com/tare-engine/tare/internal/network/trace"
)

// Other programs' chains that see forwarded packets: each has to let them pass, so a
// foreign one that drops what it does not know keeps containers from the world.

// Warnings names the chains of other programs that drop what containers send or
// receive.
func (f *Firewall) Warnings() ([]string, error) {
	rules, err := f.others()
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	samples := f.samples()
	for _, c := range f.foreign(rules) {
		p, which := drops(rules, c, samples)
		if p == nil {
			continue
		}
		by := p.Rule
		if p.Handle != 0 {
			by = fmt.Sprintf("chain %s, rule %d: %s", p.Chain, p.Handle, p.Rule)
		}
		what := "packets"
		if which.Dst.Addr().Is6() {
			what = "packets of IPv6"
		}
		all = append(all, fmt.Sprintf("WARNING: firewall chain %s drops forwarded %s of containers (%s); tare network explain says of which", c, what, by))
	}
	return all, nil
}

// others reads other programs' rules: that costs nothing of our own.
func (f *Firewall) others() (*ruleset.Ruleset, error) {
	return ruleset.Read(ruleset.Table{Family: "inet", Name: f.cfg.Table})
}

// foreign are the chains hooked into forwarding of IP packets that are no engine's.
func (f *Firewall) foreign(rules *ruleset.Ruleset) (list []*ruleset.Chain) {
	for _, c := range rules.Chains {
		engine := c.Family == "inet" && (c.Name == f.cfg.Table || c.Name == "tare" || strings.HasPrefix(c.Name, "tare_"))
		known := []string{"ip", "ip6", "inet", ruleset.Legacy, ruleset.Legacy6}
		if c.Hook == "forward" && c.Kind == "filter" && slices.Contains(known, c.Family) && !engine {
			list = append(list, c)
		}
	}
	return list
}

// drops finds what in a chain drops one of the packets, and which; nil if that is not
// sure.
func drops(rules *ruleset.Ruleset, c *ruleset.Chain, samples []trace.Packet) (*trace.Place, trace.Packet) {
	w := trace.New(rules, stranger{})
	for _, p := range samples {
		was := p
		if !p.Sees(c.Family) {
			continue
		}
		if out := w.Chain(c, &p); out.Stopped() {
			return out.Dropped, was
		}
	}
	return nil, trace.Packet{}
}

// worlds are addresses of those that stand for others.
var worlds = map[Family]netip.Addr{nft.IPv4: netip.MustParseAddr("198.51.100.1"), nft.IPv6: netip.MustParseAddr("3fff::1")}

// samples are the first packets of a connection to the world, and of one to a
// published port, of each network that leads out, by each version of IP that it has.
//
// Preconditions: f.mu is held.
func (f *Firewall) samples() (all []trace.Packet) {
	outer := map[Family]trace.Link{}
	for _, n := range f.state.Networks {
		if n.Internal {
			continue
		}
		for _, subnet := range n.Subnets {
			v := nft.FamilyOf(subnet.Addr())
			if _, known := outer[v]; !known {
				outer[v] = trace.Link{Name: f.outside(v)}
			}
			world := netip.AddrPortFrom(worlds[v], 443)
			inside := netip.AddrPortFrom(subnet.Masked().Addr().Next().Next(), 80)
			own := trace.Link{Name: n.Link, Group: f.cfg.Group, Kind: "bridge"}
			all = append(all,
				trace.Packet{Proto: "tcp", Src: anyPort(inside), Dst: world, In: own, Out: outer[v], State: "new"},
				trace.Packet{Proto: "tcp", Src: anyPort(world), Dst: inside, In: outer[v], Out: own, State: "new", DNATed: true})
		}
	}
	return all
}

func anyPort(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), 0) }

func (f *Firewall) outside(v Family) string {
	if f.cfg.Outside == nil {
		return ""
	}
	return f.cfg.Outside(v)
}

// stranger is all that is known of addresses that stand for others.
type stranger struct{}

func (stranger) Type(netip.Addr) string             { return "unicast" }
func (stranger) Via(netip.Addr) string              { return "" }
func (stranger) Addr(string, netip.Addr) netip.Addr { return netip.Addr{} }

// integrate has the foreign chains that drop containers' packets accept them, and
// takes back what is not wanted any more. Rules of an earlier engine are known by
// their comment.
//
// Preconditions: f.mu is held.
func (f *Firewall) integrate() error {
	rules, err := f.others()
	if err != nil {
		return err
	}
	var b nft.Batch
	samples := f.samples()
	for _, c := range f.foreign(rules) {
		if c.Family == ruleset.Legacy || c.Family == ruleset.Legacy6 {
			continue // they take whole tables only, which is no way to change what others change
		}
		have := f.ours(c)
		stopped, _ := drops(rules, c, samples)
		wanted := f.cfg.Integrate && f.applied && (len(have) > 0 || stopped != nil)
		f.integrateChain(&b, c, have, wanted)
	}
	if b.Len() == 0 {
		return nil
	}
	return f.conn.Do(f.cfg.Table, &b)
}

// comment marks our rules in others' chains.
func (f *Firewall) comment() string { return f.cfg.Table + ": firewall-integration" }

// integrateChain adds what is missing of a chain's rules for containers, a rule for
// each link and direction: iptables, whose table it may be, has no sets and refuses a
// table with what it does not know.
func (f *Firewall) integrateChain(b *nft.Batch, c *ruleset.Chain, have map[string]uint64, wanted bool) {
	var want []string
	if wanted {
		for _, n := range f.state.Networks {
			for _, l := range append([]string{n.Link}, n.Beside...) {
				want = append(want, "iifname "+l, "oifname "+l)
			}
		}
	}
	at := nft.Elsewhere{Family: c.Family, Table: c.Name, Chain: c.Chain}
	for key, handle := range have {
		if !slices.Contains(want, key) {
			b.TakeBack(at, handle)
		}
	}
	for _, key := range want {
		if _, ok := have[key]; ok {
			continue
		}
		kind, link, _ := strings.Cut(key, " ")
		match := nft.IIfName(link)
		if kind == "oifname" {
			match = nft.OIfName(link)
		}
		b.Insert(at, nft.Rule{match, nft.Counter(), nft.Accept()}, f.comment())
	}
}

// ours are the handles of our rules in a chain, by what they match.
func (f *Firewall) ours(c *ruleset.Chain) map[string]uint64 {
	have := map[string]uint64{}
	for _, r := range c.Rules {
		if r.Comment != f.comment() || len(r.Exprs) < 2 {
			continue
		}
		m, isMeta := r.Exprs[0].(ruleset.Meta)
		e, isCmp := r.Exprs[1].(ruleset.Cmp)
		if !isMeta || !isCmp {
			continue
		}
		name, _, _ := strings.Cut(string(e.Data), "\x00")
		have[m.Key+" "+name] = r.Handle
	}
	return have
}

// reintegrate is integrate behind a change that is done: what goes wrong is tried
// again when the other program changes its rules.
//
// Preconditions: f.mu is held.
func (f *Firewall) reintegrate() {
	if f.cfg.Integrate {
		f.tryIntegrate()
	}
}

func (f *Firewall) tryIntegrate() {
	if err := f.integrate(); err != nil {
		f.cfg.Log.Warn("other programs' firewall rules could not be adapted", "err", err)
	}
}

// WatchOthers keeps the integration up while others change their rules, until the
// context ends.
func (f *Firewall) WatchOthers(ctx context.Context) {
	if f.every == nil {
		return
	}
	follow(ctx, f.every, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.applied {
			f.reintegrate()
		}
	})
}
