//go:build root

package network

import (
	"context"
	"errors"
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
	"github.com/tare-engine/tare/internal/linux/sysctl"
	"github.com/tare-engine/tare/internal/network/networktest"
	"github.com/tare-engine/tare/internal/network/vlan"
)

// lan is a request for a macvlan network that hangs on the link to the neighbour.
func lan(name string, options map[string]string, subnets ...string) network.CreateRequest {
	r := six(name, subnets...)
	r.EnableIPv6 = new(slices.ContainsFunc(subnets, func(s string) bool { return strings.Contains(s, ":") }))
	r.Driver, r.Options = vlan.Macvlan, map[string]string{optionParent: "out0"}
	for k, v := range options {
		r.Options[k] = v
	}
	return r
}

// TestMacvlan: containers are machines of the network that the host is in.
func TestMacvlan(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	r := lan("lan", nil, "192.0.2.0/24", "2001:db8::/64", "10.1.0.0/24")
	r.IPAM.Config[0].Gateway, r.IPAM.Config[0].IPRange = netip.MustParseAddr("192.0.2.2"), netip.MustParsePrefix("192.0.2.128/25")
	r.IPAM.Config[1].AuxAddress = map[string]netip.Addr{"world": networktest.NeighbourOut6.Addr()}
	makeNetwork(t, s, r)
	in, err := s.Inspect("lan")
	must(t, err)
	if in.Driver != "macvlan" || len(in.IPAM.Config) != 3 || in.IPAM.Config[0].Gateway.String() != "192.0.2.2" || in.IPAM.Config[1].Gateway.IsValid() || in.Options["parent"] != "out0" {
		t.Errorf("%+v", in.Network)
	}
	a, b := attachTo(t, s, "lan", Request{}), attachTo(t, s, "lan", Request{IP: netip.MustParseAddr("10.1.0.7")})
	if a.IP.String() != "192.0.2.128/24" || a.MAC.String() != "02:42:c0:00:02:80" || a.Gateway.String() != "192.0.2.2" || !a.Exit || a.Exit6 || a.IP6.String() != "2001:db8::3/64" {
		t.Errorf("%+v", a.Record)
	}
	if b.IP.String() != "10.1.0.7/24" || b.Exit {
		t.Errorf("%+v", b.Record)
	}
	_, err = s.Attach(context.Background(), Request{ContainerID: ident.New(), Network: "lan", IP: networktest.HostOut.Addr()})
	if !errdefs.Is(err, errdefs.Forbidden) || err.Error() != "network lan: Address already in use: 192.0.2.1 is the host's own on out0" {
		t.Error(err)
	}
	serve(t, world, "tcp", "[::]:80")
	wantAnswer(t, "container to neighbour", a.NetNS, "tcp", "192.0.2.2:80", "192.0.2.128")
	serve(t, a.NetNS, "tcp", "[::]:81")
	wantAnswer(t, "neighbour to container", world, "tcp", "192.0.2.128:81", "192.0.2.2")
	wantAnswer(t, "container to container", b.NetNS, "tcp", "[2001:db8::3]:81", b.IP6.Addr().String())
	wantNoAnswer(t, "the host is not there", nil, "tcp", "192.0.2.128:81")
	if got, err := s.Publish(context.Background(), a.ContainerID, []Port{{Proto: "tcp", Container: 81, Host: 8081}}); err != nil || len(got) > 0 {
		t.Error(got, err)
	}
	_, err = s.Explain(api.NetworkExplainOptions{To: a.ContainerID, Port: "81/tcp"}, func(string) int { return 0 })
	if !errdefs.Is(err, errdefs.InvalidArgument) || err.Error() != "container c is in the macvlan network lan only: its packets do not pass the host's firewall" {
		t.Error(err)
	}
	if _, err := s.Remove("lan"); !errdefs.Is(err, errdefs.Forbidden) {
		t.Error(err)
	}
	// Who has its address next has its hardware address too, as soon as its link is gone.
	for range 3 {
		must(t, s.Release(context.Background(), a.ContainerID))
		a = attachTo(t, s, "lan", Request{IP: netip.MustParseAddr("192.0.2.128")})
		wantAnswer(t, "again", a.NetNS, "tcp", "192.0.2.2:80", "192.0.2.128")
	}
	// A namespace that somebody keeps alive keeps neither address nor link.
	ns := dup(t, []*os.File{a.NetNS})[0]
	defer ns.Close()
	must(t, s.Release(context.Background(), a.ContainerID))
	if got := childrenIn(t, ns); len(got) > 0 {
		t.Error(got)
	}
	must(t, s.Release(context.Background(), b.ContainerID))
	_, err = s.Remove("lan")
	must(t, err)
	if l, ok, err := s.host.LinkByName("out0"); err != nil || !ok || l.Alias != "" {
		t.Errorf("%+v %v", l, err)
	}
}

// childrenIn are the names of the links in a namespace that hang on a parent.
func childrenIn(t *testing.T, ns *os.File) (names []string) {
	t.Helper()
	c, err := socketIn(ns)
	must(t, err)
	defer c.Close()
	links, err := c.Links()
	must(t, err)
	for _, l := range links {
		if onParent(l.Kind) {
			names = append(names, l.Name)
		}
	}
	return names
}

// TestMacvlanWithoutParent: its containers reach each other, and its link goes with it.
func TestMacvlanWithoutParent(t *testing.T) {
	s := openService(t, Config{})
	must(t, loUp())
	for _, internal := range []bool{false, true} {
		r := lan("cut", nil, "10.1.0.0/24")
		r.Internal, r.Options = internal, map[string]string{optionMTU: "1400", optionIfaces: "lan"}
		r.IPAM.Config[0].Gateway = netip.MustParseAddr("10.1.0.1")
		id, err := s.Create(r)
		must(t, err)
		own := "dm-" + ident.Short(id)
		l, ok, err := s.host.LinkByName(own)
		if err != nil || !ok || l.Alias != s.cfg.alias() || !l.Up {
			t.Fatalf("%+v %v", l, err)
		}
		a, b := attachTo(t, s, "cut", Request{}), attachTo(t, s, "cut", Request{})
		if a.Gateway.IsValid() == internal || a.Exit == internal || a.IP.String() != "10.1.0.2/24" || a.IfaceName != "lan0" {
			t.Errorf("%+v", a.Record)
		}
		must(t, netns.Do(a.NetNS, func() error {
			mtu, err := os.ReadFile("/proc/sys/net/ipv6/conf/lan0/mtu")
			if err == nil && strings.TrimSpace(string(mtu)) != "1400" {
				t.Errorf("MTU %s", mtu)
			}
			return nil
		}))
		serve(t, a.NetNS, "tcp", "0.0.0.0:80")
		wantAnswer(t, "container", b.NetNS, "tcp", "10.1.0.2:80", "10.1.0.3")
		var d netlink.Batch
		d.DelLink(l.Index) // takes those that hang on it with it
		must(t, s.host.Do(&d))
		c, e := attachTo(t, s, "cut", Request{}), attachTo(t, s, "cut", Request{})
		serve(t, c.NetNS, "tcp", "0.0.0.0:80")
		wantAnswer(t, "on the link made anew", e.NetNS, "tcp", c.IP.Addr().String()+":80", e.IP.Addr().String())
		for _, e := range []*Endpoint{a, b, c, e} {
			must(t, s.Release(context.Background(), e.ContainerID))
		}
		_, err = s.Remove("cut")
		must(t, err)
		if _, ok, err := s.host.LinkByName(own); ok || err != nil {
			t.Error("its link is left", err)
		}
	}
}

// TestMacvlanModes: private containers do not reach each other, and in passthru there is one.
func TestMacvlanModes(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	r := lan("private", map[string]string{optionMacvlanMode: "private"}, "192.0.2.0/24")
	r.IPAM.Config[0].IPRange = netip.MustParsePrefix("192.0.2.128/25")
	makeNetwork(t, s, r)
	a, b := attachTo(t, s, "private", Request{}), attachTo(t, s, "private", Request{})
	serve(t, a.NetNS, "tcp", "0.0.0.0:80")
	wantNoAnswer(t, "private", b.NetNS, "tcp", a.IP.Addr().String()+":80")
	wantAnswer(t, "neighbour", world, "tcp", a.IP.Addr().String()+":80", "192.0.2.2")
	makeNetwork(t, s, lan("vepa", map[string]string{optionMacvlanMode: "vepa"}, "10.2.0.0/24"))
	_, err := s.Create(lan("pass", map[string]string{optionMacvlanMode: "passthru"}, "10.1.0.0/24"))
	if err == nil || !strings.HasPrefix(err.Error(), "cannot use mode passthru, macvlan network ") || !strings.HasSuffix(err.Error(), " is already using parent interface out0") {
		t.Error(err)
	}
	for _, e := range []*Endpoint{a, b} {
		must(t, s.Release(context.Background(), e.ContainerID))
	}
	for _, name := range []string{"private", "vepa"} {
		_, err := s.Remove(name)
		must(t, err)
	}
	makeNetwork(t, s, lan("pass", map[string]string{optionMacvlanMode: "passthru"}, "10.1.0.0/24"))
	if _, err := s.Create(lan("x", nil, "10.3.0.0/24")); err == nil || !strings.HasSuffix(err.Error(), " is already using parent interface out0 in mode passthru") {
		t.Error(err)
	}
	for range 3 {
		c := attachTo(t, s, "pass", Request{})
		if _, err := s.Attach(context.Background(), Request{ContainerID: ident.New(), Network: "pass"}); !errdefs.Is(err, errdefs.Conflict) || !strings.Contains(err.Error(), "failed to create the macvlan port: invalid argument") {
			t.Error(err)
		}
		must(t, s.Release(context.Background(), c.ContainerID))
	}
}

// TestMacvlanBesideBridge: a container in both goes out by the one that comes first, and
// its ports are published while that is the bridge.
func TestMacvlanBesideBridge(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	r := lan("lan", nil, "192.0.2.0/24")
	r.IPAM.Config[0].Gateway, r.IPAM.Config[0].IPRange = networktest.NeighbourOut.Addr(), netip.MustParsePrefix("192.0.2.128/25")
	makeNetwork(t, s, r)
	makeNetwork(t, s, network.CreateRequest{Name: "net", IPAM: subnet("10.1.0.0/24")})
	serve(t, world, "tcp", "0.0.0.0:81")
	var b netlink.Batch
	b.AddAddr(1, netlink.Addr{Prefix: netip.MustParsePrefix("203.0.113.1/32")})
	must(t, netns.Do(world, func() error {
		c, err := netlink.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		return c.Do(&b)
	}))
	var h netlink.Batch
	h.AddRoute(netlink.Route{Dst: netip.MustParsePrefix("203.0.113.0/24"), Gateway: networktest.NeighbourOut.Addr(), Index: 100})
	must(t, s.host.Do(&h))
	e := attachTo(t, s, "net", Request{})
	serve(t, e.NetNS, "tcp", "0.0.0.0:80")
	publish(t, s, e, Port{Proto: "tcp", Container: 80, Host: 8080, HostIP: netip.IPv4Unspecified()})
	wantAnswer(t, "by the bridge", e.NetNS, "tcp", "203.0.113.1:81", "192.0.2.1")
	m, err := s.Connect(context.Background(), Request{ContainerID: e.ContainerID, Network: "lan", Priority: 1}, e.NetNS)
	must(t, err)
	wantAnswer(t, "by macvlan", e.NetNS, "tcp", "203.0.113.1:81", m.IP.Addr().String())
	wantNoAnswer(t, "nothing published", world, "tcp", "192.0.2.1:8080")
	must(t, s.Disconnect(e.ContainerID, "lan", e.NetNS))
	if got := childrenIn(t, e.NetNS); len(got) > 0 {
		t.Error(got)
	}
	wantAnswer(t, "by the bridge", e.NetNS, "tcp", "203.0.113.1:81", "192.0.2.1")
	publish(t, s, e, Port{Proto: "tcp", Container: 80, Host: 8080, HostIP: netip.IPv4Unspecified()})
	wantAnswer(t, "published again", world, "tcp", "192.0.2.1:8080", "192.0.2.2")
}

// TestMacvlanIsAdopted: of a killed engine the endpoints are found, and what it was about
// to connect or to make is removed.
func TestMacvlanIsAdopted(t *testing.T) {
	newNeighbour(t)
	cfg := Config{EngineID: "e1", Default: true, Dir: t.TempDir()}
	s, _ := reopen(t, cfg, nil, nil)
	makeNetwork(t, s, lan("lan", nil, "10.1.0.0/24"))
	makeNetwork(t, s, lan("more", nil, "10.2.0.0/24"))
	cut := lan("cut", nil, "10.3.0.0/24")
	cut.Options = nil
	id, err := s.Create(cut)
	must(t, err)
	e, gone := attachTo(t, s, "lan", Request{}), attachTo(t, s, "lan", Request{})
	ns := dup(t, []*os.File{e.NetNS})[0]
	defer ns.Close()
	stop := process(t, ns)
	defer stop()
	records := []Record{roundTrip(t, e.Record), roundTrip(t, gone.Record)}
	_, err = s.Connect(context.Background(), Request{ContainerID: e.ContainerID, Network: "more"}, ns)
	must(t, err)
	abandon(t, s)
	must(t, os.Remove(s.recordFile(id)))
	eventually(t, "the other namespace is gone", func() bool {
		ok, err := vlan.Own(hostConn(t), *records[1].Netns, s.hangs(gone))
		return err == nil && !ok
	})
	s2, r := reopen(t, cfg, records, nil)
	if r.Adopted != 2 || len(r.Lost) > 0 || !slices.Equal(r.Gone, []string{gone.ContainerID}) || !slices.Contains(r.Unsure, e.ContainerID) ||
		len(r.Removed) != 1 || !strings.HasSuffix(r.Removed[0], " dm-"+ident.Short(id)) {
		t.Errorf("%+v", r)
	}
	if got := childrenIn(t, ns); len(got) != 2 {
		t.Fatal(got)
	}
	must(t, s2.Settle(e.ContainerID, ns))
	if got := childrenIn(t, ns); !slices.Equal(got, []string{"eth0"}) {
		t.Error(got)
	}
	must(t, errors.Join(s2.Release(context.Background(), gone.ContainerID), s2.Release(context.Background(), e.ContainerID)))
	if got := childrenIn(t, ns); len(got) > 0 {
		t.Error(got)
	}
	must(t, errors.Join(s2.Destroy(), s2.Close()))
}

// hostConn is a socket in the host's namespace.
func hostConn(t *testing.T) *netlink.Conn {
	t.Helper()
	c, err := netlink.Open()
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// TestParentComesLater: a network whose parent is not there can be seen and removed, and
// its containers start when it is.
func TestParentComesLater(t *testing.T) {
	cfg := Config{EngineID: "e1", Default: true, Dir: t.TempDir()}
	t.Run("make", func(t *testing.T) {
		newNeighbour(t)
		s := openAdopted(t, cfg)
		makeNetwork(t, s, lan("lan", nil, "10.1.0.0/24"))
	})
	s := openAdopted(t, cfg)
	if in, err := s.Inspect("lan"); err != nil || in.Options["parent"] != "out0" {
		t.Error(in, err)
	}
	if _, err := s.Attach(context.Background(), Request{ContainerID: ident.New(), Network: "lan"}); !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), "out0") {
		t.Error(err)
	}
	newNeighbour(t)
	e, err := s.Attach(context.Background(), Request{ContainerID: ident.New(), Network: "lan"})
	must(t, err)
	must(t, s.Release(context.Background(), e.ContainerID))
	_, err = s.Remove("lan")
	must(t, err)
}

// TestMacvlanOnABridge: the bridge of a network is no less that network's for it.
func TestMacvlanOnABridge(t *testing.T) {
	s := openService(t, Config{})
	makeNetwork(t, s, lan("over", map[string]string{optionParent: "tare0"}, "10.1.0.0/24"))
	a, b := attachTo(t, s, "over", Request{}), attach(t, s)
	serve(t, b.NetNS, "tcp", "0.0.0.0:80")
	must(t, s.Release(context.Background(), a.ContainerID))
	_, err := s.Remove("over")
	must(t, err)
	wantAnswer(t, "on the bridge", nil, "tcp", b.IP.Addr().String()+":80", "172.17.0.1")
}

// TestVlanRequests are refused with Docker's words.
func TestVlanRequests(t *testing.T) {
	newNeighbour(t)
	s := openService(t, Config{})
	for _, c := range []struct{ option, value, want string }{
		{optionMacvlanMode, "foo", "requested macvlan mode 'foo' is not valid, 'bridge' mode is the macvlan driver default"},
		{optionParent, "lo", "loopback interface is not a valid macvlan parent link"},
		{optionParent, "nix", "invalid subinterface vlan name nix, example formatting is eth0.10"},
		{optionParent, "nix.5", "-o parent interface was not found on the host: nix"},
		{optionParent, "out0.x", "unable to parse a valid vlan id from: x (ex. eth0.10 for vlan 10)"},
		{optionParent, "out0.5000", "vlan id must be between 1-4094, received: 5000"},
		{optionParent, "a.b.3", "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received a.b.3"},
		{optionMTU, "x", "invalid MTU number: x"},
	} {
		if _, err := s.Create(lan("x", map[string]string{c.option: c.value}, "10.1.0.0/24")); !errdefs.Is(err, errdefs.InvalidArgument) || err.Error() != c.want {
			t.Errorf("%s=%s: %v", c.option, c.value, err)
		}
	}
	r := lan("x", map[string]string{optionIpvlanMode: "foo"}, "10.1.0.0/24")
	r.Driver = vlan.Ipvlan
	if _, err := s.Create(r); err == nil || err.Error() != "requested ipvlan mode 'foo' is not valid, 'l2' mode is the ipvlan driver default" {
		t.Error(err)
	}
}

// needKind skips where the kernel has no links of a kind, and checks that it is said.
func needKind(t *testing.T, s *Service, kind string, r network.CreateRequest) {
	t.Helper()
	has, err := s.host.HasKind(kind)
	must(t, err)
	if has {
		return
	}
	if _, err := s.Create(r); !errdefs.Is(err, errdefs.NotImplemented) || !strings.Contains(err.Error(), "the kernel has no ") {
		t.Error(err)
	}
	if links, err := s.host.Links(); err != nil || slices.ContainsFunc(links, func(l netlink.Link) bool { return l.Name == r.Options[optionParent] && l.Name != "out0" }) {
		t.Error(links, err)
	}
	t.Skip("the kernel has no links of the kind " + kind)
}

// TestVLANOfAParent is made with its network and goes with the last one that hangs on it.
func TestVLANOfAParent(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	r := lan("tagged", map[string]string{optionParent: "out0.7"}, "10.1.0.0/24")
	needKind(t, s, "vlan", r)
	makeNetwork(t, s, r)
	makeNetwork(t, s, lan("second", map[string]string{optionParent: "out0.7"}, "10.2.0.0/24"))
	e := attachTo(t, s, "tagged", Request{})
	must(t, netns.Do(world, func() error {
		c, err := netlink.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		var b netlink.Batch
		b.AddVLAN("eth0.7", 50, 2, 7)
		b.AddAddr(50, netlink.Addr{Prefix: netip.MustParsePrefix("10.1.0.100/24")})
		return c.Do(&b)
	}))
	serve(t, world, "tcp", "10.1.0.100:80")
	wantAnswer(t, "in the VLAN", e.NetNS, "tcp", "10.1.0.100:80", e.IP.Addr().String())
	must(t, s.Release(context.Background(), e.ContainerID))
	for i, name := range []string{"tagged", "second"} {
		_, err := s.Remove(name)
		must(t, err)
		if _, ok, err := s.host.LinkByName("out0.7"); err != nil || ok != (i == 0) {
			t.Error(name, ok, err)
		}
	}
	// One that is somebody else's stays, and what has the VLAN by another name.
	var b netlink.Batch
	b.AddVLAN("out0.8", 108, 100, 8)
	b.AddVLAN("mine9", 109, 100, 9)
	must(t, s.host.Do(&b))
	if _, err := s.Create(lan("x", map[string]string{optionParent: "out0.9"}, "10.1.0.0/24")); err == nil || err.Error() != "failed to create out0.9 vlan link: file exists" {
		t.Error(err)
	}
	makeNetwork(t, s, lan("other", map[string]string{optionParent: "out0.8"}, "10.1.0.0/24"))
	_, err := s.Remove("other")
	must(t, err)
	if _, ok, err := s.host.LinkByName("out0.8"); err != nil || !ok {
		t.Error(ok, err)
	}
}

// TestIpvlan: containers have the host's hardware address.
func TestIpvlan(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	for _, mode := range []string{"", "l2", "l3", "l3s"} {
		r := lan("ip", map[string]string{optionIpvlanMode: mode}, "192.0.2.0/24")
		r.Driver, r.IPAM.Config[0].IPRange = vlan.Ipvlan, netip.MustParsePrefix("192.0.2.128/25")
		needKind(t, s, vlan.Ipvlan, r)
		makeNetwork(t, s, r)
		if _, err := s.Create(lan("x", nil, "10.1.0.0/24")); err == nil || !strings.HasSuffix(err.Error(), " is already using parent interface out0") {
			t.Error(err)
		}
		if err := s.Check(Request{Network: "ip", MAC: make([]byte, 6)}); err == nil || err.Error() != "ipvlan interfaces do not support custom mac address assignment" {
			t.Error(err)
		}
		a, b := attachTo(t, s, "ip", Request{}), attachTo(t, s, "ip", Request{})
		if a.MAC != nil || a.IP.String() != "192.0.2.128/24" || a.Gateway.IsValid() || a.Exit != strings.HasPrefix(mode, "l3") {
			t.Errorf("%+v", a.Record)
		}
		serve(t, a.NetNS, "tcp", "0.0.0.0:80")
		wantAnswer(t, mode, b.NetNS, "tcp", "192.0.2.128:80", "192.0.2.129")
		if !strings.HasPrefix(mode, "l3") { // in those the neighbour would need a route
			wantAnswer(t, mode, world, "tcp", "192.0.2.128:80", "192.0.2.2")
		}
		for _, e := range []*Endpoint{a, b} {
			must(t, s.Release(context.Background(), e.ContainerID))
		}
		_, err := s.Remove("ip")
		must(t, err)
	}
}

// TestMacvlanKnowsIPv6OrNot as its network does, and believes no router.
func TestMacvlanKnowsIPv6OrNot(t *testing.T) {
	newNeighbour(t)
	s := openService(t, Config{})
	makeNetwork(t, s, lan("four", nil, "10.1.0.0/24"))
	makeNetwork(t, s, lan("six", nil, "10.2.0.0/24", "fd01::/64"))
	for name, want := range map[string]string{"four": "1", "six": "0"} {
		e := attachTo(t, s, name, Request{})
		must(t, netns.Do(e.NetNS, func() error {
			for key, want := range map[string]string{"disable_ipv6": want, "accept_ra": "0"} {
				if v, err := sysctl.Read("net/ipv6/conf/eth0/" + key); v != want || err != nil {
					t.Errorf("%s: %s = %s, %v", name, key, v, err)
				}
			}
			return nil
		}))
	}
}

// TestMacvlanMTU: it is not above the parent's, and a parent that is the network's own has it.
func TestMacvlanMTU(t *testing.T) {
	s := openService(t, Config{})
	shell(t, "ip link add up0 type veth peer name up1; ip link set up0 up")
	defer shell(t, "ip link del up0")
	wide := func(parent string) network.CreateRequest {
		r := lan("wide", nil, "10.1.0.0/24")
		r.Options = map[string]string{optionMTU: "9000"}
		if parent != "" {
			r.Options[optionParent] = parent
		}
		return r
	}
	parents := []string{"up0"}
	vlans, err := s.host.HasKind("vlan")
	must(t, err)
	if vlans {
		parents = append(parents, "up0.7")
	}
	for _, parent := range parents {
		_, err := s.Create(wide(parent))
		if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), "9000 is wanted, "+parent+" has 1500") {
			t.Error(err)
		}
	}
	if _, ok, err := s.host.LinkByName("up0.7"); err != nil || ok {
		t.Error("its link is left", err)
	}
	makeNetwork(t, s, wide(""))
	must(t, s.Release(context.Background(), attachTo(t, s, "wide", Request{}).ContainerID))
	_, err = s.Remove("wide")
	must(t, err)
}
