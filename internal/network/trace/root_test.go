//go:build root

package trace

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/tare-engine/tare/internal/linux/ruleset"
	"github.com/tare-engine/tare/internal/network/networktest"
)

func TestMain(m *testing.M) { networktest.Main(m) }

func execute(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	c := exec.Command(name, args...)
	c.Stdin = strings.NewReader(stdin)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

// load makes a table of the family inet with one chain, and reads it.
func load(t *testing.T, text string) *ruleset.Ruleset {
	t.Helper()
	execute(t, "flush ruleset\ntable inet t { "+text+"; }", "nft", "-f", "-")
	t.Cleanup(func() { execute(t, "flush ruleset", "nft", "-f", "-") })
	rules, err := ruleset.Read()
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// TestTextIsNfts: rules are written as nft lists them.
func TestTextIsNfts(t *testing.T) {
	rules := []string{
		`iifname "eth0" oifname "br-*" accept`,
		`iifgroup 0x7a9e drop`,
		`ip saddr 192.0.2.0/24 ip daddr 10.1.2.3 drop`,
		`ip saddr 10.0.0.0/11 ip daddr != 10.1.0.0/16 counter packets 0 bytes 0 accept`,
		`tcp dport 80 accept`,
		`udp sport 53 udp dport 1024-65535 reject`,
		`tcp dport { 22, 80 } accept`,
		`meta l4proto { tcp, udp } th dport 53 accept`,
		`ct state established,related accept`,
		`ct state vmap { invalid : drop, new : jump x }`,
		`ct status dnat accept`,
		`ct original ip daddr 10.1.1.1 accept`,
		`fib daddr type local accept`,
		`fib saddr . iif oif eq 0 drop`,
		`ip saddr @addrs drop`,
		`ip saddr != @addrs drop`,
		`ip saddr . tcp dport @pairs goto x`,
		`iifname vmap @ways`,
		`meta mark & 0x000000ff == 0x00000001 accept`,
		`meta mark set 0x00000001`,
		`ip protocol icmp accept comment "pings"`,
		`meta nfproto ipv4 return`,
		`limit rate 3/minute accept`,
		`ip6 saddr fd00::/8 ip6 daddr 2001:db8::1 drop`,
		`ip6 saddr fd00::/7 ip6 daddr != 2001:db8::/32 accept`,
		`ip6 daddr @addrs6 drop`,
		`ip6 nexthdr tcp drop`,
		`icmpv6 type nd-neighbor-solicit accept`,
		`icmpv6 type { echo-request, nd-router-advert } accept`,
		`icmp type echo-request accept`,
		`meta nfproto ipv6 drop`,
		`ct original ip6 daddr fd00::1 accept`,
	}
	r := load(t, `set addrs6 { type ipv6_addr; elements = { fd00::7 }; }; set addrs { type ipv4_addr; elements = { 1.2.3.4 }; }; set pairs { type ipv4_addr . inet_service; }; map ways { type ifname : verdict; };
		chain x { }; chain c { type filter hook forward priority 0; `+strings.Join(rules, "; ")+`; }`)
	want := map[int]string{ // what is written otherwise
		1: "iifgroup 0x7a9e drop", 3: "ip saddr 10.0.0.0/11 ip daddr != 10.1.0.0/16 counter accept", 13: "fib saddr . iif oif 0x0 drop",
		18: "meta mark & 0xff == 0x1 accept", 19: "meta mark set 1.0.0.0", 22: "limit … accept", 24: "ip6 saddr fc00::/7 ip6 daddr != 2001:db8::/32 accept",
	}
	c := r.Chain(ruleset.Table{Family: "inet", Name: "t"}, "c")
	for i := range rules {
		got := Text(r, c, &c.Rules[i])
		if w, ok := want[i]; ok && w != got || !ok && got != rules[i] {
			t.Errorf("%s\n%s", rules[i], got)
		}
	}
}

// host is a machine with a link to the world and a bridge.
type host struct{}

func (host) Type(a netip.Addr) string {
	switch {
	case a.IsLoopback() || a.String() == "192.0.2.1" || a.String() == "172.17.0.1" || a.String() == "2001:db8::1":
		return "local"
	case a.IsMulticast():
		return "multicast"
	}
	return "unicast"
}

func (host) Via(a netip.Addr) string {
	if netip.MustParsePrefix("172.17.0.0/16").Contains(a) || netip.MustParsePrefix("fd00::/64").Contains(a) {
		return "tare0"
	}
	return "eth0"
}

func (host) Addr(link string, like netip.Addr) netip.Addr {
	if like.Is6() {
		return netip.MustParseAddr(map[string]string{"tare0": "fd00::1", "eth0": "2001:db8::1"}[link])
	}
	if link == "tare0" {
		return netip.MustParseAddr("172.17.0.1")
	}
	return netip.MustParseAddr("192.0.2.1")
}

// forwarded is a packet from the world to a container.
func forwarded() Packet {
	return Packet{Proto: "tcp", Src: netip.MustParseAddrPort("192.0.2.2:0"), Dst: netip.MustParseAddrPort("172.17.0.2:80"), State: "new",
		In: Link{Name: "eth0", Index: 2}, Out: Link{Name: "tare0", Index: 3, Kind: "bridge", Group: 0x7a9e}}
}

// forwarded6 is the same of IPv6.
func forwarded6() Packet {
	p := forwarded()
	p.Src, p.Dst = netip.MustParseAddrPort("[2001:db8::2]:0"), netip.MustParseAddrPort("[fd00::2]:80")
	return p
}

// fate is a chain of rules, and what becomes of the packet in it: "-", or the rule
// that drops it; behind "?" the expression that leaves it open.
type fate struct{ rules, want string }

// check compares that with what has become of a packet.
func (c fate) check(t *testing.T, out Outcome) {
	t.Helper()
	got := "-"
	if out.Dropped != nil {
		got = out.Dropped.Rule
		if out.Dropped.Handle == 0 {
			t.Errorf("%s: no handle", c.rules)
		}
	}
	want, doubt, _ := strings.Cut(c.want, "?")
	if want == "" {
		want = "-"
	}
	if got != want || (len(out.Doubts) > 0) != (doubt != "") || doubt != "" && !strings.HasPrefix(out.Doubts[0].Doubt, doubt) {
		t.Errorf("%s: %s, doubts %+v", c.rules, got, out.Doubts)
	}
}

func TestVerdicts(t *testing.T) {
	for _, c := range []fate{
		{`accept; drop`, "-"},
		{`drop`, "drop"},
		{`ct state established accept; iifname "eth*" reject`, `iifname "eth*" reject`},
		{`ct state new jump x`, "drop"},
		{`jump y; drop`, "drop"},
		{`goto y; drop`, "-"}, // the policy
		{`jump z; accept`, `tcp dport { 80, 443 } drop`},
		{`ip saddr 192.0.2.0/25 return; drop`, "-"},
		{`ip saddr 192.0.2.0/31 return; drop`, "drop"},
		{`ip daddr 172.16.0.0-172.17.0.1 drop`, "-"},
		{`ip daddr 172.16.0.0-172.17.0.2 drop`, "ip daddr 172.16.0.0-172.17.0.2 drop"},
		{`ip daddr { 172.16.0.0/16, 172.17.0.0/16 } drop`, "ip daddr { 172.16.0.0/15 } drop"},
		{`ip daddr != { 172.16.0.1-172.16.0.9 } drop`, "ip daddr != 172.16.0.1-172.16.0.9 drop"},
		{`ip daddr { 172.16.0.0/16, 172.18.0.0/16 } drop`, "-"},
		{`ip daddr . tcp dport { 172.17.0.0/24 . 80-90 } drop`, "ip daddr . tcp dport { 172.17.0.0 . 80 to 172.17.0.255 . 90 } drop"},
		{`ip daddr . tcp dport { 172.17.0.0/24 . 81-90 } drop`, "-"},
		{`ip daddr vmap { 172.16.0.0/16 : accept, 172.17.0.0/16 : drop, 172.18.0.0/16 : accept }`, "ip daddr vmap { 172.16.0.0/16 : accept, 172.17.0.0/16 : drop, 172.18.0.0/16 : accept }"},
		{`iifname . oifname vmap { "eth0" . "tare0" : drop }`, `iifname . oifname vmap { "eth0" . "tare0" : drop }`},
		{`tcp dport vmap { 80 : jump x }`, "drop"},
		{`oifgroup 0x7a9e meta l4proto tcp drop`, "oifgroup 0x7a9e meta l4proto tcp drop"},
		{`udp dport 80 drop`, "-"},
		{`meta mark set 7; meta mark & 3 == 3 drop`, "meta mark & 0x3 == 0x3 drop"},
		{`fib saddr type local drop`, "-"},
		{`fib daddr type unicast drop`, "fib daddr type unicast drop"},
		{`tcp flags & (syn|ack) == syn drop`, "meta l4proto tcp @th,104,8 & 0x12 == 0x02 drop"},
		{`ip frag-off & 0x1fff != 0 drop`, "-"},
		// what is not known
		{`limit rate 1/second drop`, "?limit"},
		{`limit rate 1/second accept; drop`, "drop?limit"},
		{`limit rate 1/second accept`, "-"}, // either way
		{`limit rate 1/second drop; drop`, "drop"},
		{`limit rate 1/second return; drop`, "?limit"}, // or the policy
		{`limit rate 1/second jump x`, "?limit"},
		{`limit rate 1/second jump y; drop`, "drop"},
		{`ip ttl 7 drop`, "?the packet's network header"},
		{`ip ttl 7 udp dport 80 drop`, "-"},
		{`tcp sport 1024 drop`, "?the packet's transport header"},
		{`meta skuid 0 drop`, "?meta skuid"},
		{`limit rate 1/second meta mark set 7; meta mark 7 drop`, "?meta mark"},
	} {
		r := load(t, `chain x { drop; }; chain y { }; chain z { tcp dport { 80, 443 } drop; };
			chain c { type filter hook forward priority 0; `+c.rules+`; }`)
		p := forwarded()
		c.check(t, New(r, host{}).Hook("forward", &p))
	}
}

// TestVerdictsOfIPv6: rules of the other version do not match, and what both have does.
func TestVerdictsOfIPv6(t *testing.T) {
	for _, c := range []fate{
		{`drop`, "drop"},
		{`ip saddr 0.0.0.0/0 drop; ip daddr 10.0.0.1 drop`, "-"},
		{`meta nfproto ipv4 drop; meta protocol ip drop`, "-"},
		{`meta nfproto ipv6 drop`, "meta nfproto ipv6 drop"},
		{`ip6 saddr 2001:db8::/64 ip6 daddr fd00::2 drop`, "ip6 saddr 2001:db8::/64 ip6 daddr fd00::2 drop"},
		{`ip6 daddr fd00:1::/32 drop`, "-"},
		{`ip6 daddr { fd00::/64, fd01::/64 } tcp dport 80 drop`, "ip6 daddr { fd00::/64, fd01::/64 } tcp dport 80 drop"},
		{`ip6 daddr . tcp dport { fd00::2 . 81 } drop`, "-"},
		{`ip6 nexthdr tcp drop`, "ip6 nexthdr tcp drop"},
		{`ip6 nexthdr ipv6-icmp drop`, "-"},
		{`icmpv6 type { nd-neighbor-solicit, echo-request } drop`, "-"},
		{`fib daddr type local drop`, "-"},
		{`ct original ip6 daddr fd00::2 drop`, "ct original ip6 daddr fd00::2 drop"},
		{`ct original ip daddr 10.0.0.1 drop`, "-"},
		{`ip6 hoplimit 7 drop`, "?the packet's network header"},
		{`exthdr frag exists drop`, "?exthdr"},
		{`reject with icmpv6 admin-prohibited`, "meta nfproto ipv6 reject"},
		{`reject with icmp port-unreachable`, "-"},
	} {
		r := load(t, `chain c { type filter hook forward priority 0; `+c.rules+`; }`)
		p := forwarded6()
		c.check(t, New(r, host{}).Hook("forward", &p))
	}
	r := load(t, `chain pre { type nat hook prerouting priority -100; tcp dport 8080 dnat ip6 to [fd00::2]:80; }; chain post { type nat hook postrouting priority 100; masquerade; }`)
	w := New(r, host{})
	p := forwarded6()
	p.Dst = netip.MustParseAddrPort("[2001:db8::1]:8080")
	if out := w.Hook("prerouting", &p); p.Dst.String() != "[fd00::2]:80" || !p.DNATed || out.Changes[0].Does != "dnat to [fd00::2]:80" {
		t.Errorf("%+v %+v", out, p)
	}
	p.Out = Link{Name: "eth0"}
	if w.Hook("postrouting", &p); p.As.String() != "2001:db8::1" {
		t.Errorf("%+v", p)
	}
}

// TestChainsOfAHook: each has to let the packet pass, the lowest priority first; the
// policy is the base chain's.
func TestChainsOfAHook(t *testing.T) {
	r := load(t, `chain late { type filter hook forward priority 10; policy drop; }; chain early { type filter hook forward priority -10; accept; };
		chain nat { type nat hook prerouting priority -100; tcp dport 8080 dnat ip to 172.17.0.2:80; }; chain nat2 { type nat hook prerouting priority -90; dnat ip to 172.17.0.3; };
		chain raw { type filter hook prerouting priority -300; ct state new drop; ip daddr 127.0.0.0/8 drop; };
		chain port { type filter hook input priority 0; ct status dnat drop; }`)
	w := New(r, host{})
	p := forwarded()
	if out := w.Hook("forward", &p); out.Dropped == nil || out.Dropped.Chain != "late" || out.Dropped.Rule != "policy drop" || out.Dropped.Table != "inet t" {
		t.Errorf("%+v", out)
	}
	p = forwarded()
	p.Dst = netip.MustParseAddrPort("192.0.2.1:8080")
	if out := w.Hook("prerouting", &p); out.Dropped != nil || p.Dst.String() != "172.17.0.2:80" || !p.DNATed || len(out.Changes) != 1 {
		t.Errorf("%+v %+v", out, p)
	}
	if out := w.Hook("input", &p); out.Dropped == nil {
		t.Errorf("%+v", out)
	}
	p = forwarded()
	p.State, p.Dst = "established", netip.MustParseAddrPort("192.0.2.1:8080")
	if w.Hook("prerouting", &p); p.DNATed {
		t.Error("translated in the middle of a connection")
	}
}

// TestRulesOfIptables are those that others use most.
func TestRulesOfIptables(t *testing.T) {
	for _, c := range []struct{ rule, want string }{
		{"-o tare0 -m conntrack --ctstate RELATED,ESTABLISHED -j DROP", "-"},
		{"-o tare0 -m conntrack --ctstate NEW -j DROP", `oifname "tare0" xt conntrack new counter drop`},
		{"-m conntrack --ctstate DNAT -j DROP", "-"},
		{"-m state --state NEW -j REJECT", "xt conntrack new counter xt REJECT"},
		{"-m addrtype --dst-type LOCAL -j DROP", "-"},
		{"-m addrtype ! --dst-type LOCAL -j DROP", "xt addrtype counter drop"},
		{"-p tcp -m tcp --dport 79:81 -j DROP", "tcp dport 79-81 counter drop"},
		{"-p tcp -m multiport --dports 22,70:90 -j DROP", "meta l4proto tcp xt multiport counter drop"},
		{"-p tcp -m multiport ! --dports 22,70:90 -j DROP", "-"},
		{"-p udp --dport 80 -j DROP", "-"},
		{"-m mark --mark 1/1 -j DROP", "-"},
		{"-j LOG", "-"},
		{"-s 192.0.2.0/24 -j DROP", "ip saddr 192.0.2.0/24 counter drop"},
		{"-m limit --limit 1/s -j DROP", "?limit"},
		{"-m recent --update -j DROP", "?xt recent"},
		{"-m limit --limit 1/s -j LOG", "-"},
	} {
		execute(t, "flush ruleset", "nft", "-f", "-")
		execute(t, "", "iptables-nft", append([]string{"-A", "FORWARD"}, strings.Fields(c.rule)...)...)
		r, err := ruleset.Read()
		if err != nil {
			t.Fatal(err)
		}
		p := forwarded()
		fate{c.rule, c.want}.check(t, New(r, host{}).Hook("forward", &p))
	}
	execute(t, "flush ruleset", "nft", "-f", "-")
}

// TestRulesOfIp6tables in both engines.
func TestRulesOfIp6tables(t *testing.T) {
	for _, c := range []struct{ rule, want, old string }{
		{"-o tare0 -m conntrack --ctstate NEW -j DROP", `oifname "tare0" xt conntrack new counter drop`, `oifname "tare0" xt conntrack new drop`},
		{"-s 2001:db8::/64 ! -d fd01::/64 -j DROP", "ip6 saddr 2001:db8::/64 ip6 daddr != fd01::/64 counter drop", "ip6 saddr 2001:db8::/64 ip6 daddr != fd01::/64 drop"},
		{"-d fd01::/64 -j DROP", "-", "-"},
		{"-p ipv6-icmp -m icmp6 --icmpv6-type neighbour-solicitation -j DROP", "-", "-"},
		{"-p tcp -m multiport --dports 22,70:90 -j REJECT", "meta l4proto tcp xt multiport counter xt REJECT", "meta l4proto tcp xt multiport xt REJECT"},
		{"! -p udp -i eth+ -g mine", "-", "-"},
		{"-j mine", "counter drop", "drop"},
		{"-m hl --hl-lt 5 -j DROP", "?xt hl", "?xt hl"},
	} {
		for _, command := range []string{"ip6tables-nft", "ip6tables-legacy"} {
			execute(t, "", "sh", "-ec", strings.NewReplacer("IPT", command, "RULE", c.rule).Replace("IPT -F; IPT -X; IPT -N mine; IPT -A mine -p tcp -j RETURN; IPT -A FORWARD RULE; IPT -A FORWARD -p udp -j DROP"))
			want := map[string]string{"ip6tables-nft": c.want, "ip6tables-legacy": c.old}[command]
			if c.rule == "-j mine" {
				execute(t, "", command, "-R", "mine", "1", "-j", "DROP")
			}
			r, err := ruleset.Read()
			if err != nil {
				t.Fatal(err)
			}
			p, other := forwarded6(), forwarded()
			fate{command + " " + c.rule, want}.check(t, New(r, host{}).Hook("forward", &p))
			fate{command + " by IPv4", "-"}.check(t, New(r, host{}).Hook("forward", &other))
			execute(t, "", "sh", "-ec", command+" -F; "+command+" -X")
		}
	}
	execute(t, "flush ruleset", "nft", "-f", "-")
}

// TestRulesOfOldIptables are as good in iptables' own engine.
func TestRulesOfOldIptables(t *testing.T) {
	for rule, want := range map[string]string{
		"-o tare0 -m conntrack --ctstate RELATED,ESTABLISHED -j DROP": "-",
		"-o tare+ -m conntrack --ctstate NEW -j DROP":                 `oifname "tare*" xt conntrack new drop`,
		"! -i lo -m addrtype ! --dst-type LOCAL -j REJECT":            `iifname != "lo" xt addrtype xt REJECT`,
		"-p tcp -m multiport --dports 22,70:90 -j DROP":               "meta l4proto tcp xt multiport drop",
		"-p udp --dport 80 -j DROP":                                   "-",
		"! -p udp -s 192.0.2.0/24 ! -d 172.16.0.0/16 -j DROP":         "ip saddr 192.0.2.0/24 ip daddr != 172.16.0.0/16 meta l4proto != udp drop",
		"-f -j DROP":                   "-",
		"-g mine":                      "-", // the policy
		"-j mine":                      "last drop",
		"-m limit --limit 1/s -j DROP": "?xt limit",
		"-m statistic --mode nth --every 2 --packet 0 -j DROP": "?xt statistic",
	} {
		execute(t, "", "sh", "-ec", "iptables-legacy -F; iptables-legacy -X; iptables-legacy -N mine; iptables-legacy -A mine -p udp -j DROP; iptables-legacy -A FORWARD "+rule)
		if strings.Contains(rule, " mine") {
			execute(t, "", "iptables-legacy", "-A", "FORWARD", "-m", "comment", "--comment", "last", "-j", "DROP")
		}
		r, err := ruleset.Read()
		if err != nil {
			t.Fatal(err)
		}
		p := forwarded()
		out := New(r, host{}).Hook("forward", &p)
		got := "-"
		if out.Dropped != nil {
			got = out.Dropped.Rule
		}
		if strings.HasPrefix(want, "?") {
			if got != "-" || len(out.Doubts) != 1 || out.Doubts[0].Doubt != want[1:] {
				t.Errorf("%s: %s %+v", rule, got, out.Doubts)
			}
		} else if want == "last drop" && !strings.HasPrefix(got, "drop comment") || want != "last drop" && got != want || len(out.Doubts) > 0 {
			t.Errorf("%s: %s, doubts %+v", rule, got, out.Doubts)
		}
	}
	execute(t, "", "sh", "-ec", "iptables-legacy -F; iptables-legacy -X")
}
