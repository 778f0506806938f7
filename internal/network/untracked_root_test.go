//go:build root

package network

import (
	"net/netip"
	"testing"

	"github.com/tare-engine/tare/internal/linux/conntrack"
	"github.com/tare-engine/tare/internal/linux/sysctl"
)

// TestContainersOfANetworkAreNotTracked as connections, where bridges are filtered; what
// comes by a published port is.
func TestContainersOfANetworkAreNotTracked(t *testing.T) {
	const bridged = "net/bridge/bridge-nf-call-iptables"
	if was, err := sysctl.Read(bridged); err == nil {
		must(t, sysctl.Write(bridged, "1"))
		t.Cleanup(func() { must(t, sysctl.Write(bridged, was)) })
	} else {
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
