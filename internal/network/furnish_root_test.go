//go:build root

package network

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/linux/sysctl"
	"github.com/tare-engine/tare/internal/network/ipam"
)

// TestFurnishedLinks have parameters and link-local addresses, also those that come later
// and those of the drivers without an end at the host.
func TestFurnishedLinks(t *testing.T) {
	newNeighbour(t)
	s := openService(t, Config{})
	makeNetwork(t, s, six("net", "10.1.0.0/24", "fd01::/64"))
	makeNetwork(t, s, lan("lan", nil, "10.2.0.0/24", "fd02::/64"))
	makeNetwork(t, s, network.CreateRequest{Name: "four"})
	params, err := ParseSysctls("net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.ifname.accept_ra=2")
	must(t, err)
	r := Request{LinkLocal: []netip.Addr{netip.MustParseAddr("169.254.9.9"), netip.MustParseAddr("fe80::99")}, Sysctls: params}
	for _, name := range []string{"net", "lan"} {
		e := attachTo(t, s, name, r)
		furnished(t, e.NetNS, "eth0")
		first := attachTo(t, s, "four", Request{})
		more := r
		more.ContainerID, more.Network = first.ContainerID, name
		_, err := s.Connect(context.Background(), more, first.NetNS)
		must(t, err)
		furnished(t, first.NetNS, "eth1")
	}
	later := r
	later.ContainerID, later.Network, later.Later = ident.New(), "net", true
	e, err := s.Attach(context.Background(), later)
	must(t, err)
	ns, inside, err := s.newNS(true)
	must(t, err)
	defer ns.Close()
	inside.Close()
	_, err = s.Enter(context.Background(), e.ContainerID, ns)
	must(t, err)
	furnished(t, ns, "eth0")

	bad := Request{ContainerID: ident.New(), Network: "four", LinkLocal: r.LinkLocal}
	if _, err := s.Attach(context.Background(), bad); !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), "no addresses of IPv6: link-local address fe80::99") {
		t.Error(err)
	}
	bad.LinkLocal, bad.Sysctls = nil, []Sysctl{{"net.ipv4.conf.IFNAME.nosuch", "1"}}
	if _, err := s.Attach(context.Background(), bad); !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), "no such parameter of the link eth0") {
		t.Error(err)
	}
	if len(s.Endpoints(bad.ContainerID)) > 0 {
		t.Error("it is attached all the same")
	}
	for _, text := range []string{"", "net.ipv4.conf.eth0.x=1", "net.ipv4.conf.IFNAME.x", "kernel.x.y.IFNAME.z=1", "net.ipv4.conf.IFNAME.a/b=1", "net.ipv4.ip_forward=1", "net.ipv4.conf.IFNAME.x=1\n2", "net.ipv4.conf.IFNAME.x=1,"} {
		if _, err := ParseSysctls(text); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func furnished(t *testing.T, ns *os.File, link string) {
	t.Helper()
	must(t, netns.Do(ns, func() error {
		for name, want := range map[string]string{"net/ipv4/conf/" + link + "/log_martians": "1", "net/ipv6/conf/" + link + "/accept_ra": "2"} {
			if v, err := sysctl.Read(name); err != nil || v != want {
				t.Errorf("%s = %s, %v", name, v, err)
			}
		}
		return nil
	}))
	c, err := socketIn(ns)
	must(t, err)
	defer c.Close()
	l, _, err := c.LinkByName(link)
	must(t, err)
	addrs, err := c.Addrs(l.Index)
	must(t, err)
	have := map[string]bool{}
	for _, a := range addrs {
		have[a.String()] = true
	}
	if !have["169.254.9.9/16"] || !have["fe80::99/64"] {
		t.Error(addrs)
	}
}

// TestPoolsAndDefaults: subnets come from the engine's pools, and networks have its options
// as far as they do not say otherwise.
func TestPoolsAndDefaults(t *testing.T) {
	pools := []ipam.Range{{Base: netip.MustParsePrefix("10.10.0.0/16"), Size: 24}, {Base: netip.MustParsePrefix("fd00:1::/48"), Size: 64}}
	s := openService(t, Config{Pools: pools, Options: map[string]map[string]string{"bridge": {optionMTU: "1400", optionICC: "false"}}})
	makeNetwork(t, s, six("net"))
	makeNetwork(t, s, network.CreateRequest{Name: "own", Options: map[string]string{optionMTU: "1300", "x": "y"}})
	makeNetwork(t, s, network.CreateRequest{Name: "config", ConfigOnly: true, Options: map[string]string{optionMTU: "1200"}})
	makeNetwork(t, s, network.CreateRequest{Name: "made", ConfigFrom: &network.ConfigReference{Network: "config"}})
	for name, want := range map[string]map[string]string{
		"net": {optionMTU: "1400", optionICC: "false"}, "own": {optionMTU: "1300", optionICC: "false", "x": "y"}, "made": {optionMTU: "1200", optionICC: "false"},
		"bridge": {optionMTU: "1500", optionICC: "true"},
	} {
		in, err := s.Inspect(name)
		must(t, err)
		for key, value := range want {
			if in.Options[key] != value {
				t.Errorf("%s: %s=%s", name, key, in.Options[key])
			}
		}
	}
	in, err := s.Inspect("net")
	must(t, err)
	if in.IPAM.Config[0].Subnet.String() != "10.10.1.0/24" || in.IPAM.Config[1].Subnet.String() != "fd00:1::/64" {
		t.Errorf("%+v", in.IPAM)
	}
	attachTo(t, s, "net", Request{})
	in, err = s.Inspect("net")
	must(t, err)
	if got := in.Status.IPAM.Subnets[in.IPAM.Config[0].Subnet]; got.IPsInUse != 4 || got.DynamicIPsAvailable != 252 {
		t.Errorf("%+v", got)
	}
	if in, err = s.Inspect("host"); err != nil || in.Status != nil {
		t.Errorf("%+v, %v", in.Status, err)
	}
	four, err := Open(Config{EngineID: "e2", Dir: t.TempDir(), Link: "none", Pools: pools[1:]})
	must(t, err)
	defer four.Close()
	if _, err := four.Create(network.CreateRequest{Name: "x"}); err == nil || !strings.Contains(err.Error(), "all predefined address pools have been fully subnetted") {
		t.Error(err)
	}
	for driver, options := range map[string]map[string]string{"nosuch": {"a": "b"}, "bridge": {optionMTU: "x"}, "macvlan": {optionMacvlanMode: "x"}} {
		if bad, err := Open(Config{EngineID: "e3", Dir: t.TempDir(), Options: map[string]map[string]string{driver: options}}); err == nil {
			bad.Close()
			t.Error(driver, options)
		}
	}
}

func TestIPAMDrivers(t *testing.T) {
	s := openService(t, Config{})
	null := func(subnets ...string) *network.IPAM { i := six("", subnets...).IPAM; i.Driver = "null"; return i }
	for text, r := range map[string]network.CreateRequest{
		"ipv4 pool is empty": {Name: "x", IPAM: null()},
		"null ipam driver does not handle specific address pool requests": {Name: "x", IPAM: null("10.1.0.0/24")},
		`plugin "foo" not found`: {Name: "x", IPAM: &network.IPAM{Driver: "foo"}},
		"cannot create a swarm scoped network when swarm is not active":                          {Name: "x", Scope: "swarm"},
		`This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to co`: {Name: "x", Scope: "global"},
		"Ingress network can only be global scope network":                                       {Name: "x", Ingress: true},
	} {
		if _, err := s.Create(r); err == nil || !strings.HasPrefix(err.Error(), text) {
			t.Errorf("%v, want %s", err, text)
		}
	}
	makeNetwork(t, s, network.CreateRequest{Name: "opts", IPAM: &network.IPAM{Driver: "default", Options: map[string]string{"foo": "bar"}}})
	if in, err := s.Inspect("opts"); err != nil || in.IPAM.Options["foo"] != "bar" || in.IPAM.Driver != "default" {
		t.Errorf("%+v, %v", in.IPAM, err)
	}
}

// TestSysctlsThatLeaveNoWayOut are the request's fault, and leave nothing.
func TestSysctlsThatLeaveNoWayOut(t *testing.T) {
	s := openService(t, Config{})
	makeNetwork(t, s, network.CreateRequest{Name: "six", EnableIPv6: new(true), IPAM: subnet("fd01::/64")})
	first := attach(t, s)
	before := len(links(t, s.cfg.EngineID))
	_, err := s.Connect(context.Background(), Request{
		ContainerID: first.ContainerID, Name: "c", Network: "six", Sysctls: []Sysctl{{"net.ipv6.conf.IFNAME.disable_ipv6", "1"}},
	}, first.NetNS)
	if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), "network six: the sysctls of the endpoint leave no way out by IPv6") {
		t.Error(err)
	}
	if n := len(s.Endpoints(first.ContainerID)); n != 1 {
		t.Errorf("%d endpoints", n)
	}
	eventually(t, "the link is gone", func() bool { return len(links(t, s.cfg.EngineID)) == before })
}
