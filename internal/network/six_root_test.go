//go:build root

package network

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/linux/sysctl"
	"github.com/tare-engine/tare/internal/network/networktest"
)

// six asks for a network with IPv6, and the subnets.
func six(name string, subnets ...string) network.CreateRequest {
	r := network.CreateRequest{Name: name, EnableIPv6: new(true), IPAM: &network.IPAM{}}
	for _, s := range subnets {
		r.IPAM.Config = append(r.IPAM.Config, network.IPAMConfig{Subnet: netip.MustParsePrefix(s)})
	}
	return r
}

func makeNetwork(t *testing.T, s *Service, r network.CreateRequest) {
	t.Helper()
	_, err := s.Create(r)
	must(t, err)
}

func attachTo(t *testing.T, s *Service, name string, r Request) *Endpoint {
	t.Helper()
	r.ContainerID, r.Name, r.Network = ident.New(), "c", name
	e, err := s.Attach(context.Background(), r)
	must(t, err)
	return e
}

// TestIPv6Network: containers have an address, reach each other and the world, which
// reaches what is published, and nothing else.
func TestIPv6Network(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	makeNetwork(t, s, six("n", "10.1.0.0/24", "fd01::/64"))
	makeNetwork(t, s, six("other", "10.2.0.0/24", "fd02::/64"))
	a, b, far := attachTo(t, s, "n", Request{}), attachTo(t, s, "n", Request{}), attachTo(t, s, "other", Request{})
	if a.IP.String() != "10.1.0.2/24" || a.IP6.String() != "fd01::2/64" || a.Gateway6.String() != "fd01::1" || b.IP6.String() != "fd01::3/64" {
		t.Fatalf("%+v %+v", a.Record, b.Record)
	}
	serve(t, world, "tcp", "[2001:db8::2]:80")
	wantAnswer(t, "container to world", a.NetNS, "tcp", "[2001:db8::2]:80", "2001:db8::1")
	for _, proto := range []string{"tcp", "udp"} {
		serve(t, b.NetNS, proto, "[::]:80")
		wantAnswer(t, "container to container", a.NetNS, proto, "[fd01::3]:80", "fd01::2")
		wantAnswer(t, "host to container", nil, proto, "[fd01::3]:80", "fd01::1")
		wantNoAnswer(t, "other network", far.NetNS, proto, "[fd01::3]:80")
	}
	publish(t, s, b, Port{Proto: "tcp", Container: 80, Host: 8080}, Port{Proto: "udp", Container: 80, Host: 8080},
		Port{Proto: "tcp", Container: 80, Host: 8081, HostIP: networktest.HostOut6.Addr()})
	for _, proto := range []string{"tcp", "udp"} {
		wantAnswer(t, "outside", world, proto, "[2001:db8::1]:8080", "2001:db8::2")
		wantAnswer(t, "outside by IPv4", world, proto, "192.0.2.1:8080", "192.0.2.2")
		wantAnswer(t, "host's own address", nil, proto, "[2001:db8::1]:8080", "2001:db8::1")
		wantAnswer(t, "sibling", a.NetNS, proto, "[2001:db8::1]:8080", "fd01::1")
		wantAnswer(t, "itself", b.NetNS, proto, "[2001:db8::1]:8080", "fd01::1")
		wantAnswer(t, "other network", far.NetNS, proto, "[2001:db8::1]:8080", "fd01::1")
	}
	wantAnswer(t, "one address", world, "tcp", "[2001:db8::1]:8081", "2001:db8::2")
	wantNoAnswer(t, "another", world, "tcp", "192.0.2.1:8081")
	networktest.RouteToHost(t, world, "fd00::/8")
	wantNoAnswer(t, "world to what is not published", world, "tcp", "[fd01::3]:80")
	must(t, s.Release(context.Background(), b.ContainerID))
	wantNoAnswer(t, "released", world, "tcp", "[2001:db8::1]:8080")
}

// TestAdvertisementsAreNotBelieved: no router but the host is one, and IPv6 is there
// only where it was asked for.
func TestAdvertisementsAreNotBelieved(t *testing.T) {
	s := openService(t, Config{})
	makeNetwork(t, s, six("n", "fd01::/64"))
	makeNetwork(t, s, network.CreateRequest{Name: "four"})
	e := attachTo(t, s, "n", Request{})
	_, err := s.Connect(context.Background(), Request{ContainerID: e.ContainerID, Name: "c", Network: "four"}, e.NetNS)
	must(t, err)
	check := func(link string, want map[string]string) {
		t.Helper()
		for name, want := range want {
			if v, err := sysctl.Read("net/ipv6/conf/" + link + "/" + name); v != want || err != nil {
				t.Errorf("%s/%s = %s, %v; want %s", link, name, v, err, want)
			}
		}
	}
	must(t, netns.Do(e.NetNS, func() error {
		check("eth0", map[string]string{"disable_ipv6": "0", "accept_ra": "0", "accept_dad": "0"})
		check("eth1", map[string]string{"disable_ipv6": "1", "accept_ra": "0"})
		return nil
	}))
	check(s.all()[3].link.Name, map[string]string{"disable_ipv6": "0", "accept_ra": "0"})
	check(s.all()[4].link.Name, map[string]string{"disable_ipv6": "1"})
}

// TestForwardingOfIPv6: it is turned on with the first network that needs it, the host
// does not become a router, and goes on to believe its own.
func TestForwardingOfIPv6(t *testing.T) {
	world := newNeighbour(t)
	must(t, sysctl.Write("net/ipv6/conf/all/forwarding", "0"))
	must(t, sysctl.Write("net/ipv6/conf/out0/accept_ra", "1"))
	dir := t.TempDir()
	s := openService(t, Config{Dir: dir})
	if v, _ := sysctl.Read("net/ipv6/conf/all/forwarding"); v != "0" {
		t.Fatal("nobody has asked for IPv6")
	}
	makeNetwork(t, s, six("n", "fd01::/64"))
	for name, want := range map[string]string{"all/forwarding": "1", "out0/accept_ra": "2"} {
		if v, err := sysctl.Read("net/ipv6/conf/" + name); v != want || err != nil {
			t.Errorf("%s = %s, %v; want %s", name, v, err, want)
		}
	}
	e := attachTo(t, s, "n", Request{})
	serve(t, world, "tcp", "[2001:db8::2]:80")
	wantAnswer(t, "container", e.NetNS, "tcp", "[2001:db8::2]:80", "2001:db8::1")
	if rules := allRules(t); !strings.Contains(rules, "meta nfproto ipv6 iifgroup") {
		t.Errorf("no guard:\n%s", rules)
	}
	must(t, s.Release(context.Background(), e.ContainerID))
	again := openService(t, Config{Dir: dir, EngineID: "e1", Default: true})
	if !again.guarded[6] {
		t.Error("forgotten by the next engine")
	}
}

func TestIPv6OfItsOwn(t *testing.T) {
	s := openService(t, Config{})
	r := six("only", "fd01::/64")
	r.EnableIPv4 = new(false)
	makeNetwork(t, s, r)
	makeNetwork(t, s, six("chosen"))
	e := attachTo(t, s, "only", Request{IP6: netip.MustParseAddr("fd01::77")})
	if e.IP.IsValid() || e.IP6.String() != "fd01::77/64" || e.Gateway.IsValid() || len(e.MAC) != 6 {
		t.Errorf("%+v", e.Record)
	}
	serve(t, e.NetNS, "tcp", "[::]:80")
	wantAnswer(t, "host", nil, "tcp", "[fd01::77]:80", "fd01::1")
	for what, want := range map[string]netip.Addr{
		"no configured subnet contains IP address fd02::1": netip.MustParseAddr("fd02::1"),
		"invalid IPv6 address: 10.0.0.1":                   netip.MustParseAddr("10.0.0.1"),
	} {
		if err := s.Check(Request{Network: "only", IP6: want}); !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), what) {
			t.Error(err)
		}
	}
	if err := s.Check(Request{Network: "chosen", IP6: netip.MustParseAddr("fd01::1")}); err == nil || !strings.Contains(err.Error(), "only when connecting to networks with user configured subnets") {
		t.Error(err)
	}
	if _, err := s.Attach(context.Background(), Request{ContainerID: ident.New(), Network: "only", IP6: e.IP6.Addr()}); !errdefs.Is(err, errdefs.Forbidden) {
		t.Error(err)
	}
	makeNetwork(t, s, network.CreateRequest{Name: "by-option", Options: map[string]string{optionIPv4: "0", optionIPv6: "true", optionMode6: "nat"}})
	if in, err := s.Inspect("by-option"); err != nil || in.EnableIPv4 || !in.EnableIPv6 {
		t.Errorf("%+v %v", in, err)
	}
	in, err := s.Inspect("chosen")
	must(t, err)
	if !in.EnableIPv6 || !in.EnableIPv4 || len(in.IPAM.Config) != 2 || in.IPAM.Config[1].Subnet.Bits() != 64 || !in.IPAM.Config[1].Subnet.Addr().IsPrivate() {
		t.Errorf("%+v", in)
	}
	in, err = s.Inspect("only")
	must(t, err)
	if in.EnableIPv4 || in.Containers[e.ContainerID].IPv6Address.String() != "fd01::77/64" || in.Containers[e.ContainerID].IPv4Address.IsValid() {
		t.Errorf("%+v", in)
	}
	for text, r := range map[string]network.CreateRequest{
		"bridge driver doesn't support multiple subnets":                  six("x", "fd03::/64", "fd04::/64"),
		"Pool overlaps with other one":                                    six("x", "fd01::/80"),
		"no room for containers":                                          six("x", "fd03::1/128"),
		"no addresses of hosts":                                           six("x", "ff02::/64"),
		"the network has no addresses of IPv6":                            {Name: "x", IPAM: six("", "fd03::/64").IPAM},
		"IPv4 or IPv6 must be enabled":                                    {Name: "x", EnableIPv4: new(false)},
		`driver-opt "com.docker.network.enable_ipv6" is not a valid bool`: {Name: "x", Options: map[string]string{optionIPv6: "maybe"}},
		"unknown gateway mode route":                                      {Name: "x", Options: map[string]string{optionMode6: "route"}},
	} {
		if _, err := s.Create(r); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want %s", err, text)
		}
	}
}

// TestWaysOutByFamily: a network of both goes before those of one.
func TestWaysOutByFamily(t *testing.T) {
	newNeighbour(t)
	s := openService(t, Config{})
	makeNetwork(t, s, six("both", "10.3.0.0/24", "fd03::/64"))
	makeNetwork(t, s, network.CreateRequest{Name: "zfour", IPAM: subnet("10.4.0.0/24")})
	only := six("a", "fd01::/64")
	only.EnableIPv4 = new(false)
	makeNetwork(t, s, only)
	e := attach(t, s)
	serve(t, e.NetNS, "tcp", "[::]:80")
	publish(t, s, e, Port{Proto: "tcp", Container: 80, Host: 8080})
	want := func(four, six string) {
		t.Helper()
		in, err := socketIn(e.NetNS)
		must(t, err)
		defer in.Close()
		for f, name := range map[family]string{v4: four, v6: six} {
			routes, err := in.Routes(int(f))
			must(t, err)
			exit, got := s.exitOf(e.ContainerID, f), []int{}
			for _, r := range routes {
				if r.Dst.Bits() == 0 {
					got = append(got, r.Index)
				}
			}
			switch {
			case name == "" && (exit != nil || len(got) > 0):
				t.Errorf("IPv%d: %v %v", f, exit, got)
			case name != "" && (exit == nil || exit.NetworkName != name || !slices.Equal(got, []int{exit.Iface})):
				t.Errorf("IPv%d: %+v, routes %v; want %s", f, exit, got, name)
			}
		}
		_, err = s.Publish(context.Background(), e.ContainerID, []Port{{Proto: "tcp", Container: 80, Host: 8080}})
		must(t, err)
		wantAnyAnswer(t, "published", nil, "tcp", "[::1]:8080")
		if six == "" {
			wantAnswer(t, "carried", nil, "tcp", "[2001:db8::1]:8080", s.exitOf(e.ContainerID, v4).Gateway.String())
		} else {
			wantAnswer(t, "published", nil, "tcp", "[2001:db8::1]:8080", "2001:db8::1")
		}
		if _, err := askFor(20*time.Second, nil, "tcp", "192.0.2.1:8080"); err != nil {
			t.Error(err)
		}
	}
	connectFirst := func(name string, priority int) {
		t.Helper()
		_, err := s.Connect(context.Background(), Request{ContainerID: e.ContainerID, Name: "c", Network: name, Priority: priority}, e.NetNS)
		must(t, err)
	}
	connect := func(name string) { t.Helper(); connectFirst(name, 0) }
	want("bridge", "")
	connect("a")
	want("bridge", "a")
	connect("both")
	want("both", "both")
	must(t, s.Disconnect(e.ContainerID, "a", e.NetNS))
	want("both", "both")
	connectFirst("zfour", 1) // goes before one with both, but for IPv6
	want("zfour", "both")
	must(t, s.Disconnect(e.ContainerID, "both", e.NetNS))
	want("zfour", "")
	must(t, s.Disconnect(e.ContainerID, "zfour", e.NetNS))
	want("bridge", "")
}

// TestIPv6IsAdopted: the next engine knows the addresses, and what is published.
func TestIPv6IsAdopted(t *testing.T) {
	world := newNeighbour(t)
	cfg := Config{EngineID: "e1", Default: true, Dir: t.TempDir()}
	s1, _ := reopen(t, cfg, nil, nil)
	makeNetwork(t, s1, six("n", "fd01::/64"))
	e := attachTo(t, s1, "n", Request{})
	ns, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", e.NetNS.Fd()))
	must(t, err)
	defer ns.Close()
	serve(t, ns, "tcp", "[::]:80")
	publish(t, s1, e, Port{Proto: "tcp", Container: 80, Host: 8080})
	rec := e.Record
	before := allRules(t)
	must(t, s1.Close())
	s2 := openAdopted(t, cfg, rec)
	if after := allRules(t); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	got := s2.Endpoints(rec.ContainerID)[0]
	if got.Gateway6.String() != "fd01::1" || !got.Exit6 || len(got.Ports) != 2 {
		t.Errorf("%+v", got)
	}
	wantAnswer(t, "adopted", world, "tcp", "[2001:db8::1]:8080", "2001:db8::2")
	if err := s2.Check(Request{Network: "n", IP6: rec.IP6.Addr()}); err != nil {
		t.Error(err)
	}
	if _, err := s2.Attach(context.Background(), Request{ContainerID: ident.New(), Network: "n", IP6: rec.IP6.Addr()}); !errdefs.Is(err, errdefs.Forbidden) {
		t.Error("the address is given out again:", err)
	}
	must(t, s2.Release(context.Background(), rec.ContainerID))
	n, err := s2.find("n")
	must(t, err)
	eventually(t, "no neighbours are left", func() bool {
		known, err := s2.host.Neighbours(n.link.Index())
		must(t, err)
		return len(known) == 0
	})
}

// TestIPv6BesideTheBridge: endpoints without a bridge port reach the same and are
// reached by the same.
func TestIPv6BesideTheBridge(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	makeNetwork(t, s, six("n", "fd01::/64"))
	s.maxPorts = 1
	var all []*Endpoint
	for range 3 {
		e := attachTo(t, s, "n", Request{})
		serve(t, e.NetNS, "tcp", "[::]:80")
		all = append(all, e)
	}
	if all[0].Beside || !all[1].Beside || !all[2].Beside {
		t.Fatal(all[0].Beside, all[1].Beside, all[2].Beside)
	}
	for _, x := range all {
		wantAnswer(t, "host", nil, "tcp", "["+x.IP6.Addr().String()+"]:80", "fd01::1")
		for _, y := range all {
			if x != y {
				wantAnswer(t, "sibling", x.NetNS, "tcp", "["+y.IP6.Addr().String()+"]:80", x.IP6.Addr().String())
			}
		}
	}
	serve(t, world, "tcp", "[2001:db8::2]:80")
	wantAnswer(t, "world", all[2].NetNS, "tcp", "[2001:db8::2]:80", "2001:db8::1")
	publish(t, s, all[1], Port{Proto: "tcp", Container: 80, Host: 8080})
	wantAnswer(t, "published", world, "tcp", "[2001:db8::1]:8080", "2001:db8::2")
	if v, err := sysctl.Read("net/ipv6/conf/" + all[1].Link + "/accept_ra"); v != "0" || err != nil {
		t.Error(v, err)
	}
	// The address of one beside the bridge goes to one on it.
	ip := all[1].IP6.Addr()
	must(t, s.Release(context.Background(), all[1].ContainerID))
	must(t, s.Release(context.Background(), all[0].ContainerID))
	s.maxPorts = 10
	var e *Endpoint
	eventually(t, "the address is free", func() bool {
		var err error
		e, err = s.Attach(context.Background(), Request{ContainerID: ident.New(), Network: "n", IP6: ip})
		return err == nil
	})
	serve(t, e.NetNS, "tcp", "[::]:80")
	wantAnswer(t, "the same address on the bridge", all[2].NetNS, "tcp", "["+ip.String()+"]:80", all[2].IP6.Addr().String())
}

func TestNamesOfIPv6(t *testing.T) {
	s := openService(t, Config{DNS: []string{"127.0.0.1"}})
	makeNetwork(t, s, six("n", "10.1.0.0/24", "fd01::/64"))
	web := member(t, s, Request{Name: "web", Network: "n"})
	other := member(t, s, Request{Name: "other", Network: "n"})
	if got := resolve(t, other.NetNS, "fd01::2"); got != "web.n." {
		t.Error(got)
	}
	if got := resolve(t, other.NetNS, "fd01::99"); got != "NXDOMAIN" {
		t.Error(got)
	}
	if addrs, known := s.Addresses(other.ContainerID, "web"); !known || !slices.Equal(addrs, web.addrs()) || len(addrs) != 2 {
		t.Error(addrs, known)
	}
	f, err := s.Files([]*Endpoint{web}, FileOptions{Hostname: "h"})
	must(t, err)
	if !strings.Contains(string(f.Hosts), "10.1.0.2\th\nfd01::2\th\n") {
		t.Errorf("%s", f.Hosts)
	}
}

// TestDefaultNetworkWithIPv6: as the engine is told; an address that was chosen stays.
func TestDefaultNetworkWithIPv6(t *testing.T) {
	newNeighbour(t)
	gateway := func(cfg Config) string {
		t.Helper()
		cfg.EngineID, cfg.Default = "e1", true
		s, _ := reopen(t, cfg, nil, nil)
		defer func() { must(t, s.Close()) }()
		in, err := s.Inspect("bridge")
		must(t, err)
		if in.EnableIPv6 != (len(in.IPAM.Config) == 2) {
			t.Errorf("%+v", in)
		}
		if !in.EnableIPv6 {
			return ""
		}
		return in.IPAM.Config[1].Gateway.String()
	}
	dir := t.TempDir()
	if got := gateway(Config{Dir: dir, IPv6Auto: true}); got != "" {
		t.Error("on a host without a way out:", got)
	}
	chosen := gateway(Config{Dir: dir, IPv6: true})
	if !strings.HasPrefix(chosen, "fd") || !strings.HasSuffix(chosen, "::1") {
		t.Error(chosen)
	}
	if got := gateway(Config{Dir: dir, IPv6Auto: true}); got != chosen {
		t.Errorf("%s became %s", chosen, got)
	}
	fixed := Config{Dir: dir, IPv6: true, Subnet6: netip.MustParsePrefix("2001:db8:1::/64")}
	if got := gateway(fixed); got != "2001:db8:1::1" {
		t.Error(got)
	}
	if got := gateway(Config{Dir: dir}); got != "" {
		t.Error("turned off:", got)
	}
	c, err := netlink.Open()
	must(t, err)
	defer c.Close()
	var b netlink.Batch
	b.AddRoute(netlink.Route{Dst: netip.MustParsePrefix("::/0"), Gateway: networktest.NeighbourOut6.Addr(), Index: 100})
	must(t, c.Do(&b))
	if got := gateway(Config{Dir: dir, IPv6Auto: true}); !strings.HasPrefix(got, "fd") {
		t.Errorf("on a host with a way out: %q", got)
	}
	_, err = Open(Config{EngineID: "e1", Default: true, Dir: dir, IPv6: true, Subnet6: netip.MustParsePrefix("2001:db8::/56")})
	if err == nil || !strings.Contains(err.Error(), "overlaps") {
		t.Error(err)
	}
	s := openService(t, Config{Dir: dir, IPv6: true})
	e := attach(t, s)
	if !e.IP6.IsValid() || !e.Exit6 {
		t.Errorf("%+v", e.Record)
	}
}

// TestIPv6IsTurnedOff: who had it on the default network goes on by IPv4.
func TestIPv6IsTurnedOff(t *testing.T) {
	newNeighbour(t)
	cfg := Config{EngineID: "e9", Dir: t.TempDir(), IPv6: true}
	s, _ := reopen(t, cfg, nil, nil)
	e := attach(t, s)
	stop := process(t, e.NetNS)
	ns := dup(t, []*os.File{e.NetNS})[0]
	defer ns.Close()
	serve(t, e.NetNS, "tcp", ":80")
	publish(t, s, e, Port{Proto: "tcp", Container: 80, Host: 8080})
	held := dup(t, s.HeldSockets(e.ContainerID))
	abandon(t, s)
	cfg.IPv6 = false
	s, r := reopen(t, cfg, []Record{roundTrip(t, e.Record)}, held)
	defer func() { must(t, s.Destroy()); must(t, s.Close()) }()
	if len(r.Lost) > 0 || !slices.Contains(r.Unsure, e.ContainerID) || len(r.Removed) != 1 || !strings.Contains(r.Removed[0], "the default network has no IPv6 any more") {
		t.Errorf("%+v", r)
	}
	must(t, s.Settle(e.ContainerID, ns))
	if got := s.Endpoints(e.ContainerID)[0]; got.IP6.IsValid() || got.Exit6 || !got.Exit || len(got.Ports) != 2 {
		t.Errorf("%+v", got.Record)
	}
	in, err := socketIn(ns)
	must(t, err)
	defer in.Close()
	routes, err := in.Routes(int(v6))
	must(t, err)
	if slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Index == e.Iface }) {
		t.Errorf("left in the container: %v", routes)
	}
	wantAnyAnswer(t, "by IPv4", nil, "tcp", "127.0.0.1:8080")
	wantAnyAnswer(t, "carried to IPv4", nil, "tcp", "[::1]:8080")
	must(t, s.Release(context.Background(), e.ContainerID))
	stop()
}
