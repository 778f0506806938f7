//go:build root

package network

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	mdnetlink "github.com/mdlayher/netlink"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/network/bridge"
)

func subnet(s string) *network.IPAM {
	return &network.IPAM{Config: []network.IPAMConfig{{Subnet: netip.MustParsePrefix(s)}}}
}

// bridges are the names of the bridges there are.
func bridges(t *testing.T, s *Service) (names []string) {
	t.Helper()
	links, err := s.host.Links()
	must(t, err)
	for _, l := range links {
		if l.Kind == "bridge" {
			names = append(names, l.Name)
		}
	}
	slices.Sort(names)
	return names
}

// TestMadeNetworksSurviveTheEngine opens a service on what a killed one left: a
// network with a container, and the beginning and the end of two others.
func TestMadeNetworksSurviveTheEngine(t *testing.T) {
	cfg := Config{EngineID: "e1", Default: true, Dir: t.TempDir()}
	s1, _ := reopen(t, cfg, nil, nil)
	id, err := s1.Create(network.CreateRequest{
		Name: "n", IPAM: subnet("10.1.0.0/24"), Labels: map[string]string{"a": "b"}, Options: map[string]string{optionICC: "false"}, Internal: true,
	})
	must(t, err)
	e, err := s1.Attach(context.Background(), Request{ContainerID: ident.New(), Name: "c", Network: "n", IP: netip.MustParseAddr("10.1.0.9")})
	must(t, err)
	process(t, e.NetNS)
	cut, err := s1.Create(network.CreateRequest{Name: "cut", Options: map[string]string{optionName: "cut0"}})
	must(t, err)
	must(t, os.Remove(s1.recordFile(cut))) // as if the kill had come before the record, or a removal's link
	before, err := s1.Inspect(id)
	must(t, err)
	must(t, s1.Close())

	s2, r := reopen(t, cfg, []Record{e.Record}, nil)
	defer func() { must(t, s2.Close()) }()
	if r.Adopted != 1 || len(r.Lost) > 0 || !slices.Contains(r.Removed, "bridge cut0") {
		t.Errorf("%+v", r)
	}
	if got := bridges(t, s2); !slices.Equal(got, []string{"br-" + ident.Short(id), "tare0"}) {
		t.Error(got)
	}
	after, err := s2.Inspect("n")
	must(t, err)
	if asJSON(t, after) != asJSON(t, before) {
		t.Errorf("%s\n%s", asJSON(t, before), asJSON(t, after))
	}
	if _, err := s2.Attach(context.Background(), Request{ContainerID: ident.New(), Network: "n", IP: e.IP.Addr()}); !errdefs.Is(err, errdefs.Forbidden) {
		t.Errorf("the same address: %v", err)
	}
	if _, err := s2.Remove("n"); !errdefs.Is(err, errdefs.Forbidden) {
		t.Errorf("in use: %v", err)
	}
	must(t, s2.Release(context.Background(), e.ContainerID))
	_, err = s2.Remove("n")
	must(t, err)
	must(t, s2.Destroy())
	if left, _ := filepath.Glob(cfg.Dir + "/*.json"); len(left) != len(predefined) {
		t.Error(left)
	}
	if got := bridges(t, s2); len(got) > 0 {
		t.Error(got)
	}
}

// TestContainersEndWhileTheyAreAdopted: their links may go at any moment of it.
func TestContainersEndWhileTheyAreAdopted(t *testing.T) {
	cfg := Config{EngineID: "e1", Dir: t.TempDir()}
	s1, _ := reopen(t, cfg, nil, nil)
	_, err := s1.Create(network.CreateRequest{Name: "n", IPAM: subnet("10.1.0.0/24"), Options: map[string]string{optionICC: "false"}})
	must(t, err)
	var records []Record
	for range 40 {
		e, err := s1.Attach(context.Background(), Request{ContainerID: ident.New(), Name: "c", Network: "n"})
		must(t, err)
		records = append(records, e.Record)
	}
	must(t, s1.Close()) // drops the namespaces: the kernel removes the links, one after the other
	s2, r := reopen(t, cfg, records, nil)
	defer func() { must(t, errors.Join(s2.Destroy(), s2.Close())) }()
	if len(r.Lost) > 0 || r.Adopted != len(records) {
		t.Errorf("%+v", r)
	}
	for _, rec := range records {
		must(t, s2.Release(context.Background(), rec.ContainerID))
	}
	eventually(t, "all addresses are free", func() bool {
		n, err := s2.find("n")
		must(t, err)
		return s2.leaving.ports(n) == 0 && len(s2.beside()) == 0
	})
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	must(t, err)
	return string(b)
}

// TestDamagedRecordOfANetwork: one damaged record damages one network.
func TestDamagedRecordOfANetwork(t *testing.T) {
	cfg := Config{EngineID: "e1", Default: true, Dir: t.TempDir()}
	s := openService(t, cfg)
	good, err := s.Create(network.CreateRequest{Name: "good"})
	must(t, err)
	bad, err := s.Create(network.CreateRequest{Name: "bad"})
	must(t, err)
	must(t, os.WriteFile(s.recordFile(bad), []byte("{"), 0600))
	again, _ := reopen(t, cfg, nil, nil)
	defer again.Close()
	if _, err := again.Inspect(good); err != nil {
		t.Error(err)
	}
	if _, err := again.Inspect("bad"); !errdefs.Is(err, errdefs.NotFound) {
		t.Error(err)
	}
}

// TestNetworkOfUnreadableOptions: what this version cannot read of a network is
// kept, and the network can be seen and removed.
func TestNetworkOfUnreadableOptions(t *testing.T) {
	cfg := Config{EngineID: "e1", Default: true, Dir: t.TempDir()}
	s := openService(t, cfg)
	id, err := s.Create(network.CreateRequest{Name: "n"})
	must(t, err)
	n, err := s.find(id)
	must(t, err)
	rec := n.rec
	rec.Options = map[string]string{optionMTU: "large"}
	must(t, s.putRecord(rec))
	again, _ := reopen(t, cfg, nil, nil)
	defer again.Close()
	if in, err := again.Inspect("n"); err != nil || in.ID != id {
		t.Error(in.ID, err)
	}
	if err := again.Check(Request{Network: "n"}); !errdefs.Is(err, errdefs.NotFound) {
		t.Error(err)
	}
	_, err = again.Remove("n")
	must(t, err)
}

// TestConfigurationsSurviveTheEngine: a network made from one too, and its being in use.
func TestConfigurationsSurviveTheEngine(t *testing.T) {
	cfg := Config{EngineID: "e1", Default: true, Dir: t.TempDir()}
	s1, err := Open(cfg)
	must(t, err)
	_, err = s1.Create(network.CreateRequest{Name: "src", ConfigOnly: true, IPAM: subnet("10.1.0.0/24"), EnableIPv4: new(true)})
	must(t, err)
	_, err = s1.Create(network.CreateRequest{Name: "made", ConfigFrom: &network.ConfigReference{Network: "src"}})
	must(t, err)
	must(t, s1.Close())
	s2 := openAdopted(t, cfg)
	src, err := s2.Inspect("src")
	must(t, err)
	made, err := s2.Inspect("made")
	must(t, err)
	if !src.ConfigOnly || made.ConfigFrom.Network != "src" || made.IPAM.Config[0].Subnet != netip.MustParsePrefix("10.1.0.0/24") {
		t.Errorf("%+v %+v", src.Network, made.Network)
	}
	if err := s2.Check(Request{Network: "src"}); !errdefs.Is(err, errdefs.Forbidden) {
		t.Error(err)
	}
	if _, err := s2.Remove("src"); !errdefs.Is(err, errdefs.Forbidden) {
		t.Error(err)
	}
	for _, name := range []string{"made", "src"} {
		_, err := s2.Remove(name)
		must(t, err)
	}
}

// TestSubnetsOfNoHosts are refused.
func TestSubnetsOfNoHosts(t *testing.T) {
	for _, p := range []string{"10.1.2.3/32", "127.1.0.0/24", "224.0.0.0/24", "0.0.0.0/8", "240.0.0.0/8"} {
		if err := checkIPAM(subnet(p).Config[0]); !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), "invalid subnet "+p) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// TestNetworkThatCannotBeBroughtUp: its link has become another program's. It is
// there all the same, so that it can be removed and its name is not given twice.
func TestNetworkThatCannotBeBroughtUp(t *testing.T) {
	cfg := Config{EngineID: "e1", Default: true, Dir: t.TempDir()}
	s1, _ := reopen(t, cfg, nil, nil)
	_, err := s1.Create(network.CreateRequest{Name: "n", IPAM: subnet("10.1.0.0/24"), Options: map[string]string{optionName: "odd0"}})
	must(t, err)
	e, err := s1.Attach(context.Background(), Request{ContainerID: ident.New(), Name: "c", Network: "n"})
	must(t, err)
	defer e.NetNS.Close()
	ns, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", e.NetNS.Fd()))
	must(t, err)
	defer ns.Close()
	must(t, s1.Close())

	c, err := netlink.Open()
	must(t, err)
	defer c.Close()
	l, _, err := c.LinkByName("odd0")
	must(t, err)
	var b netlink.Batch
	b.DelLink(l.Index)
	b.AddBridge("odd0", l.MAC, defaultMTU, 0)
	must(t, c.Do(&b))

	s2 := openAdopted(t, cfg, e.Record)
	if _, err := s2.Create(network.CreateRequest{Name: "n"}); !errdefs.Is(err, errdefs.Conflict) {
		t.Errorf("of the same name: %v", err)
	}
	if _, err := s2.Attach(context.Background(), Request{ContainerID: ident.New(), Network: "n"}); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("attach: %v", err)
	}
	must(t, s2.Settle(e.ContainerID, ns))
	must(t, s2.Release(context.Background(), e.ContainerID))
	_, err = s2.Remove("n")
	must(t, err)
	if got := bridges(t, s2); !slices.Equal(got, []string{"odd0", "tare0"}) {
		t.Error(got)
	}
	l, _, err = c.LinkByName("odd0")
	must(t, err)
	b = netlink.Batch{}
	b.DelLink(l.Index)
	must(t, c.Do(&b))
}

// openAdopted opens a service that takes over from another one.
func openAdopted(t *testing.T, cfg Config, records ...Record) *Service {
	t.Helper()
	s, err := Open(cfg)
	must(t, err)
	t.Cleanup(func() { must(t, errors.Join(s.Destroy(), s.Close())) })
	r, err := s.Adopt(context.Background(), records, nil)
	must(t, err)
	if r.Adopted != len(records) || len(r.Lost) > 0 {
		t.Errorf("%+v", r)
	}
	return s
}

// TestNetworksAreMadeAndRemovedBesideContainers has containers come and go while
// their network does: each gets its place or is told that there is none.
func TestNetworksAreMadeAndRemovedBesideContainers(t *testing.T) {
	s := openService(t, Config{})
	before := bridges(t, s)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 15 {
				e, err := s.Attach(context.Background(), Request{ContainerID: ident.New(), Name: "c", Network: "n"})
				if errdefs.Is(err, errdefs.NotFound) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if err := s.Release(context.Background(), e.ContainerID); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 30 {
		if _, err := s.Create(network.CreateRequest{Name: "n", IPAM: subnet("10.1.0.0/24")}); err != nil && !errdefs.Is(err, errdefs.Conflict) {
			t.Error(err)
		}
		if _, err := s.Remove("n"); err != nil && !errdefs.Is(err, errdefs.Forbidden) {
			t.Error(err)
		}
	}
	wg.Wait()
	if _, err := s.Remove("n"); err != nil && !errdefs.Is(err, errdefs.NotFound) {
		t.Error(err)
	}
	if got := bridges(t, s); !slices.Equal(got, before) {
		t.Error(got)
	}
}

// TestHundredsOfNetworks get subnets of their own, which are no route of the host's.
func TestHundredsOfNetworks(t *testing.T) {
	c, err := netlink.Open()
	must(t, err)
	defer c.Close()
	var b netlink.Batch
	b.SetUp(1)
	b.AddRoute(netlink.Route{Dst: netip.MustParsePrefix("172.18.0.0/15"), Index: 1})
	must(t, c.Do(&b))
	s := openService(t, Config{})
	var all []netip.Prefix
	for i := range 120 {
		id, err := s.Create(network.CreateRequest{Name: fmt.Sprint("n", i)})
		must(t, err)
		n, err := s.Inspect(id)
		must(t, err)
		all = append(all, n.IPAM.Config[0].Subnet)
	}
	for i, p := range all {
		if strings.HasPrefix(p.String(), "172.18.") || strings.HasPrefix(p.String(), "172.19.") {
			t.Error("a route of the host's:", p)
		}
		for _, other := range all[:i] {
			if other.Overlaps(p) {
				t.Errorf("%s and %s", p, other)
			}
		}
	}
	var d netlink.Batch
	d.DelRoute(netlink.Route{Dst: netip.MustParsePrefix("172.18.0.0/15"), Index: 1})
	must(t, c.Do(&d))
}

func TestSettings(t *testing.T) {
	id := ident.New()
	for _, c := range []struct{ name, value, err string }{
		{optionName, "a/b", "failed to parse com.docker.network.bridge.name value: a/b"},
		{optionName, "longer-than-a-link", "at most 15 bytes"},
		{optionMTU, "70000", "invalid MTU number: 70000"},
		{optionMTU, "x", "failed to parse com.docker.network.driver.mtu value: x"},
		{optionHostIP, "::1", "failed to parse com.docker.network.bridge.host_binding_ipv4 value: ::1 (nil ip)"},
		{optionSource, "::1", "failed to parse com.docker.network.host_ipv4 value: ::1 (not an address of IPv4 that a host has)"},
		{optionSource6, "x", "failed to parse com.docker.network.host_ipv6 value: x"},
		{optionMode, "x", "failed to parse com.docker.network.bridge.gateway_mode_ipv4 value: x (unknown gateway mode x)"},
		{optionMode6, "routed", ""},
		{optionInhibit, "x", "failed to parse com.docker.network.bridge.inhibit_ipv4 value: x"},
		{optionTrusted, "eth0::eth1", "failed to parse com.docker.network.bridge.trusted_host_interfaces value: eth0::eth1"},
		{optionTrusted, "vxlan.1:eth3", ""},
		{optionIfaces, "", "failed to parse com.docker.network.container_iface_prefix value"},
		{optionIfaces, "longer-than-a-link", "at most 15 bytes"},
		{optionPrefix + "nosuch", "1", "not implemented"},
		{"com.example.option", "1", ""},
		{optionMasquerade, "0", ""},
	} {
		_, err := bridgeSettings(id, map[string]string{c.name: c.value})
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s=%s: %v", c.name, c.value, err)
		}
	}
}

// TestContainersGoOutWithAnAddressThatIsChosen, by either family.
func TestContainersGoOutWithAnAddressThatIsChosen(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	shell(t, "ip addr add 192.0.2.77/24 dev out0; ip addr add 2001:db8::77/64 dev out0 nodad")
	six := true
	makeNetwork(t, s, network.CreateRequest{Name: "chosen", EnableIPv6: &six, Options: map[string]string{optionSource: "192.0.2.77", optionSource6: "2001:db8::77"}})
	e := attachTo(t, s, "chosen", Request{})
	serve(t, world, "tcp", "[::]:80")
	wantAnswer(t, "IPv4", e.NetNS, "tcp", "192.0.2.2:80", "192.0.2.77")
	wantAnswer(t, "IPv6", e.NetNS, "tcp", "[2001:db8::2]:80", "2001:db8::77")
}

// TestNetworksComeAndGoAlone: a network adds its chains, sets and elements to the
// table, in one transaction, and takes them along; all other rules stay the ones
// that they were.
func TestNetworksComeAndGoAlone(t *testing.T) {
	s := openService(t, Config{})
	_, err := s.Create(network.CreateRequest{Name: "stays", IPAM: subnet("10.2.0.0/24"), Internal: true})
	must(t, err)
	for _, internal := range []bool{true, false, true} {
		before, gen := nft(t, "-a", "list", "ruleset"), generation(t)
		_, err := s.Create(network.CreateRequest{Name: "n", IPAM: subnet("10.1.0.0/24"), Internal: internal})
		must(t, err)
		with := nft(t, "-a", "list", "ruleset")
		if with == before {
			t.Error("no rules of the network")
		}
		for line := range strings.Lines(before) {
			if strings.Contains(line, "# handle") && !strings.Contains(with, line) {
				t.Errorf("is not there any more: %s", line)
			}
		}
		if got := generation(t); got != gen+1 {
			t.Errorf("%d transactions", got-gen)
		}
		_, err = s.Remove("n")
		must(t, err)
		if after := nft(t, "-a", "list", "ruleset"); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		if got := generation(t); got != gen+2 {
			t.Errorf("%d transactions", got-gen)
		}
	}
}

// generation counts the transactions of all.
func generation(t *testing.T) uint32 {
	t.Helper()
	c, err := mdnetlink.Dial(unix.NETLINK_NETFILTER, nil)
	must(t, err)
	defer c.Close()
	got, err := c.Execute(mdnetlink.Message{
		Header: mdnetlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: mdnetlink.Request},
		Data:   []byte{unix.AF_UNSPEC, 0, 0, 0},
	})
	must(t, err)
	d, err := mdnetlink.NewAttributeDecoder(got[0].Data[4:])
	must(t, err)
	d.ByteOrder = binary.BigEndian
	for d.Next() {
		if d.Type() == unix.NFTA_GEN_ID {
			return d.Uint32()
		}
	}
	t.Fatal("no generation")
	return 0
}

// TestTableOfManyChangesIsTheWholeOne: what came bit by bit is what is written at
// once after a flush, and by the next engine.
func TestTableOfManyChangesIsTheWholeOne(t *testing.T) {
	cfg := Config{EngineID: "e1", Default: true, Dir: t.TempDir()}
	s1, _ := reopen(t, cfg, nil, nil)
	for i := range 6 {
		_, err := s1.Create(network.CreateRequest{Name: fmt.Sprint("n", i), Internal: i%2 == 0, IPAM: subnet(fmt.Sprintf("10.1.%d.0/24", i)),
			Options: map[string]string{optionName: fmt.Sprint("odd", i)}})
		must(t, err)
	}
	for _, name := range []string{"n2", "n3"} {
		_, err := s1.Remove(name)
		must(t, err)
	}
	bits := allRules(t)
	if !strings.Contains(bits, "10.1.4.0/23 : jump") && !strings.Contains(bits, "10.1.4.0/24 : jump sources-odd4") {
		t.Errorf("the networks are not there:\n%s", bits)
	}
	nft(t, "flush ruleset")
	eventually(t, "the rules are restored:\n"+bits, func() bool { return allRules(t) == bits })
	_, err := s1.Create(network.CreateRequest{Name: "n2", IPAM: subnet("10.1.2.0/24"), Options: map[string]string{optionName: "odd2"}})
	must(t, err)
	_, err = s1.Remove("n2")
	must(t, err)
	must(t, s1.Close())
	openAdopted(t, cfg)
	if got := allRules(t); got != bits {
		t.Errorf("before:\n%s\nafter:\n%s", bits, got)
	}
}

// TestNetworkComesAfterAFlush: the table is gone at the moment of the change.
func TestNetworkComesAfterAFlush(t *testing.T) {
	s := openService(t, Config{})
	for _, what := range []string{"create", "remove"} {
		nft(t, "flush ruleset")
		if what == "create" {
			_, err := s.Create(network.CreateRequest{Name: "n", IPAM: subnet("10.1.0.0/24")})
			must(t, err)
		} else {
			_, err := s.Remove("n")
			must(t, err)
		}
		if got := strings.Contains(allRules(t), "10.1.0.0/24"); got != (what == "create") || !strings.Contains(allRules(t), "to-tare0") {
			t.Errorf("%s: %s", what, allRules(t))
		}
	}
}

// TestTooSmallPackets: a network whose links the kernel would not have is refused, and a bridge
// that cannot be finished is gone.
func TestTooSmallPackets(t *testing.T) {
	s := openService(t, Config{})
	newNeighbour(t)
	for _, c := range []struct {
		driver, mtu string
		ipv6        bool
		want        string
	}{
		{"bridge", "67", false, "invalid MTU number: 67: want 68 to 65535 bytes, or 0 for the default"},
		{"bridge", "1279", true, "invalid MTU number: 1279: want 1280 to 65535 bytes, or 0 for the default"},
		{"macvlan", "1", false, "invalid MTU number: 1: want 68 to 65535 bytes, or 0 for the default"},
		{"bridge", "68", false, ""}, {"bridge", "1280", true, ""}, {"bridge", "0", true, ""},
	} {
		_, err := s.Create(network.CreateRequest{Name: "n", Driver: c.driver, EnableIPv6: &c.ipv6, Options: map[string]string{optionMTU: c.mtu}})
		if c.want == "" {
			must(t, err)
			_, err := s.Remove("n")
			must(t, err)
		} else if !errdefs.Is(err, errdefs.InvalidArgument) || err.Error() != c.want {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{MTU: 1279, IPv6: true, Subnet6: netip.MustParsePrefix("fd01::/64")}, "1279: want 1280 to 65535 bytes"},
		{Config{Options: map[string]map[string]string{"macvlan": {optionMTU: "67"}}}, "macvlan: invalid MTU number: 67: want 68 to 65535 bytes"},
	} {
		c.cfg.EngineID, c.cfg.Default, c.cfg.Dir = "e2", true, t.TempDir()
		if _, err := Open(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.want, err)
		}
	}
	_, err := bridge.Ensure(s.host, bridge.Options{Name: "half", MTU: 1279, Gateways: []netip.Prefix{netip.MustParsePrefix("fd01::1/64")}})
	if _, there, lerr := s.host.LinkByName("half"); err == nil || lerr != nil || there {
		t.Errorf("half a bridge: %v, %v, %v", there, err, lerr)
	}
}
