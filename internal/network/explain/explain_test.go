package explain

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/ruleset"
	"github.com/tare-engine/tare/internal/network/trace"
)

// host has a link out0 to the world, and bridges br0, br1 of the networks n0, n1.
type host struct{ listeners map[string]string } // by address, of the host; behind a pid of the container

func (host) Type(a netip.Addr) string {
	if a.IsLoopback() || slices.Contains([]string{"192.0.2.1", "10.0.0.1", "10.0.1.1", "2001:db8::1", "fd00::1"}, a.String()) {
		return "local"
	}
	return "unicast"
}

func (h host) Via(a netip.Addr) string {
	switch {
	case h.Type(a) == "local":
		return "lo"
	case netip.MustParsePrefix("10.0.0.0/24").Contains(a), netip.MustParsePrefix("fd00::/64").Contains(a):
		return "br0"
	case netip.MustParsePrefix("10.0.1.0/24").Contains(a):
		return "br1"
	case netip.MustParsePrefix("203.0.113.0/24").Contains(a):
		return ""
	}
	return "out0"
}

func (host) Addr(link string, like netip.Addr) netip.Addr {
	if like.Is6() {
		return map[string]netip.Addr{"out0": netip.MustParseAddr("2001:db8::1"), "br0": netip.MustParseAddr("fd00::1")}[link]
	}
	return map[string]netip.Addr{"out0": netip.MustParseAddr("192.0.2.1"), "br0": netip.MustParseAddr("10.0.0.1"), "br1": netip.MustParseAddr("10.0.1.1")}[link]
}

func (h host) Source(a netip.Addr) netip.Addr { return h.Addr(h.Via(a), a) }

func (h host) Listener(pid int, _ string, at netip.AddrPort) (string, []netip.AddrPort, error) {
	return h.listeners[at.String()], nil, nil
}

func facts() Facts {
	return Facts{
		Rules: &ruleset.Ruleset{}, Table: "tare", V4: Family{Forwarding: true, Outside: netip.MustParseAddr("192.0.2.2")}, V6: Family{Forwarding: true, Outside: netip.MustParseAddr("2001:db8::2")}, Host: host{map[string]string{"192.0.2.1:22": "process sshd (7)"}},
		Links:    []trace.Link{{Name: "out0"}, {Name: "br0", Kind: "bridge"}, {Name: "br1", Kind: "bridge"}, {Name: "lo"}},
		Networks: []Network{{Name: "n0", Link: "br0", Subnet: netip.MustParsePrefix("fd00::/64"), Gateway: netip.MustParseAddr("fd00::1"), ICC: true}, {Name: "n0", Link: "br0", Subnet: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.0.1"), ICC: true}, {Name: "n1", Link: "br1", Subnet: netip.MustParsePrefix("10.0.1.0/24"), Gateway: netip.MustParseAddr("10.0.1.1")}},
		Endpoints: []Endpoint{
			{ContainerID: "aa1", Name: "web", Network: "n0", IP: netip.MustParseAddr("10.0.0.2"), Exit: true, Ports: []Port{
				{"tcp", netip.MustParseAddrPort("127.0.0.1:8001"), 80}, {"tcp", netip.MustParseAddrPort("0.0.0.0:8002"), 80}, {"tcp", netip.MustParseAddrPort("127.0.0.1:8003"), 81}}},
			{ContainerID: "aa1", Name: "web", Network: "n1", IP: netip.MustParseAddr("10.0.1.2")},
			{ContainerID: "aa2", Name: "peer", Network: "n0", IP: netip.MustParseAddr("10.0.0.3"), Exit: true},
			{ContainerID: "bb3", Name: "far", Network: "n1", IP: netip.MustParseAddr("10.0.1.3"), Exit: true},
			{ContainerID: "aa2", Name: "peer", Network: "n0", IP: netip.MustParseAddr("fd00::3"), Exit: true},
			{ContainerID: "dd6", Name: "six", Network: "n0", IP: netip.MustParseAddr("fd00::6"), Exit: true, Ports: []Port{{"tcp", netip.MustParseAddrPort("[::]:8006"), 80}}},
			{ContainerID: "cc4", Name: "bare", Network: "none"},
			{ContainerID: "cc5", Name: "open", Network: "host"},
		},
	}
}

// relays has the engine carry the ports of web and six.
func relays(f *Facts) {
	f.Relays = []Relay{
		{"web", "tcp", netip.MustParseAddrPort("[::]:8002"), netip.MustParseAddrPort("10.0.0.2:80")},
		{"six", "tcp", netip.MustParseAddrPort("[::]:8006"), netip.MustParseAddrPort("[fd00::6]:80")},
	}
}

// TestWhoAsksWhat: how names become addresses.
func TestWhoAsksWhat(t *testing.T) {
	for _, c := range []struct{ from, to, port, wantFrom, wantTo string }{
		{"", "", "tcp/8002", "192.0.2.2 (a neighbour on out0)", "192.0.2.1:8002"},
		{"", "web", "80", "192.0.2.2 (a neighbour on out0)", "192.0.2.1:8002 (container web)"}, // not the one on loopback
		{"", "web", "81/TCP", "192.0.2.2 (a neighbour on out0)", "192.0.2.1:8003 (container web)"},
		{"", "web", "80/udp", "192.0.2.2 (a neighbour on out0)", "10.0.0.2:80 (container web)"}, // it is not published
		{"host", "web", "81", "127.0.0.1 (the host)", "127.0.0.1:8003 (container web)"},
		{"10.0.0.1", "", "8002", "10.0.0.1 (the host)", "10.0.0.1:8002"},
		{"peer", "web", "80", "10.0.0.3 (container peer)", "10.0.0.2:80 (container web)"},
		{"far", "web", "80", "10.0.1.3 (container far)", "10.0.1.2:80 (container web)"}, // where both are
		{"far", "peer", "80", "10.0.1.3 (container far)", "10.0.0.3:80 (container peer)"},
		{"10.0.0.3", "", "8002", "10.0.0.3 (container peer)", "10.0.0.1:8002"},
		{"bb", "198.51.100.1", "443", "10.0.1.3 (container far)", "198.51.100.1:443"},
		{"open", "", "8002", "127.0.0.1 (container open in the host's network)", "127.0.0.1:8002"},
		{"198.51.100.9", "open", "8002", "198.51.100.9 (on out0)", "192.0.2.1:8002"},
		{"", "", "192.0.2.1:8002/tcp", "192.0.2.2 (a neighbour on out0)", "192.0.2.1:8002"},
		{"", "six", "80", "2001:db8::2 (a neighbour on out0)", "[2001:db8::1]:8006 (container six)"}, // it has no other address
		{"peer", "six", "80", "fd00::3 (container peer)", "[fd00::6]:80 (container six)"},
		{"", "", "[2001:db8::1]:8006/tcp", "2001:db8::2 (a neighbour on out0)", "[2001:db8::1]:8006"},
		{"[fd00::3]", "", "tcp/8006", "fd00::3 (container peer)", "[fd00::1]:8006"},
		{"2001:db8::9", "peer", "80", "2001:db8::9 (on out0)", "[fd00::3]:80 (container peer)"},
		{"host", "six", "80", "2001:db8::1 (the host)", "[2001:db8::1]:8006 (container six)"},
		{"six", "2001:db8::5", "443", "fd00::6 (container six)", "[2001:db8::5]:443"},
	} {
		x, err := Explain(facts(), api.NetworkExplainOptions{From: c.from, To: c.to, Port: c.port})
		if err != nil || x.From != c.wantFrom || x.To != c.wantTo {
			t.Errorf("%s %s %s: from %s to %s, %v", c.from, c.to, c.port, x.From, x.To, err)
		}
	}
	for _, o := range []api.NetworkExplainOptions{{Port: ""}, {Port: "65536"}, {Port: "tcp/udp"}, {From: "bare", Port: "80"}, {From: "203.0.113.1", Port: "80"}, {To: "aa", Port: "80"},
		{From: "::1", To: "192.0.2.1", Port: "80"}, {IPv6: true, To: "192.0.2.1", Port: "80"}, {To: "fe80::1", Port: "80"}, {To: "web", Port: "[2001:db8::1]:80"},
		{From: "192.0.2.9", To: "six", Port: "80"}, {IPv6: true, To: "web", Port: "80"}} {
		if x, err := Explain(facts(), o); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("%+v: %+v %v", o, x, err)
		}
	}
	f := facts()
	f.V4.Outside = netip.Addr{}
	if x, err := Explain(f, api.NetworkExplainOptions{Port: "8006"}); err != nil || x.To != "[2001:db8::1]:8006" {
		t.Error(x, err)
	}
	f.V6.Outside = netip.Addr{}
	if _, err := Explain(f, api.NetworkExplainOptions{Port: "80"}); !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), "--from") {
		t.Error(err)
	}
}

// TestEnds are those that no rule decides about.
func TestEnds(t *testing.T) {
	for _, c := range []struct {
		o       api.NetworkExplainOptions
		change  func(*Facts)
		verdict string
		want    string
	}{
		{api.NetworkExplainOptions{From: "peer", To: "web", Port: "80"}, nil, api.VerdictPasses, "reaches container web at 10.0.0.2:80"},
		{api.NetworkExplainOptions{From: "peer", To: "198.51.100.1", Port: "80"}, nil, api.VerdictPasses, "leaves for 198.51.100.1:80 by out0"},
		{api.NetworkExplainOptions{From: "peer", To: "203.0.113.1", Port: "80"}, nil, api.VerdictBlocked, "no route to 203.0.113.1"},
		{api.NetworkExplainOptions{From: "host", To: "203.0.113.1", Port: "80"}, nil, api.VerdictBlocked, "no route to 203.0.113.1"},
		{api.NetworkExplainOptions{From: "host", To: "10.0.0.77", Port: "80"}, nil, api.VerdictBlocked, "no container of network n0 has the address 10.0.0.77"},
		{api.NetworkExplainOptions{To: "10.0.0.2", Port: "80"}, func(f *Facts) { f.V4.Forwarding = false }, api.VerdictBlocked, "forwards nothing: net.ipv4.ip_forward is 0"},
		{api.NetworkExplainOptions{To: "fd00::6", Port: "80"}, func(f *Facts) { f.V6.Forwarding = false }, api.VerdictBlocked, "forwards nothing: net.ipv6.conf.all.forwarding is 0"},
		{api.NetworkExplainOptions{IPv6: true, From: "six", To: "peer", Port: "80"}, nil, api.VerdictPasses, "reaches container peer at [fd00::3]:80"},
		{api.NetworkExplainOptions{From: "host", Port: "[::1]:8006"}, nil, api.VerdictBlocked, "container six has published [::1]:8006/tcp, but clients at ::1 are not served"},
		{api.NetworkExplainOptions{From: "host", Port: "[::1]:8006"}, relays, api.VerdictPasses, "reaches container six at [fd00::6]:80"},
		{api.NetworkExplainOptions{From: "host", To: "six", Port: "80"}, func(f *Facts) { relays(f); f.Endpoints[5].PID = 9 }, api.VerdictBlocked, "no program there listens at 80/tcp"},
		{api.NetworkExplainOptions{Port: "[2001:db8::1]:8002"}, relays, api.VerdictPasses, "reaches container web at 10.0.0.2:80"},
		{api.NetworkExplainOptions{Port: "[2001:db8::1]:8002"}, nil, api.VerdictBlocked, "no process of the host listens there"},
		{api.NetworkExplainOptions{Port: "8002"}, relays, api.VerdictBlocked, "published 192.0.2.1:8002/tcp, but the rule"}, // of the other version
		{api.NetworkExplainOptions{From: "2001:db8::2", Port: "[::1]:8006"}, nil, api.VerdictBlocked, "the kernel takes no packets for ::1 from other machines"},
		{api.NetworkExplainOptions{Port: "22"}, nil, api.VerdictPasses, "process sshd (7) of the host has the port"},
		{api.NetworkExplainOptions{Port: "8003"}, nil, api.VerdictBlocked, "published the port at 127.0.0.1:8003 only"},
		{api.NetworkExplainOptions{Port: "8002"}, nil, api.VerdictBlocked, "container web has published 192.0.2.1:8002/tcp, but the rule that leads there is gone: another program has changed table inet tare"},
		{api.NetworkExplainOptions{Port: "[2001:db8::1]:8006"}, nil, api.VerdictBlocked, "container six has published [2001:db8::1]:8006/tcp, but the rule"},
		{api.NetworkExplainOptions{Port: "9999"}, nil, api.VerdictBlocked, "no process of the host listens there"},
		{api.NetworkExplainOptions{From: "far", To: "10.0.1.2", Port: "80"}, nil, api.VerdictBlocked, "containers of network n1 do not reach each other"},
		{api.NetworkExplainOptions{From: "peer", To: "web", Port: "80"}, func(f *Facts) {
			f.Rules.Chains = []*ruleset.Chain{{Table: ruleset.Table{Family: "bridge", Name: "b"}, Chain: "c", Hook: "forward", Drops: true}}
		}, api.VerdictUnknown, "cannot tell: table bridge b, chain c has an expression that cannot be evaluated (family bridge)"},
		{api.NetworkExplainOptions{From: "peer", To: "web", Port: "80"}, func(f *Facts) { f.Endpoints[0].PID = 9 }, api.VerdictBlocked, "no program there listens at 80/tcp"},
	} {
		f := facts()
		if c.change != nil {
			c.change(&f)
		}
		x, err := Explain(f, c.o)
		if err != nil || x.Verdict != c.verdict || !strings.Contains(x.Reason, c.want) || x.Place != nil {
			t.Errorf("%+v: %+v, %v", c.o, x, err)
		}
	}
}
