//go:build root

package network

import (
	"errors"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/network"
)

// TestForeignFirewallIsReported: by table, chain and rule, as long as it drops.
func TestForeignFirewallIsReported(t *testing.T) {
	newNeighbour(t)
	s := openService(t, Config{})
	warnings := func() string {
		t.Helper()
		w, err := s.Warnings()
		must(t, err)
		return strings.Join(w, "\n")
	}
	if w := warnings(); w != "" {
		t.Fatal(w)
	}
	for _, c := range []struct{ provoke, undo, want string }{
		{dockerRules, flushIP, "ip filter FORWARD drops forwarded packets of containers (policy drop)"},
		{ufwRules, flushIP, "ip filter FORWARD drops forwarded packets of containers (chain ufw-reject-forward, rule "},
		{"iptables-legacy -P FORWARD DROP", "iptables-legacy -P FORWARD ACCEPT", "iptables-legacy filter FORWARD drops forwarded packets of containers (policy drop)"},
		{firewalldRules, "nft delete table inet firewalld", "inet firewalld filter_FORWARD drops forwarded packets of containers (chain filter_FORWARD, rule "},
		{"iptables-nft -P FORWARD DROP; iptables-nft -A FORWARD -i tare0 -j ACCEPT; iptables-nft -A FORWARD -o tare0 -j ACCEPT", flushIP, ""},
		{"iptables-nft -A FORWARD -s 203.0.113.0/24 -j DROP", flushIP, ""},
		{of6(dockerRules), of6(flushIP), ""}, // no network has IPv6
		{"", "", ""},
		{of6(dockerRules), of6(flushIP), "ip6 filter FORWARD drops forwarded packets of IPv6 of containers (policy drop)"},
		{of6(ufwRules), of6(flushIP), "ip6 filter FORWARD drops forwarded packets of IPv6 of containers (chain ufw-reject-forward, rule "},
		{"ip6tables-legacy -P FORWARD DROP", "ip6tables-legacy -P FORWARD ACCEPT", "ip6tables-legacy filter FORWARD drops forwarded packets of IPv6 of containers (policy drop)"},
		{`nft 'table inet only6 { chain f { type filter hook forward priority 0; meta nfproto ipv6 drop; }; }'`, "nft delete table inet only6", "inet only6 f drops forwarded packets of IPv6 of containers (chain f, rule "},
		{firewalldRules, "nft delete table inet firewalld", "inet firewalld filter_FORWARD drops forwarded packets of containers (chain filter_FORWARD, rule "},
		{"ip6tables-nft -A FORWARD -s 3fff:1::/64 -j DROP", of6(flushIP), ""},
	} {
		if c.provoke == "" {
			makeNetwork(t, s, six("six", "fd01::/64"))
		}
		shell(t, c.provoke)
		if w := warnings(); c.want == "" && w != "" || !strings.Contains(w, c.want) || strings.Count(w, "WARNING: firewall chain ") != min(len(c.want), 1) {
			t.Errorf("%s: %s", c.provoke, w)
		}
		shell(t, c.undo)
	}
}

// TestIntegrationAcceptsInOthersChains, and takes it back, to the letter.
func TestIntegrationAcceptsInOthersChains(t *testing.T) {
	world := newNeighbour(t)
	serve(t, world, "tcp", "192.0.2.2:80")
	serve(t, world, "tcp", "[2001:db8::2]:80")
	cfg := Config{EngineID: "e1", Default: true, Dir: t.TempDir(), Integrate: true, IPv6: true}
	s := openService(t, cfg)
	e := attach(t, s)
	serve(t, e.NetNS, "tcp", "[::]:80")
	publish(t, s, e, Port{Proto: "tcp", Container: 80, Host: 8080})
	for _, c := range []struct{ name, provoke, undo, table, chain string }{
		{"Docker", dockerRules, flushIP, "ip filter", "FORWARD"},
		{"ufw", ufwRules, flushIP, "ip filter", "FORWARD"},
		{"firewalld", firewalldRules, "nft delete table inet firewalld", "inet firewalld", "filter_FORWARD"},
		{"Docker, IPv6", of6(dockerRules), of6(flushIP), "ip6 filter", "FORWARD"},
		{"ufw, IPv6", of6(ufwRules), of6(flushIP), "ip6 filter", "FORWARD"},
		{"IPv6 in a table of both", `nft 'table inet only6 { chain f { type filter hook forward priority 0; meta nfproto ipv6 drop; }; }'`, "nft delete table inet only6", "inet only6", "f"},
	} {
		chain := func() string {
			t.Helper()
			return nft(t, append(append([]string{"list", "chain"}, strings.Fields(c.table)...), c.chain)...)
		}
		shell(t, c.provoke)
		eventually(t, c.name+": the rules come", func() bool { return strings.Contains(chain(), "tare: firewall-integration") })
		wantAnswer(t, c.name, world, "tcp", "192.0.2.1:8080", "192.0.2.2")
		wantAnswer(t, c.name, e.NetNS, "tcp", "192.0.2.2:80", "192.0.2.1")
		wantAnswer(t, c.name, world, "tcp", "[2001:db8::1]:8080", "2001:db8::2")
		wantAnswer(t, c.name, e.NetNS, "tcp", "[2001:db8::2]:80", "2001:db8::1")
		if w, err := s.Warnings(); err != nil || len(w) > 0 {
			t.Error(w, err)
		}
		for _, of := range []struct{ family, iptables string }{{"ip ", "iptables-nft"}, {"ip6 ", "ip6tables-nft"}} {
			if strings.HasPrefix(c.table, of.family) { // iptables still understands its table
				shell(t, strings.ReplaceAll("IPT -S FORWARD | grep -- '-A FORWARD -i tare0 .*-j ACCEPT'; IPT -S FORWARD | grep -- '-A FORWARD -o tare0 .*-j ACCEPT'; IPT-save | IPT-restore", "IPT", of.iptables))
			}
		}
		// What iptables has written back is ours still.
		_, err := s.Create(network.CreateRequest{Name: "n", Options: map[string]string{optionName: "odd0"}})
		must(t, err)
		if strings.Count(chain(), `"odd0"`) != 2 {
			t.Errorf("%s: a network more: %s", c.name, chain())
		}
		_, err = s.Remove("n")
		must(t, err)
		if strings.Count(chain(), `"odd0"`) != 0 || strings.Count(chain(), `"tare0"`) != 2 {
			t.Errorf("%s: without it: %s", c.name, chain())
		}
		shell(t, c.undo)
		shell(t, c.provoke) // as when the other program loads its rules again
		eventually(t, c.name+": the rules come again", func() bool { return strings.Contains(chain(), "tare: firewall-integration") })
		wantAnswer(t, c.name, world, "tcp", "192.0.2.1:8080", "192.0.2.2")
		wantAnswer(t, c.name, world, "tcp", "[2001:db8::1]:8080", "2001:db8::2")
		shell(t, c.undo)
	}
}

// TestIntegrationIsTakenBack by an engine that is not to have it, and by the end of
// one; a chain that drops nothing of containers' is left alone.
func TestIntegrationIsTakenBack(t *testing.T) {
	newNeighbour(t)
	shell(t, dockerRules+"; nft 'table inet mild { chain f { type filter hook forward priority 0; ip saddr 203.0.113.1 drop; }; }'")
	defer shell(t, flushIP+"; nft delete table inet mild")
	list := func() string {
		t.Helper()
		return nft(t, "list", "table", "ip", "filter") + nft(t, "list", "table", "inet", "mild")
	}
	before := list()
	cfg := Config{EngineID: "e1", Default: true, Dir: t.TempDir()}
	for _, integrate := range []bool{false, true, false, true} {
		cfg.Integrate = integrate
		s, _ := reopen(t, cfg, nil, nil)
		if got := list(); (got == before) == integrate || strings.Contains(nft(t, "list", "table", "inet", "mild"), "tare0") {
			t.Errorf("integration %v: %s", integrate, got)
		}
		must(t, s.Close())
	}
	s, err := Open(cfg)
	must(t, err)
	must(t, errors.Join(s.Destroy(), s.Close()))
	if got := list(); got != before {
		t.Errorf("after the end:\n%s\nbefore:\n%s", got, before)
	}
}
