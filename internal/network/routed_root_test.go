//go:build root

package network

import (
	"context"
	"strings"
	"testing"
	"time"
)

func TestEndpointsBeyondTheBridge(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	s.maxPorts = 2
	a, _, b, c := attach(t, s), attach(t, s), attach(t, s), attach(t, s)
	if a.Routed || !b.Routed || !c.Routed {
		t.Fatal(a.Routed, b.Routed, c.Routed)
	}
	for _, e := range []*Endpoint{a, b, c} {
		for _, proto := range []string{"tcp", "udp"} {
			serve(t, e.NetNS, proto, "0.0.0.0:80")
		}
	}
	serve(t, world, "tcp", "192.0.2.2:80")
	wantAnswer(t, "routed to world", b.NetNS, "tcp", "192.0.2.2:80", "192.0.2.1")
	for _, x := range []*Endpoint{a, b, c} {
		wantAnswer(t, "host to container", nil, "tcp", x.IP.Addr().String()+":80", "172.17.0.1")
		for _, y := range []*Endpoint{a, b, c} {
			if x != y {
				wantAnswer(t, "container to container", x.NetNS, "tcp", y.IP.Addr().String()+":80", x.IP.Addr().String())
			}
		}
	}
	publish(t, s, b, Port{Proto: "tcp", Container: 80, Host: 8080}, Port{Proto: "udp", Container: 80, Host: 8080})
	for _, proto := range []string{"tcp", "udp"} {
		wantAnswer(t, "outside", world, proto, "192.0.2.1:8080", "192.0.2.2")
		for name, e := range map[string]*Endpoint{"loopback": nil, "bridged": a, "itself": b, "routed": c} {
			addr := "192.0.2.1:8080"
			if e == nil {
				addr = "127.0.0.1:8080"
				if _, err := askFor(20*time.Second, nil, proto, addr); err != nil {
					t.Errorf("%s %s: %v", name, proto, err)
				}
				continue
			}
			if _, err := askFor(20*time.Second, e.NetNS, proto, addr); err != nil {
				t.Errorf("%s %s: %v", name, proto, err)
			}
		}
	}
	before := allRules(t)
	nft(t, "flush", "ruleset")
	eventually(t, "the rules are restored", func() bool {
		return strings.Contains(nft(t, "list", "tables"), "tare") && allRules(t) == before
	})
	wantAnswer(t, "restored", world, "tcp", "192.0.2.1:8080", "192.0.2.2")
	wantAnswer(t, "restored", c.NetNS, "tcp", a.IP.Addr().String()+":80", c.IP.Addr().String())
	must(t, s.Release(context.Background(), c.ContainerID))
}
