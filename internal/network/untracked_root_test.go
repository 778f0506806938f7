//go:build root

package network

import (
	"context"
	"net/netip"
	"testing"

	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/conntrack"
)

// TestContainersOfANetworkAreNotTracked as connections, where bridges are filtered; what
// comes by a published port is.
func TestContainersOfANetworkAreNotTracked(t *testing.T) {
	if !filterBridges(t, "iptables", true) {
		t.Log("this kernel has no br_netfilter: nothing of a bridge is tracked")
	}
	world := newNeighbour(t)
	s := openService(t, Config{})
	a, b := attach(t, s), attach(t, s)
	_, err := conntrack.ForgetUDP(func(conntrack.Flow) bool { return true }) // of other tests
	must(t, err)
	serve(t, b.NetNS, "udp", "0.0.0.0:80")
	publish(t, s, b, Port{Proto: "udp", Container: 80, Host: 8080})
	addr := b.IP.Addr()
	wantAnswer(t, "container to container", a.NetNS, "udp", addr.String()+":80", a.IP.Addr().String())
	wantAnswer(t, "outside", world, "udp", "192.0.2.1:8080", "192.0.2.2")
	wantAnswer(t, "hairpin", a.NetNS, "udp", "192.0.2.1:8080", "172.17.0.1")
	var direct, published []conntrack.Flow
	_, err = conntrack.ForgetUDP(func(f conntrack.Flow) bool {
		switch {
		case f.To == netip.AddrPortFrom(addr, 80):
			direct = append(direct, f)
		case f.Server == netip.AddrPortFrom(addr, 80):
			published = append(published, f)
		}
		return false
	})
	must(t, err)
	if len(direct) > 0 || len(published) != 2 {
		t.Errorf("tracked: %v, and by the published port %v", direct, published)
	}
}

// TestHostsThatOthersGaveTheirAddressAreTracked: what goes to an address of the host's that the
// engine has not given it is tracked, so that a published port leads back, and the host's own
// rules know its connections.
func TestHostsThatOthersGaveTheirAddressAreTracked(t *testing.T) {
	filterBridges(t, "iptables", true)
	newNeighbour(t)
	s := openService(t, Config{})
	_, err := s.Create(network.CreateRequest{Name: "n", IPAM: subnet("10.60.0.0/24"), Options: map[string]string{
		"com.docker.network.bridge.inhibit_ipv4": "true", "com.docker.network.bridge.name": "inhibited",
	}})
	must(t, err)
	shell(t, "ip address add 10.60.0.1/24 dev inhibited")
	join := func() *Endpoint {
		e, err := s.Attach(context.Background(), Request{ContainerID: ident.New(), Network: "n"})
		must(t, err)
		return e
	}
	a, b := join(), join()
	serve(t, b.NetNS, "tcp", "0.0.0.0:80")
	publish(t, s, b, Port{Proto: "tcp", Container: 80, Host: 8080})
	wantAnswer(t, "hairpin", a.NetNS, "tcp", "192.0.2.1:8080", "10.60.0.1")
	nft(t, "add table ip fw; add chain ip fw input { type filter hook input priority 0; policy drop; }; add rule ip fw input ct state established accept")
	t.Cleanup(func() { nft(t, "delete table ip fw") })
	wantAnswer(t, "host to container", nil, "tcp", b.IP.Addr().String()+":80", "10.60.0.1")
}
