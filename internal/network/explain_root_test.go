//go:build root

package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/network/networktest"
)

// town is a host with containers and a neighbour.
type town struct {
	t     *testing.T
	s     *Service
	world *os.File
	ns    map[string]*os.File // of containers, by name; "" is the host
	pids  map[string]int      // of containers whose sockets are looked at, by ID
	ids   map[string]string
}

// newTown has containers web (published at 8080, and on loopback at 8081), peer beside
// it, other in another network, inner in an internal one, and alone and mute, which do
// not reach each other.
func newTown(t *testing.T) *town {
	to := &town{t: t, world: newNeighbour(t), pids: map[string]int{}, ids: map[string]string{}}
	to.s = openService(t, Config{IPv6: true, Subnet6: netip.MustParsePrefix("fd17::/64")})
	inner, apart := six("inner", "10.9.2.0/24", "fd09:2::/64"), six("apart", "10.9.3.0/24", "fd09:3::/64")
	inner.Internal, apart.Options = true, map[string]string{optionICC: "false"}
	for _, r := range []network.CreateRequest{six("far", "10.9.1.0/24", "fd09:1::/64"), inner, apart} {
		_, err := to.s.Create(r)
		must(t, err)
		t.Cleanup(func() {
			if _, err := to.s.Remove(r.Name); err != nil {
				t.Error(err)
			}
		})
	}
	to.ns = map[string]*os.File{"": nil, "world": to.world}
	for _, c := range [][2]string{{"web", "bridge"}, {"peer", "bridge"}, {"other", "far"}, {"inner", "inner"}, {"alone", "apart"}, {"mute", "apart"}} {
		e, err := to.s.Attach(context.Background(), Request{ContainerID: ident.New(), Name: c[0], Network: c[1]})
		must(t, err)
		t.Cleanup(func() { must(t, to.s.Release(context.Background(), e.ContainerID)) })
		to.ns[c[0]], to.ids[c[0]] = e.NetNS, e.ContainerID
		serve(t, e.NetNS, "tcp", "[::]:80")
		serve(t, e.NetNS, "udp", "[::]:80")
		if c[0] == "web" {
			publish(t, to.s, e, Port{Proto: "tcp", Container: 80, Host: 8080}, Port{Proto: "tcp", Container: 80, Host: 8083, HostIP: networktest.HostOut6.Addr()}, Port{Proto: "tcp", Container: 80, Host: 8081, HostIP: netip.MustParseAddr("127.0.0.1")},
				Port{Proto: "tcp", Container: 80, Host: 8082, HostIP: networktest.HostOut.Addr()})
		}
	}
	serve(t, to.world, "tcp", "[::]:80")
	networktest.RouteToHost(t, to.world, "172.17.0.0/16", "10.9.0.0/16", "fd17::/64", "fd09::/16")
	networktest.RouteLoopbackToHost(t, to.world)
	return to
}

func (to *town) explain(o api.NetworkExplainOptions) api.NetworkExplanation {
	to.t.Helper()
	x, err := to.s.Explain(o, func(id string) int { return to.pids[id] })
	must(to.t, err)
	return x
}

// block is something in the way of packets.
type block struct {
	name    string
	provoke string // in the shell
	undo    string
	from    string // who asks: a container, world, or "" for the host
	addr    string // what is asked
	o       api.NetworkExplainOptions
	place   string // table, chain and rule that are to be named; empty: it is no rule
	reason  string
	always  bool // it is in the way without being provoked
}

// What other programs make of the packet filter.
const (
	dockerRules = `iptables-nft -N DOCKER-USER; iptables-nft -N DOCKER; iptables-nft -A DOCKER-USER -j RETURN; iptables-nft -P FORWARD DROP
		iptables-nft -A FORWARD -j DOCKER-USER; iptables-nft -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
		iptables-nft -A FORWARD -o docker0 -j DOCKER; iptables-nft -A FORWARD -i docker0 ! -o docker0 -j ACCEPT`
	ufwRules = `iptables-nft -N ufw-before-forward; iptables-nft -N ufw-reject-forward; iptables-nft -A FORWARD -j ufw-before-forward
		iptables-nft -A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables-nft -A ufw-before-forward -p icmp --icmp-type echo-request -j ACCEPT
		iptables-nft -A FORWARD -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix x; iptables-nft -A FORWARD -j ufw-reject-forward; iptables-nft -A ufw-reject-forward -j REJECT`
	firewalldRules = `nft 'table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; policy accept;
			ct state { established, related } accept; ct status dnat accept; iifname "lo" accept; ct state invalid drop;
			jump filter_FORWARD_POLICIES; reject with icmpx admin-prohibited; }
			chain filter_FORWARD_POLICIES { iifname "virbr0" return; }; }'`
	flushIP = "nft 'flush table ip filter; delete table ip filter'"
)

func published(from string) api.NetworkExplainOptions {
	return api.NetworkExplainOptions{From: from, Port: "tcp/8080"}
}

var blocks = []block{
	{"Docker's FORWARD DROP", dockerRules, flushIP, "world", "192.0.2.1:8080", published(""), "ip filter|FORWARD|policy drop", "", false},
	{"Docker's FORWARD DROP, from a container", dockerRules, flushIP, "web", "192.0.2.2:80", api.NetworkExplainOptions{From: "web", To: "192.0.2.2", Port: "80"}, "ip filter|FORWARD|policy drop", "", false},
	{"ufw", ufwRules, flushIP, "world", "192.0.2.1:8080", api.NetworkExplainOptions{To: "web", Port: "80/tcp"}, "ip filter|ufw-reject-forward|counter xt REJECT", "", false},
	{"firewalld", firewalldRules, "nft delete table inet firewalld", "web", "192.0.2.2:80", api.NetworkExplainOptions{From: "web", To: "192.0.2.2", Port: "80"}, "inet firewalld|filter_FORWARD|reject", "", false},
	{"Docker's FORWARD DROP by iptables-legacy", strings.ReplaceAll(dockerRules, "iptables-nft", "iptables-legacy"), "iptables-legacy -P FORWARD ACCEPT; iptables-legacy -F; iptables-legacy -X", "world",
		"192.0.2.1:8080", published(""), "iptables-legacy filter|FORWARD|policy drop", "", false},
	{"a chain of iptables-legacy", "iptables-legacy -N mine; iptables-legacy -A FORWARD -p udp -j ACCEPT; iptables-legacy -A FORWARD -i out+ ! -s 198.51.100.0/24 -p tcp -m comment --comment x -j mine; iptables-legacy -A mine -p tcp --dport 81 -j DROP; iptables-legacy -A mine -p tcp --dport 80 -j DROP",
		"iptables-legacy -F; iptables-legacy -X", "world", "192.0.2.1:8080", published(""), "iptables-legacy filter|mine|meta l4proto tcp xt tcp dport 80-80 drop", "", false},
	{"raw table of iptables", "iptables-nft -t raw -A PREROUTING -p tcp --dport 8080 -j DROP", "nft delete table ip raw", "world", "192.0.2.1:8080", published(""),
		"ip raw|PREROUTING|tcp dport 8080 counter drop", "", false},
	{"mangle table of iptables", "iptables-nft -t mangle -A POSTROUTING -o tare0 -m conntrack --ctstate DNAT -j DROP", "nft delete table ip mangle", "world", "192.0.2.1:8080", published(""),
		`ip mangle|POSTROUTING|oifname "tare0" xt conntrack`, "", false},
	{"ingress of a link", `nft 'table netdev guard { chain in { type filter hook ingress device out0 priority 0; tcp dport 8080 drop; }; }'`, "nft delete table netdev guard", "world", "192.0.2.1:8080",
		published("192.0.2.2"), "netdev guard|in|tcp dport 8080 drop", "", false},
	{"list of addresses", `nft 'table inet lists { set bad { type ipv4_addr; flags interval; elements = { 192.0.2.0/30, 198.51.100.0/24 }; }; chain f { type filter hook forward priority -5; ip saddr @bad drop; }; }'`,
		"nft delete table inet lists", "world", "192.0.2.1:8080", published(""), "inet lists|f|ip saddr @bad drop", "", false},
	{"map of verdicts", `nft 'table inet mapped { chain no { tcp flags syn drop; }; chain f { type filter hook forward priority 5; iifname . tcp dport vmap { "out0" . 80 : goto no }; }; }'`,
		"nft delete table inet mapped", "world", "192.0.2.1:8080", published(""), "inet mapped|no|drop", "", false},
	{"answers", `nft 'table inet back { chain f { type filter hook forward priority 0; ct state established ip saddr 172.17.0.0/16 drop; }; }'`, "nft delete table inet back", "world", "192.0.2.1:8080",
		published(""), "inet back|f|ct state established ip saddr 172.17.0.0/16 drop", "the answer is dropped", false},
	{"answers to the host", `nft 'table inet back { chain i { type filter hook input priority 0; iifname "tare0" drop; }; }'`, "nft delete table inet back", "", "127.0.0.1:8081",
		api.NetworkExplainOptions{From: "host", Port: "tcp/8081"}, `inet back|i|iifname "tare0" drop`, "the answer is dropped", false},
	{"output of the host", `nft 'table inet out { chain o { type filter hook output priority 0; ct status dnat drop; }; }'`, "nft delete table inet out", "", "192.0.2.1:8082",
		api.NetworkExplainOptions{From: "host", To: "192.0.2.1", Port: "8082"}, "inet out|o|ct status dnat drop", "", false},
	{"another program's translation", `nft 'table ip other { chain pre { type nat hook prerouting priority -110; tcp dport 8080 dnat to 172.17.0.99:80; }; }'`, "nft delete table ip other", "world", "192.0.2.1:8080",
		published(""), "ip other|pre|tcp dport 8080 dnat to 172.17.0.99:80", "no container of network bridge has the address 172.17.0.99", false},
	{"the administrator's chain", "nft add rule inet tare tare-user ip saddr 192.0.2.2 tcp dport 80 drop", "nft flush chain inet tare tare-user", "world", "192.0.2.1:8080", published(""),
		"inet tare|tare-user|ip saddr 192.0.2.2 tcp dport 80 drop", "", false},
	{"forwarding is off", "sysctl -qw net.ipv4.ip_forward=0", "sysctl -qw net.ipv4.ip_forward=1", "world", "192.0.2.1:8080", published(""), "", "the host forwards nothing", false},
	{"a bridge is filtered", "sysctl -qw net.bridge.bridge-nf-call-iptables=1; iptables-nft -P FORWARD DROP", "sysctl -qw net.bridge.bridge-nf-call-iptables=0; " + flushIP, "peer", "172.17.0.2:80",
		api.NetworkExplainOptions{From: "peer", To: "web", Port: "80"}, "ip filter|FORWARD|policy drop", "", false},

	{"another network", "", "", "other", "172.17.0.2:80", api.NetworkExplainOptions{From: "other", To: "172.17.0.2", Port: "80"}, "inet tare|to-tare0|drop", "", true},
	{"an internal network", "", "", "inner", "192.0.2.2:80", api.NetworkExplainOptions{From: "inner", To: "192.0.2.2", Port: "80"}, "inet tare|from-|oifname != @links-", "", true},
	{"an internal network, from outside", "", "", "world", "10.9.2.2:80", api.NetworkExplainOptions{To: "inner", Port: "80/tcp"}, "inet tare|to-|drop", "", true},
	{"a port that is not published", "", "", "world", "172.17.0.3:80", api.NetworkExplainOptions{To: "peer", Port: "80/tcp"}, "inet tare|to-tare0|drop", "", true},
	{"published on loopback", "", "", "world", "192.0.2.1:8081", api.NetworkExplainOptions{Port: "tcp/8081"}, "", "container web has published the port at 127.0.0.1:8081 only", true},
	{"loopback from outside", "", "", "world", "127.0.0.1:8081", api.NetworkExplainOptions{From: "192.0.2.2", To: "127.0.0.1", Port: "8081/tcp"}, `inet tare|raw|iifname != "lo" ip daddr 127.0.0.0/8 drop`, "", true},
	{"the wrong address", "", "", "", "127.0.0.1:8082", api.NetworkExplainOptions{From: "host", Port: "tcp/8082"}, "", "container web has published the port at 192.0.2.1:8082 only", true},
	{"containers that are kept apart", "", "", "alone", "10.9.3.3:80", api.NetworkExplainOptions{From: "alone", To: "mute", Port: "80"}, "inet tare|to-br-|drop", "", true},
	{"nothing is there", "", "", "world", "192.0.2.1:7777", api.NetworkExplainOptions{Port: "tcp/7777"}, "", "no container has published 192.0.2.1:7777/tcp, and no process of the host listens there", true},
}

// sixth is the question for the published port by IPv6.
var sixth = api.NetworkExplainOptions{IPv6: true, Port: "tcp/8080"}

// of6 makes what is said of iptables that of ip6tables.
func of6(rules string) string {
	return strings.NewReplacer("iptables-", "ip6tables-", "-p icmp --icmp-type", "-p ipv6-icmp --icmpv6-type", "table ip ", "table ip6 ", "nf-call-iptables", "nf-call-ip6tables").Replace(rules)
}

// blocks6 are the same in the way of packets of IPv6.
var blocks6 = []block{
	{"Docker's FORWARD DROP", of6(dockerRules), of6(flushIP), "world", "[2001:db8::1]:8080", sixth, "ip6 filter|FORWARD|policy drop", "", false},
	{"Docker's FORWARD DROP, from a container", of6(dockerRules), of6(flushIP), "web", "[2001:db8::2]:80", api.NetworkExplainOptions{From: "web", Port: "[2001:db8::2]:80"}, "ip6 filter|FORWARD|policy drop", "", false},
	{"ufw", of6(ufwRules), of6(flushIP), "world", "[2001:db8::1]:8080", api.NetworkExplainOptions{To: "web", Port: "80/tcp", IPv6: true}, "ip6 filter|ufw-reject-forward|counter xt REJECT", "", false},
	{"firewalld", firewalldRules, "nft delete table inet firewalld", "web", "[2001:db8::2]:80", api.NetworkExplainOptions{From: "web", To: "2001:db8::2", Port: "80"}, "inet firewalld|filter_FORWARD|reject", "", false},
	{"Docker's FORWARD DROP by ip6tables-legacy", strings.ReplaceAll(of6(dockerRules), "ip6tables-nft", "ip6tables-legacy"), "ip6tables-legacy -P FORWARD ACCEPT; ip6tables-legacy -F; ip6tables-legacy -X", "world",
		"[2001:db8::1]:8080", sixth, "ip6tables-legacy filter|FORWARD|policy drop", "", false},
	{"a chain of ip6tables-legacy", "ip6tables-legacy -N mine; ip6tables-legacy -A FORWARD -p udp -j ACCEPT; ip6tables-legacy -A FORWARD -i out+ ! -s fd01::/64 -p tcp -m comment --comment x -j mine; ip6tables-legacy -A mine -p tcp --dport 81 -j DROP; ip6tables-legacy -A mine -p tcp --dport 80 -j DROP",
		"ip6tables-legacy -F; ip6tables-legacy -X", "world", "[2001:db8::1]:8080", sixth, "ip6tables-legacy filter|mine|meta l4proto tcp xt tcp dport 80-80 drop", "", false},
	{"raw table of ip6tables", "ip6tables-nft -t raw -A PREROUTING -p tcp --dport 8080 -j DROP", "nft delete table ip6 raw", "world", "[2001:db8::1]:8080", sixth,
		"ip6 raw|PREROUTING|tcp dport 8080 counter drop", "", false},
	{"mangle table of ip6tables", "ip6tables-nft -t mangle -A POSTROUTING -o tare0 -m conntrack --ctstate DNAT -j DROP", "nft delete table ip6 mangle", "world", "[2001:db8::1]:8080", sixth,
		`ip6 mangle|POSTROUTING|oifname "tare0" xt conntrack`, "", false},
	{"ingress of a link", `nft 'table netdev guard { chain in { type filter hook ingress device out0 priority 0; ip6 daddr 2001:db8::1 tcp dport 8080 drop; }; }'`, "nft delete table netdev guard", "world", "[2001:db8::1]:8080",
		api.NetworkExplainOptions{From: "2001:db8::2", Port: "tcp/8080"}, "netdev guard|in|ip6 daddr 2001:db8::1 tcp dport 8080 drop", "", false},
	{"list of addresses", `nft 'table inet lists { set bad { type ipv6_addr; flags interval; elements = { 2001:db8::/126, fd01::/64 }; }; chain f { type filter hook forward priority -5; ip6 saddr @bad drop; }; }'`,
		"nft delete table inet lists", "world", "[2001:db8::1]:8080", sixth, "inet lists|f|ip6 saddr @bad drop", "", false},
	{"map of verdicts", `nft 'table ip6 mapped { chain no { tcp flags syn drop; }; chain f { type filter hook forward priority 5; iifname . tcp dport vmap { "out0" . 80 : goto no }; }; }'`,
		"nft delete table ip6 mapped", "world", "[2001:db8::1]:8080", sixth, "ip6 mapped|no|drop", "", false},
	{"answers", `nft 'table inet back { chain f { type filter hook forward priority 0; ct state established ip6 saddr fd17::/64 drop; }; }'`, "nft delete table inet back", "world", "[2001:db8::1]:8080",
		sixth, "inet back|f|ct state established ip6 saddr fd17::/64 drop", "the answer is dropped", false},
	{"answers to the host", `nft 'table inet back { chain i { type filter hook input priority 0; iifname "tare0" drop; }; }'`, "nft delete table inet back", "", "[2001:db8::1]:8083",
		api.NetworkExplainOptions{From: "host", Port: "tcp/8083", IPv6: true}, `inet back|i|iifname "tare0" drop`, "the answer is dropped", false},
	{"output of the host", `nft 'table ip6 out { chain o { type filter hook output priority 0; ct status dnat drop; }; }'`, "nft delete table ip6 out", "", "[2001:db8::1]:8083",
		api.NetworkExplainOptions{From: "host", To: "[2001:db8::1]", Port: "8083"}, "ip6 out|o|ct status dnat drop", "", false},
	{"another program's translation", `nft 'table ip6 other { chain pre { type nat hook prerouting priority -110; tcp dport 8080 dnat to [fd17::99]:80; }; }'`, "nft delete table ip6 other", "world", "[2001:db8::1]:8080",
		sixth, "ip6 other|pre|tcp dport 8080 dnat to fd17::99:80", "no container of network bridge has the address fd17::99", false},
	{"the administrator's chain", "nft add rule inet tare tare-user ip6 saddr 2001:db8::2 tcp dport 80 drop", "nft flush chain inet tare tare-user", "world", "[2001:db8::1]:8080", sixth,
		"inet tare|tare-user|ip6 saddr 2001:db8::2 tcp dport 80 drop", "", false},
	{"forwarding is off", "sysctl -qw net.ipv6.conf.all.forwarding=0", "sysctl -qw net.ipv6.conf.all.forwarding=1", "world", "[2001:db8::1]:8080", sixth, "", "net.ipv6.conf.all.forwarding is 0", false},
	{"a bridge is filtered", "sysctl -qw net.bridge.bridge-nf-call-ip6tables=1; ip6tables-nft -P FORWARD DROP", "sysctl -qw net.bridge.bridge-nf-call-ip6tables=0; " + of6(flushIP), "peer", "[fd17::2]:80",
		api.NetworkExplainOptions{From: "peer", To: "web", Port: "80", IPv6: true}, "ip6 filter|FORWARD|policy drop", "", false},

	{"another network", "", "", "other", "[fd17::2]:80", api.NetworkExplainOptions{From: "other", To: "fd17::2", Port: "80"}, "inet tare|to-tare0|drop", "", true},
	{"an internal network", "", "", "inner", "[2001:db8::2]:80", api.NetworkExplainOptions{From: "inner", To: "2001:db8::2", Port: "80"}, "inet tare|from-|oifname != @links-", "", true},
	{"an internal network, from outside", "", "", "world", "[fd09:2::2]:80", api.NetworkExplainOptions{To: "inner", Port: "80/tcp", IPv6: true}, "inet tare|to-|drop", "", true},
	{"a port that is not published", "", "", "world", "[fd17::3]:80", api.NetworkExplainOptions{To: "peer", Port: "80/tcp", IPv6: true}, "inet tare|to-tare0|drop", "", true},
	{"published by IPv4 only", "", "", "world", "[2001:db8::1]:8082", api.NetworkExplainOptions{Port: "[2001:db8::1]:8082"}, "", "no container has published [2001:db8::1]:8082/tcp", true},
	{"what is carried from loopback", "nft 'add table ip6 x; add chain ip6 x out { type filter hook output priority 0; }; add rule ip6 x out ip6 daddr fd17::2 drop'", "nft delete table ip6 x",
		"", "[::1]:8080", api.NetworkExplainOptions{From: "host", Port: "[::1]:8080/tcp"}, "ip6 x|out|fd17::2", "", false},
	{"loopback from outside", "", "", "world", "[::1]:8080", api.NetworkExplainOptions{From: "2001:db8::2", Port: "[::1]:8080/tcp"}, "", "the kernel takes no packets for ::1 from other machines", true},
	{"the wrong address", "", "", "peer", "[fd17::1]:8083", api.NetworkExplainOptions{From: "peer", Port: "tcp/8083", IPv6: true}, "", "container web has published the port at [2001:db8::1]:8083 only", true},
	{"containers that are kept apart", "", "", "alone", "[fd09:3::3]:80", api.NetworkExplainOptions{From: "alone", To: "mute", Port: "80", IPv6: true}, "inet tare|to-br-|drop", "", true},
	{"nothing is there", "", "", "world", "[2001:db8::1]:7777", api.NetworkExplainOptions{Port: "tcp/7777", IPv6: true}, "", "no container has published [2001:db8::1]:7777/tcp, and no process of the host listens there", true},
}

// TestExplainNamesWhatBlocks provokes each block: nothing comes through, and the
// explanation names the rule; before and after it does, and the explanation says so.
func TestExplainNamesWhatBlocks(t *testing.T) {
	to := newTown(t)
	for _, of := range []struct {
		name, filtered string
		blocks         []block
	}{{"IPv4", "iptables", blocks}, {"IPv6", "ip6tables", blocks6}} {
		list := of.blocks
		if !filterBridges(t, of.filtered, false) {
			t.Log("this kernel has no br_netfilter")
			list = slices.DeleteFunc(slices.Clone(list), func(b block) bool { return b.name == "a bridge is filtered" })
		}
		for _, b := range list {
			t.Run(of.name+"/"+b.name, func(t *testing.T) { to.provoke(t, b) })
		}
	}
}

func (to *town) provoke(t *testing.T, b block) {
	to.t = t
	if b.always {
		to.isBlocked(b)
		return
	}
	to.passes(b)
	shell(t, b.provoke)
	defer func() {
		if t.Failed() {
			exec.Command("sh", "-c", b.undo).Run()
		}
	}()
	to.isBlocked(b)
	shell(t, b.undo)
	to.passes(b)
}

func (to *town) passes(b block) {
	to.t.Helper()
	if _, err := askFor(5*time.Second, to.ns[b.from], "tcp", b.addr); err != nil {
		to.t.Fatalf("%s is not reached: %v", b.addr, err)
	}
	if x := to.explain(b.o); x.Verdict != api.VerdictPasses {
		to.t.Errorf("%+v", x)
	}
}

func (to *town) isBlocked(b block) {
	to.t.Helper()
	wantNoAnswer(to.t, b.name, to.ns[b.from], "tcp", b.addr)
	x := to.explain(b.o)
	to.t.Log(x.Reason, "--", x.Advice)
	if x.Verdict != api.VerdictBlocked || !strings.Contains(x.Reason, b.reason) {
		to.t.Errorf("%+v", x)
	}
	if b.place == "" {
		if x.Place != nil {
			to.t.Errorf("a rule is named: %+v", x.Place)
		}
		return
	}
	w := strings.Split(b.place, "|")
	if x.Place == nil || x.Place.Table != w[0] || !strings.HasPrefix(x.Place.Chain, w[1]) || !strings.Contains(x.Place.Rule, w[2]) {
		to.t.Fatalf("%+v\n%+v", x, x.Place)
	}
	if x.Advice == "" {
		to.t.Error("no advice")
	}
	// The handle is the one that nft shows.
	if strings.Contains(x.Place.Table, "tables-legacy") {
		if x.Place.Chain == "mine" && x.Place.Handle != 2 {
			to.t.Errorf("rule %d", x.Place.Handle)
		}
		return
	}
	if x.Place.Rule != "policy drop" && !strings.Contains(nft(to.t, append(append([]string{"-a", "list", "chain"}, strings.Fields(x.Place.Table)...), x.Place.Chain)...),
		fmt.Sprintf("# handle %d\n", x.Place.Handle)) {
		to.t.Errorf("no rule %d: %+v", x.Place.Handle, x.Place)
	}
}

// TestExplainNamesThePortsOwner: another program has the port.
func TestExplainNamesThePortsOwner(t *testing.T) {
	to := newTown(t)
	l, err := net.Listen("tcp", "0.0.0.0:9090")
	must(t, err)
	defer l.Close()
	if _, err := to.s.Publish(context.Background(), to.ids["peer"], []Port{{Proto: "tcp", Container: 80, Host: 9090}}); !errdefs.Is(err, errdefs.Conflict) {
		t.Fatal(err)
	}
	x := to.explain(api.NetworkExplainOptions{Port: "tcp/9090"})
	if want := fmt.Sprintf("(%d) of the host has the port, no container", os.Getpid()); !strings.Contains(x.Reason, want) {
		t.Errorf("%+v", x)
	}
	shell(t, `nft 'table inet f { chain i { type filter hook input priority 0; policy drop; tcp dport 22 accept; }; }'`)
	defer shell(t, "nft delete table inet f")
	if x := to.explain(api.NetworkExplainOptions{Port: "tcp/9090"}); x.Place == nil || x.Place.Table != "inet f" || x.Place.Rule != "policy drop" {
		t.Errorf("%+v", x)
	}
}

// TestExplainLooksIntoTheContainer: the program listens at the container's loopback, or
// not at all.
func TestExplainLooksIntoTheContainer(t *testing.T) {
	to := newTown(t)
	var c *exec.Cmd
	must(t, netns.Do(to.ns["web"], func() error {
		c = exec.Command("sleep", "1000")
		return c.Start()
	}))
	defer func() { c.Process.Kill(); c.Wait() }()
	to.pids[to.ids["web"]] = c.Process.Pid
	if x := to.explain(published("")); x.Verdict != api.VerdictPasses {
		t.Errorf("%+v", x)
	}
	serve(t, to.ns["web"], "tcp", "127.0.0.1:81")
	for port, want := range map[uint16]string{81: "listens at 127.0.0.1:81 only", 83: "no program there listens at 83/tcp"} {
		_, err := to.s.Publish(context.Background(), to.ids["web"], []Port{{Proto: "tcp", Container: port, Host: 8100 + port}})
		must(t, err)
		if x := to.explain(api.NetworkExplainOptions{To: "web", Port: fmt.Sprint(port)}); x.Verdict != api.VerdictBlocked || !strings.Contains(x.Reason, want) {
			t.Errorf("%+v", x)
		}
	}
}

// TestExplainDoesNotGuess: what a rule with an expression that is not known would do
// is left open, and said.
func TestExplainDoesNotGuess(t *testing.T) {
	to := newTown(t)
	for rule, want := range map[string]string{
		"iptables-nft -A FORWARD -m recent --set -j DROP":                                      "xt recent",
		"iptables-nft -A FORWARD -m limit --limit 1/s -j DROP":                                 "limit",
		"iptables-nft -A FORWARD -m limit --limit 1/s -j ACCEPT; iptables-nft -P FORWARD DROP": "limit",
	} {
		shell(t, rule)
		x := to.explain(published(""))
		if x.Verdict != api.VerdictUnknown || len(x.Doubts) == 0 || !strings.Contains(x.Doubts[0].Doubt, want) || x.Doubts[0].Chain != "FORWARD" || x.Doubts[0].Handle == 0 || !strings.Contains(x.Reason, "cannot tell") {
			t.Errorf("%s: %+v", rule, x)
		}
		shell(t, flushIP)
	}
	for _, o := range []api.NetworkExplainOptions{{Port: "x"}, {Port: "0"}, {Port: "80/icmp"}, {From: "192.0.2.2", Port: "[2001:db8::1]:80"}, {To: "fe80::1", Port: "80"}} {
		if _, err := to.s.Explain(o, func(string) int { return 0 }); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := to.s.Explain(api.NetworkExplainOptions{To: "nosuch", Port: "80"}, func(string) int { return 0 }); !errdefs.Is(err, errdefs.NotFound) {
		t.Error(err)
	}
}
