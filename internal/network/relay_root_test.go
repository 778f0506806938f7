//go:build root

package network

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tare-engine/tare/api"
)

// wantAnyAnswer is wantAnswer from whatever address.
func wantAnyAnswer(t *testing.T, what string, ns *os.File, proto, addr string) {
	t.Helper()
	if _, err := askFor(20*time.Second, ns, proto, addr); err != nil {
		t.Errorf("%s: %s %s: %v", what, proto, addr, err)
	}
}

// TestPublishedForTheOtherFamily: a container with addresses of one family is reached by
// both, and one with both on ::1.
func TestPublishedForTheOtherFamily(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	only6 := six("only6", "fd01::/64")
	only6.EnableIPv4 = new(false)
	makeNetwork(t, s, only6)
	makeNetwork(t, s, six("both", "10.2.0.0/24", "fd02::/64"))
	for host, name := range map[uint16]string{8004: "bridge", 8006: "only6", 8010: "both"} {
		e := attachTo(t, s, name, Request{})
		for _, proto := range []string{"tcp", "udp"} {
			serve(t, e.NetNS, proto, ":80")
			got := publish(t, s, e, Port{Proto: proto, Container: 80, Host: host})
			if len(got) != 2 || got[0].HostIP != netip.IPv4Unspecified() || got[1].HostIP != netip.IPv6Unspecified() || got[1].Host != host {
				t.Errorf("%s: %+v", name, got)
			}
			port := ":" + itoa(uintptr(host))
			for _, addr := range []string{"127.0.0.1", "[::1]", "192.0.2.1", "[2001:db8::1]"} {
				wantAnyAnswer(t, name, nil, proto, addr+port)
				x, err := s.Explain(api.NetworkExplainOptions{From: "host", Port: addr + port + "/" + proto}, func(string) int { return 0 })
				if err != nil || x.Verdict != api.VerdictPasses || !strings.Contains(x.Reason, "reaches container "+e.Name) {
					t.Errorf("%s: %s: %+v, %v", name, addr, x, err)
				}
			}
			wantAnyAnswer(t, name+" from outside", world, proto, "192.0.2.1"+port)
			wantAnyAnswer(t, name+" from outside", world, proto, "[2001:db8::1]"+port)
		}
		must(t, s.Release(context.Background(), e.ContainerID))
		for _, proto := range []string{"tcp", "udp"} {
			wantNoAnswer(t, "released", nil, proto, "[::1]:"+itoa(uintptr(host)))
			wantNoAnswer(t, "released", nil, proto, "127.0.0.1:"+itoa(uintptr(host)))
		}
	}
}

// TestPublishedOnLoopback6: -p [::1]:… is there and nowhere else, whatever the container has.
func TestPublishedOnLoopback6(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	makeNetwork(t, s, six("both", "10.2.0.0/24", "fd02::/64"))
	for host, name := range map[uint16]string{8004: "bridge", 8010: "both"} {
		e := attachTo(t, s, name, Request{})
		serve(t, e.NetNS, "tcp", ":80")
		publish(t, s, e, Port{Proto: "tcp", Container: 80, Host: host, HostIP: netip.IPv6Loopback()})
		wantAnyAnswer(t, name, nil, "tcp", "[::1]:"+itoa(uintptr(host)))
		wantNoAnswer(t, name, nil, "tcp", "127.0.0.1:"+itoa(uintptr(host)))
		wantNoAnswer(t, name, world, "tcp", "[2001:db8::1]:"+itoa(uintptr(host)))
	}
}

// TestNoRelay: without it a port is of the container's family, and not on ::1.
func TestNoRelay(t *testing.T) {
	newNeighbour(t)
	s := openService(t, Config{NoRelay: true})
	makeNetwork(t, s, six("both", "10.2.0.0/24", "fd02::/64"))
	e, b := attach(t, s), attachTo(t, s, "both", Request{})
	serve(t, e.NetNS, "tcp", ":80")
	serve(t, b.NetNS, "tcp", ":80")
	if got := publish(t, s, e, Port{Proto: "tcp", Container: 80, Host: 8080}); len(got) != 1 {
		t.Errorf("%+v", got)
	}
	publish(t, s, b, Port{Proto: "tcp", Container: 80, Host: 8081})
	wantAnyAnswer(t, "IPv4", nil, "tcp", "127.0.0.1:8080")
	wantAnyAnswer(t, "IPv6", nil, "tcp", "[2001:db8::1]:8081")
	wantNoAnswer(t, "other family", nil, "tcp", "[2001:db8::1]:8080")
	wantNoAnswer(t, "loopback", nil, "tcp", "[::1]:8081")
	for ip, text := range map[string]string{
		"::1": "without --userland-proxy nothing is on ::1", "2001:db8::1": "without --userland-proxy nothing is carried from one to the other",
	} {
		_, err := s.Publish(context.Background(), e.ContainerID, []Port{{Proto: "tcp", Container: 80, Host: 8090, HostIP: netip.MustParseAddr(ip)}})
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v; want %s", err, text)
		}
	}
}

// TestRelayedPortIsAdopted: the next engine serves it, and who has come meanwhile.
func TestRelayedPortIsAdopted(t *testing.T) {
	newNeighbour(t)
	cfg := Config{EngineID: "e8", Dir: t.TempDir()}
	s, _ := reopen(t, cfg, nil, nil)
	e := attach(t, s)
	stop := process(t, e.NetNS)
	serve(t, e.NetNS, "tcp", ":80")
	publish(t, s, e, Port{Proto: "tcp", Container: 80, Host: 8080})
	wantAnyAnswer(t, "published", nil, "tcp", "[::1]:8080")
	held := dup(t, s.HeldSockets(e.ContainerID))
	abandon(t, s)
	answer := make(chan error, 1)
	go func() {
		_, err := askFor(20*time.Second, nil, "tcp", "[::1]:8080")
		answer <- err
	}()
	s, r := reopen(t, cfg, []Record{roundTrip(t, e.Record)}, held)
	defer func() { must(t, s.Destroy()); must(t, s.Close()) }()
	if len(r.Lost) > 0 {
		t.Error(r.Lost)
	}
	must(t, <-answer)
	held = dup(t, s.HeldSockets(e.ContainerID))
	abandon(t, s)
	cfg.NoRelay = true
	s, r = reopen(t, cfg, []Record{roundTrip(t, e.Record)}, held)
	if len(r.Lost) != 1 || !strings.Contains(r.Lost[0].Error(), "port [::]:8080/tcp of the host is not served without --userland-proxy") {
		t.Error(r.Lost)
	}
	wantNoAnswer(t, "without the relay", nil, "tcp", "[::1]:8080")
	wantAnyAnswer(t, "by the packet filter", nil, "tcp", "127.0.0.1:8080")
	stop()
}

// TestInternalNetworksReachNoRelay: who is in an internal network is not served by what the
// engine carries to others, from whatever address; the host and others are.
func TestInternalNetworksReachNoRelay(t *testing.T) {
	newNeighbour(t)
	s := openService(t, Config{})
	shut := six("shut", "10.2.0.0/24", "fd02::/64")
	shut.Internal = true
	makeNetwork(t, s, shut)
	makeNetwork(t, s, six("open", "10.3.0.0/24", "fd03::/64"))
	e := attach(t, s) // IPv4 only: by IPv6 it is carried
	for _, proto := range []string{"tcp", "udp"} {
		serve(t, e.NetNS, proto, "0.0.0.0:80")
		publish(t, s, e, Port{Proto: proto, Container: 80, Host: 8080})
	}
	in, other := attachTo(t, s, "shut", Request{LinkLocal: []netip.Addr{netip.MustParseAddr("fe80::99")}}), attachTo(t, s, "open", Request{})
	shell(t, "ip addr add fe80::1/64 dev "+in.network.link.Name+" nodad") // as the kernel may give it one
	for _, proto := range []string{"tcp", "udp"} {
		wantNoAnswer(t, "internal", in.NetNS, proto, "[fd02::1]:8080")
		wantNoAnswer(t, "internal", in.NetNS, proto, "10.2.0.1:8080")
		wantNoAnswer(t, "internal, by its link", in.NetNS, proto, "[fe80::1%eth0]:8080")
		wantAnyAnswer(t, "another network", other.NetNS, proto, "[fd03::1]:8080")
		wantAnyAnswer(t, "the host", nil, proto, "[fd02::1]:8080")
	}
	x, err := s.Explain(api.NetworkExplainOptions{From: in.ContainerID, Port: "[fd02::1]:8080/tcp"}, func(string) int { return 0 })
	if err != nil || x.Verdict != api.VerdictBlocked || !strings.Contains(x.Reason, "internal") {
		t.Errorf("%+v, %v", x, err)
	}
}
