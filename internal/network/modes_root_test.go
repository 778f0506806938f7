//go:build root

package network

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/network/networktest"
)

// toHost has the neighbour send what is for some subnets to the host.
func toHost(t *testing.T, world *os.File, subnets ...string) {
	t.Helper()
	must(t, netns.Do(world, func() error {
		c, err := netlink.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		var b netlink.Batch
		for _, s := range subnets {
			p, gateway := netip.MustParsePrefix(s), networktest.HostOut.Addr()
			if p.Addr().Is6() {
				gateway = networktest.HostOut6.Addr()
			}
			b.AddRoute(netlink.Route{Dst: p, Gateway: gateway, Index: 2})
		}
		return c.Do(&b)
	}))
}

// mode is a request for a network with a mode for both families.
func mode(name, mode string, subnets ...string) network.CreateRequest {
	r := six(name, subnets...)
	r.Options = map[string]string{optionMode: mode, optionMode6: mode}
	return r
}

// TestRoutedNetwork: others reach published ports at the container's own address, with
// which it goes out.
func TestRoutedNetwork(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	makeNetwork(t, s, mode("routed", modeRouted, "10.1.0.0/24", "fd01::/64"))
	toHost(t, world, "10.1.0.0/24", "fd01::/64")
	e, other := attachTo(t, s, "routed", Request{}), attach(t, s)
	serve(t, e.NetNS, "tcp", "[::]:80")
	serve(t, e.NetNS, "tcp", "[::]:81")
	got := publish(t, s, e, Port{Proto: "tcp", Container: 80, Host: 8080})
	want := []Port{{Proto: "tcp", Container: 80, HostIP: netip.IPv4Unspecified()}, {Proto: "tcp", Container: 80, HostIP: netip.IPv6Unspecified()}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	for port, bindings := range PortMap(got, nil) {
		if port.String() != "80/tcp" || len(bindings) != 2 || bindings[0].HostPort != "" {
			t.Error(port, bindings)
		}
	}
	wantAnswer(t, "neighbour", world, "tcp", "10.1.0.2:80", "192.0.2.2")
	wantAnswer(t, "neighbour", world, "tcp", "[fd01::2]:80", "2001:db8::2")
	wantAnswer(t, "another network, with the host's address", other.NetNS, "tcp", "10.1.0.2:80", "10.1.0.1")
	wantNoAnswer(t, "neighbour", world, "tcp", "10.1.0.2:81")
	wantNoAnswer(t, "neighbour", world, "tcp", "[fd01::2]:81")
	wantNoAnswer(t, "another network", other.NetNS, "tcp", "10.1.0.2:81")
	wantNoAnswer(t, "no port of the host", world, "tcp", "192.0.2.1:8080")
	if l, err := net.Listen("tcp", "0.0.0.0:8080"); err != nil {
		t.Error("the host's port is taken:", err)
	} else {
		l.Close()
	}
	serve(t, world, "tcp", "[::]:82")
	wantAnswer(t, "out, with its own address", e.NetNS, "tcp", "192.0.2.2:82", "10.1.0.2")
	wantAnswer(t, "out, with its own address", e.NetNS, "tcp", "[2001:db8::2]:82", "fd01::2")

	for port, want := range map[string]string{"80/tcp": api.VerdictPasses, "81/tcp": api.VerdictBlocked} {
		x, err := s.Explain(api.NetworkExplainOptions{From: "192.0.2.2", To: e.ContainerID, Port: port}, func(string) int { return 0 })
		if err != nil || x.Verdict != want {
			t.Errorf("%s: %+v, %v", port, x, err)
		}
	}

	_, err := s.Retain(e.ContainerID, []Port{{Proto: "tcp", Container: 80, Host: 8080}}, nil)
	must(t, err)
	wantNoAnswer(t, "closed", world, "tcp", "10.1.0.2:80")
	if len(e.Ports) > 0 {
		t.Error(e.Ports)
	}
}

// TestRoutedBesideTranslated: ports are opened by the families of the host's addresses
// that were named, whichever network is the way out, and go with the network.
func TestRoutedBesideTranslated(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	r := six("mixed", "10.1.0.0/24", "fd01::/64")
	r.Options = map[string]string{optionMode6: modeRouted}
	makeNetwork(t, s, r)
	makeNetwork(t, s, mode("zone", modeRouted, "10.2.0.0/24"))
	toHost(t, world, "10.1.0.0/24", "10.2.0.0/24", "fd01::/64")
	e := attachTo(t, s, "mixed", Request{Priority: 1})
	e2, err := s.Connect(context.Background(), Request{ContainerID: e.ContainerID, Name: "c", Network: "zone"}, e.NetNS)
	must(t, err)
	serve(t, e.NetNS, "tcp", "[::]:80")
	serve(t, e.NetNS, "tcp", "[::]:81")
	publish(t, s, e, Port{Proto: "tcp", Container: 80, Host: 8080}, Port{Proto: "tcp", Container: 81, HostIP: netip.IPv6Unspecified()})
	wantAnswer(t, "translated", world, "tcp", "192.0.2.1:8080", "192.0.2.2")
	wantAnswer(t, "routed", world, "tcp", "[fd01::2]:80", "2001:db8::2")
	wantAnswer(t, "routed", world, "tcp", "[fd01::2]:81", "2001:db8::2")
	wantNoAnswer(t, "translated", world, "tcp", "10.1.0.2:80")
	wantAnswer(t, "routed, not the way out", world, "tcp", "10.2.0.2:80", "192.0.2.2")
	wantNoAnswer(t, "of IPv6 only", world, "tcp", "10.2.0.2:81")

	before := allRules(t)
	records := []Record{roundTrip(t, e.Record), roundTrip(t, e2.Record)}
	if !slices.ContainsFunc(records[1].Ports, Port.opened) {
		t.Fatal(records)
	}
	must(t, s.Disconnect(e.ContainerID, "mixed", e.NetNS))
	wantNoAnswer(t, "no translated way out", world, "tcp", "192.0.2.1:8080")
	wantAnswer(t, "routed", world, "tcp", "10.2.0.2:80", "192.0.2.2")
	serve(t, world, "tcp", "[::]:82")
	wantAnswer(t, "out", e.NetNS, "tcp", "192.0.2.2:82", "10.2.0.2")
	must(t, s.Disconnect(e.ContainerID, "zone", e.NetNS))
	if strings.Contains(allRules(t), "10.2.0.2 ") || !strings.Contains(before, "10.2.0.2 ") {
		t.Error(allRules(t))
	}
}

// TestPortsMoveBetweenModes: when the way out is one by which ports are opened, those of the
// host lead nowhere and stay the container's; they come back, carried ones too, with a way
// out by which they are translated.
func TestPortsMoveBetweenModes(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	makeNetwork(t, s, six("plain", "10.1.0.0/24"))
	makeNetwork(t, s, mode("zone", modeRouted, "10.2.0.0/24", "fd02::/64"))
	alone := mode("alone", modeIsolated, "10.3.0.0/24")
	alone.Internal = true
	makeNetwork(t, s, alone)
	toHost(t, world, "10.2.0.0/24", "fd02::/64")
	e := attachTo(t, s, "plain", Request{})
	id, ns := e.ContainerID, e.NetNS
	other := attachTo(t, s, "plain", Request{})
	for _, proto := range []string{"tcp", "udp"} {
		serve(t, ns, proto, "[::]:80")
	}
	wanted := []Port{{Proto: "tcp", Container: 80, Host: 8080}, {Proto: "udp", Container: 80, Host: 8080}}
	// As the container's owner does it after each change of its networks.
	again := func() {
		t.Helper()
		_, err := s.Publish(context.Background(), id, wanted)
		must(t, err)
	}
	served := func(when string, want bool) {
		t.Helper()
		for _, proto := range []string{"tcp", "udp"} {
			for _, addr := range []string{"127.0.0.1:8080", "[::1]:8080"} {
				if want {
					wantAnyAnswer(t, when, nil, proto, addr)
				} else {
					wantNoAnswer(t, when, nil, proto, addr)
				}
			}
			if want {
				wantAnyAnswer(t, when, world, proto, "[2001:db8::1]:8080")
			} else {
				wantNoAnswer(t, when, world, proto, "[2001:db8::1]:8080")
			}
		}
	}
	taken := func() {
		t.Helper()
		if _, err := s.Publish(context.Background(), other.ContainerID, wanted[:1]); !errdefs.Is(err, errdefs.Conflict) {
			t.Error("another container has the port:", err)
		}
	}
	again()
	served("translated, and carried", true)
	for range 2 {
		zone, err := s.Connect(context.Background(), Request{ContainerID: id, Name: "c", Network: "zone", Priority: 1}, ns)
		must(t, err)
		again()
		served("opened", false)
		taken()
		wantAnyAnswer(t, "opened", world, "tcp", netip.AddrPortFrom(zone.IP.Addr(), 80).String())
		wantAnyAnswer(t, "opened", world, "udp", netip.AddrPortFrom(zone.IP6.Addr(), 80).String())
		must(t, s.Disconnect(id, "zone", ns))
		again()
		served("translated again", true)
	}
	_, err := s.Connect(context.Background(), Request{ContainerID: id, Name: "c", Network: "alone", Priority: 1}, ns)
	must(t, err)
	again()
	served("beside an isolated network", true)
	must(t, s.Disconnect(id, "plain", ns))
	again()
	served("isolated", false)
	taken()
	rules := allRules(t)
	if strings.Contains(rules, "8080") {
		t.Error(rules)
	}
	must(t, s.Release(context.Background(), id))
	if len(s.ports.held)+len(s.ports.of)+len(s.ports.numbers) > 0 {
		t.Errorf("left: %+v", s.ports)
	}
	publish(t, s, other, wanted...)
}

// TestRoutedFamilyIsNotCarried: a network that is routed by one family and translated by
// the other has ports of the host by the latter only.
func TestRoutedFamilyIsNotCarried(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	r := six("mixed", "10.1.0.0/24", "fd01::/64")
	r.Options = map[string]string{optionMode6: modeRouted}
	makeNetwork(t, s, r)
	e := attachTo(t, s, "mixed", Request{})
	serve(t, e.NetNS, "tcp", "[::]:80")
	got := publish(t, s, e, Port{Proto: "tcp", Container: 80, Host: 8080}, Port{Proto: "tcp", Container: 80, Host: 8081, HostIP: netip.IPv6Loopback()})
	for _, p := range got {
		if !p.opened() && p.HostIP.Is6() {
			t.Errorf("published: %+v", got)
		}
	}
	wantAnyAnswer(t, "translated", world, "tcp", "192.0.2.1:8080")
	for _, addr := range []string{"[::1]:8080", "[::1]:8081", "127.0.0.1:8081"} {
		wantNoAnswer(t, "not carried", nil, "tcp", addr)
	}
	wantNoAnswer(t, "not carried", world, "tcp", "[2001:db8::1]:8080")
}

// TestRoutedIsAdopted: opened ports stay open when the engine is killed.
func TestRoutedIsAdopted(t *testing.T) {
	world := newNeighbour(t)
	cfg := Config{EngineID: "e1", Default: true, Dir: t.TempDir()}
	s, _ := reopen(t, cfg, nil, nil)
	makeNetwork(t, s, mode("routed", modeRouted, "10.1.0.0/24"))
	toHost(t, world, "10.1.0.0/24")
	e := attachTo(t, s, "routed", Request{})
	serve(t, e.NetNS, "tcp", "0.0.0.0:80")
	publish(t, s, e, Port{Proto: "tcp", Container: 80})
	abandon(t, s)
	nft(t, "flush", "ruleset")
	s2, r := reopen(t, cfg, []Record{roundTrip(t, e.Record)}, nil)
	if r.Adopted != 1 || len(r.Lost)+len(r.Removed) > 0 {
		t.Errorf("%+v", r)
	}
	wantAnswer(t, "neighbour", world, "tcp", "10.1.0.2:80", "192.0.2.2")
	must(t, s2.Release(context.Background(), e.ContainerID))
	wantNoAnswer(t, "released", world, "tcp", "10.1.0.2:80")
	must(t, errors.Join(s2.Destroy(), s2.Close()))
}

// TestTrustedInterfaces: by them, and only by them, published ports are reached at the
// container's address.
func TestTrustedInterfaces(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	for name, link := range map[string]string{"one": "nosuch:out0", "two": "nosuch"} {
		r := network.CreateRequest{Name: name, IPAM: subnet("10.1.0.0/24"), Options: map[string]string{optionTrusted: link}}
		if name == "two" {
			r.IPAM = subnet("10.2.0.0/24")
		}
		makeNetwork(t, s, r)
		e := attachTo(t, s, name, Request{})
		serve(t, e.NetNS, "tcp", "0.0.0.0:80")
		serve(t, e.NetNS, "tcp", "0.0.0.0:81")
		must(t, loUp())
		publish(t, s, e, Port{Proto: "tcp", Container: 80, HostIP: netip.MustParseAddr("127.0.0.1")}, Port{Proto: "tcp", Container: 80, HostIP: netip.MustParseAddr("127.0.0.2")})
	}
	toHost(t, world, "10.1.0.0/24", "10.2.0.0/24")
	wantAnswer(t, "trusted", world, "tcp", "10.1.0.2:80", "192.0.2.2")
	wantNoAnswer(t, "not published", world, "tcp", "10.1.0.2:81")
	wantNoAnswer(t, "not trusted", world, "tcp", "10.2.0.2:80")
	for id, list := range s.endpoints {
		if list[0].NetworkName != "one" {
			continue
		}
		_, err := s.Retain(id, []Port{{Proto: "tcp", Container: 80, HostIP: netip.MustParseAddr("127.0.0.1")}}, nil)
		must(t, err)
		wantAnswer(t, "still published elsewhere", world, "tcp", "10.1.0.2:80", "192.0.2.2")
		taken, err := s.Publish(context.Background(), id, []Port{{Proto: "tcp", Container: 80, Host: 8090}, {Proto: "tcp", Container: 80, Host: 8090, HostIP: netip.MustParseAddr("127.0.0.1")}})
		if err == nil {
			t.Error("published twice:", taken)
		}
		wantAnswer(t, "after a failure too", world, "tcp", "10.1.0.2:80", "192.0.2.2")
		must(t, s.Release(context.Background(), id))
		wantNoAnswer(t, "released", world, "tcp", "10.1.0.2:80")
		break
	}
}

// TestIsolatedNetwork: containers reach each other and nobody else, and the host has no
// address there.
func TestIsolatedNetwork(t *testing.T) {
	s := openService(t, Config{})
	r := mode("alone", modeIsolated, "10.1.0.0/24", "fd01::/64")
	if _, err := s.Create(r); !errdefs.Is(err, errdefs.InvalidArgument) || err.Error() != "gateway mode 'isolated' can only be used for an internal network" {
		t.Error(err)
	}
	r.Internal = true
	makeNetwork(t, s, r)
	in, err := s.Inspect("alone")
	must(t, err)
	if len(in.IPAM.Config) != 2 || in.IPAM.Config[0].Gateway.IsValid() || in.IPAM.Config[1].Gateway.IsValid() || !in.EnableIPv4 || !in.EnableIPv6 {
		t.Errorf("%+v", in)
	}
	a, b := attachTo(t, s, "alone", Request{}), attachTo(t, s, "alone", Request{})
	if a.IP.String() != "10.1.0.1/24" || a.IP6.String() != "fd01::1/64" || a.Gateway.IsValid() || a.Exit || a.Exit6 {
		t.Errorf("%+v", a.Record)
	}
	serve(t, a.NetNS, "tcp", "[::]:80")
	wantAnswer(t, "container", b.NetNS, "tcp", "10.1.0.1:80", "10.1.0.2")
	wantAnswer(t, "container", b.NetNS, "tcp", "[fd01::1]:80", "fd01::2")
	wantNoAnswer(t, "host", nil, "tcp", "10.1.0.1:80")
	wantNoAnswer(t, "host", nil, "tcp", "[fd01::1]:80")
	addrs, err := s.host.Addrs(a.network.link.Index())
	must(t, err)
	if len(addrs) > 0 {
		t.Error(addrs)
	}
	if got, err := s.Publish(context.Background(), a.ContainerID, []Port{{Proto: "tcp", Container: 80, Host: 8080}}); err != nil || len(got) > 0 {
		t.Error(got, err)
	}
	link := a.network.settings.link
	before, _, err := s.host.LinkByName(link)
	must(t, err)
	var d netlink.Batch
	d.DelLink(before.Index)
	must(t, s.host.Do(&d))
	eventually(t, "the bridge is restored", func() bool {
		l, ok, err := s.host.LinkByName(link)
		return err == nil && ok && l.MAC.String() == before.MAC.String()
	})
	wantAnswer(t, "restored", b.NetNS, "tcp", "10.1.0.1:80", "10.1.0.2")
}

// TestInhibitedNetwork: containers go out by a gateway that somebody else gives the
// bridge, and the next engine leaves it there.
func TestInhibitedNetwork(t *testing.T) {
	world := newNeighbour(t)
	cfg := Config{EngineID: "e1", Default: true, Dir: t.TempDir()}
	s, _ := reopen(t, cfg, nil, nil)
	makeNetwork(t, s, network.CreateRequest{Name: "bare", IPAM: subnet("10.1.0.0/24"), Options: map[string]string{optionInhibit: "true", optionName: "bare0", optionIfaces: "net"}})
	e := attachTo(t, s, "bare", Request{})
	if e.Gateway.String() != "10.1.0.1" || e.IP.String() != "10.1.0.2/24" || e.IfaceName != "net0" {
		t.Errorf("%+v", e.Record)
	}
	serve(t, world, "tcp", "192.0.2.2:80")
	wantNoAnswer(t, "no gateway", e.NetNS, "tcp", "192.0.2.2:80")
	var b netlink.Batch
	b.AddAddr(e.network.link.Index(), netlink.Addr{Prefix: netip.MustParsePrefix("10.1.0.1/24")})
	must(t, s.host.Do(&b))
	wantAnswer(t, "out", e.NetNS, "tcp", "192.0.2.2:80", "192.0.2.1")
	ns := dup(t, []*os.File{e.NetNS})[0]
	defer ns.Close()
	abandon(t, s)
	s2, _ := reopen(t, cfg, []Record{roundTrip(t, e.Record)}, nil)
	wantAnswer(t, "out, after the engine", ns, "tcp", "192.0.2.2:80", "192.0.2.1")
	must(t, s2.Release(context.Background(), e.ContainerID))
	makeNetwork(t, s2, network.CreateRequest{Name: "in", Internal: true, IPAM: subnet("10.2.0.0/24"), Options: map[string]string{optionInhibit: "true"}})
	i, err := s2.Attach(context.Background(), Request{ContainerID: ident.New(), Network: "in"})
	must(t, err)
	if i.IP.String() != "10.2.0.1/24" {
		t.Error(i.IP)
	}
	must(t, s2.Release(context.Background(), i.ContainerID))
	must(t, errors.Join(s2.Destroy(), s2.Close()))
}
