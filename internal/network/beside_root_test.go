//go:build root

package network

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/linux/sysctl"
	"github.com/tare-engine/tare/internal/network/networktest"
)

func TestEndpointsBeyondTheBridge(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	s.maxPorts = 2
	a, _, b, c := attach(t, s), attach(t, s), attach(t, s), attach(t, s)
	if a.Beside || !b.Beside || !c.Beside {
		t.Fatal(a.Beside, b.Beside, c.Beside)
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

// TestNoIPv6BesideTheBridge has a container whose network has no IPv6, and which has no
// port of the bridge, send some all the same, and be a router.
func TestNoIPv6BesideTheBridge(t *testing.T) {
	newNeighbour(t)
	s := openService(t, Config{})
	s.maxPorts = 1
	attach(t, s)
	e := attach(t, s)
	if !e.Beside {
		t.Fatal("it has a port")
	}
	// Also while somebody has emptied the firewall, which else drops what says so.
	if v, err := sysctl.Read("net/ipv6/conf/" + e.Link + "/accept_ra"); v != "0" || err != nil {
		t.Errorf("the host believes the container to be a router: %s, %v", v, err)
	}
	heard, err := net.ListenPacket("udp", "[::]:81")
	must(t, err)
	defer heard.Close()
	host, gateway := networktest.HostOut6.Addr(), e.Gateway
	send := func(to netip.Addr) {
		t.Helper()
		c, err := net.Dial("udp", netip.AddrPortFrom(to, 81).String())
		must(t, err)
		_, err = c.Write([]byte(to.String()))
		must(t, errors.Join(err, c.Close()))
	}
	must(t, netns.Do(e.NetNS, func() error {
		must(t, sysctl.Write("net/ipv6/conf/eth0/disable_ipv6", "0"))
		c, err := netlink.Open()
		must(t, err)
		defer c.Close()
		var b netlink.Batch
		b.AddAddr(2, netlink.Addr{Prefix: netip.MustParsePrefix("fd99::2/64")})
		b.AddNeighbour(2, host, s.all()[0].link.MAC)
		b.AddRoute(netlink.Route{Dst: netip.PrefixFrom(host, 128), Index: 2})
		must(t, c.Do(&b))
		for range 10 {
			send(host)
		}
		send(gateway) // the one that is heard
		return nil
	}))
	must(t, heard.SetDeadline(time.Now().Add(20*time.Second)))
	got := make([]byte, 100)
	n, _, err := heard.ReadFrom(got)
	must(t, err)
	if string(got[:n]) != gateway.String() {
		t.Errorf("what was sent to %s has come by IPv6", got[:n])
	}
}
