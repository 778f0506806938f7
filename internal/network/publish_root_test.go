//go:build root

package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/linux/sysctl"
	"github.com/tare-engine/tare/internal/network/bridge"
	"github.com/tare-engine/tare/internal/network/firewall"
	"github.com/tare-engine/tare/internal/network/networktest"
)

func publish(t *testing.T, s *Service, e *Endpoint, ports ...Port) []Port {
	t.Helper()
	got, err := s.Publish(context.Background(), e.ContainerID, ports)
	must(t, err)
	return got
}

func TestPublishedPort(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	a, b := attach(t, s), attach(t, s)
	for _, proto := range []string{"tcp", "udp"} {
		serve(t, a.NetNS, proto, "0.0.0.0:80")
		publish(t, s, a, Port{Proto: proto, Container: 80, Host: 8080})
		wantAnswer(t, "outside", world, proto, "192.0.2.1:8080", "192.0.2.2")
		wantAnswer(t, "loopback", nil, proto, "127.0.0.1:8080", "172.17.0.1")
		wantAnswer(t, "host's own address", nil, proto, "192.0.2.1:8080", "192.0.2.1")
		wantAnswer(t, "hairpin of a sibling", b.NetNS, proto, "192.0.2.1:8080", "172.17.0.1")
		wantAnswer(t, "hairpin of itself", a.NetNS, proto, "192.0.2.1:8080", "172.17.0.1")
		wantAnswer(t, "gateway", b.NetNS, proto, "172.17.0.1:8080", "172.17.0.1")
	}
	must(t, s.Release(context.Background(), a.ContainerID))
	wantNoAnswer(t, "released", world, "tcp", "192.0.2.1:8080")
	wantNoAnswer(t, "released", nil, "tcp", "127.0.0.1:8080")
}

func TestPublishedOnOneAddress(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	a, b := attach(t, s), attach(t, s)
	serve(t, a.NetNS, "tcp", "0.0.0.0:80")
	publish(t, s, a, Port{Proto: "tcp", Container: 80, Host: 81, HostIP: netip.MustParseAddr("127.0.0.1")},
		Port{Proto: "tcp", Container: 80, Host: 82, HostIP: networktest.HostOut.Addr()})
	wantAnswer(t, "loopback", nil, "tcp", "127.0.0.1:81", "172.17.0.1")
	wantAnswer(t, "one address", world, "tcp", "192.0.2.1:82", "192.0.2.2")
	wantNoAnswer(t, "loopback port on the outer address", world, "tcp", "192.0.2.1:81")
	wantNoAnswer(t, "loopback port from a container", b.NetNS, "tcp", "172.17.0.1:81")
	wantNoAnswer(t, "one address on loopback", nil, "tcp", "127.0.0.1:82")
}

// A neighbour with every route it could have reaches nothing that is not
// published.
func TestNeighbourReachesNothingUnpublished(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	e := attach(t, s)
	serve(t, e.NetNS, "tcp", "0.0.0.0:80")
	serve(t, e.NetNS, "udp", "0.0.0.0:80")
	publish(t, s, e, Port{Proto: "tcp", Container: 80, Host: 8080, HostIP: netip.MustParseAddr("127.0.0.1")})
	wantAnswer(t, "host", nil, "tcp", "127.0.0.1:8080", "172.17.0.1")
	networktest.RouteToHost(t, world, "172.17.0.0/16")
	networktest.RouteLoopbackToHost(t, world)
	for _, addr := range []string{"172.17.0.2:80", "127.0.0.1:8080", "192.0.2.1:8080"} {
		wantNoAnswer(t, "neighbour", world, "tcp", addr)
		wantNoAnswer(t, "neighbour", world, "udp", addr)
	}
}

// TestUnprotectedNetwork: machines outside reach all of its containers' ports, those of
// other networks none.
func TestUnprotectedNetwork(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	makeNetwork(t, s, network.CreateRequest{Name: "open", IPAM: subnet("10.1.0.0/24"), Options: map[string]string{optionMode: "nat-unprotected"}})
	e, other := attachTo(t, s, "open", Request{}), attach(t, s)
	serve(t, e.NetNS, "tcp", "0.0.0.0:80")
	networktest.RouteToHost(t, world, "10.1.0.0/24")
	wantAnswer(t, "neighbour", world, "tcp", "10.1.0.2:80", "192.0.2.2")
	wantNoAnswer(t, "container of another network", other.NetNS, "tcp", "10.1.0.2:80")
	serve(t, world, "tcp", "192.0.2.2:81")
	wantAnswer(t, "out, with the host's address", e.NetNS, "tcp", "192.0.2.2:81", "192.0.2.1")
	must(t, s.Release(context.Background(), e.ContainerID))
}

func TestTakenPort(t *testing.T) {
	s := openService(t, Config{})
	a, b := attach(t, s), attach(t, s)
	must(t, loUp())
	publish(t, s, a, Port{Proto: "tcp", Container: 80, Host: 8080})
	prefix := "failed to set up container networking: driver failed programming external connectivity on endpoint c (" + b.EndpointID + "): "
	want := func(p Port, text string) {
		t.Helper()
		_, err := s.Publish(context.Background(), b.ContainerID, []Port{{Proto: "tcp", Container: 1, Host: 7001}, p})
		if err == nil || err.Error() != prefix+text || !errdefs.Is(err, errdefs.Conflict) {
			t.Errorf("%+v: %v", p, err)
		}
	}
	want(Port{Proto: "tcp", Container: 80, Host: 8080}, "Bind for 0.0.0.0:8080 failed: port is already allocated")
	want(Port{Proto: "tcp", Container: 80, Host: 8080, HostIP: netip.MustParseAddr("127.0.0.1")}, "Bind for 127.0.0.1:8080 failed: port is already allocated")
	l, err := net.Listen("tcp", "0.0.0.0:9090")
	must(t, err)
	defer l.Close()
	want(Port{Proto: "tcp", Container: 80, Host: 9090}, "failed to bind host port 0.0.0.0:9090/tcp: address already in use")
	want(Port{Proto: "tcp", Container: 80, Host: 9091, HostIP: netip.MustParseAddr("203.0.113.9")}, "failed to bind host port 203.0.113.9:9091/tcp: cannot assign requested address")
	want(Port{Proto: "tcp", Container: 80, HostIP: netip.MustParseAddr("203.0.113.9")}, "failed to bind host port 203.0.113.9:"+itoa(uintptr(first()))+"/tcp: cannot assign requested address")
	if _, err := s.Publish(context.Background(), b.ContainerID, []Port{{Proto: "sctp", Container: 80, HostIP: netip.IPv6Loopback()}}); !errdefs.Is(err, errdefs.InvalidArgument) {
		t.Error(err)
	}
	if len(b.Ports) != 0 || len(s.HeldSockets(b.ContainerID)) != 0 {
		t.Errorf("a failed publish left %v", b.Ports)
	}
	publish(t, s, b, Port{Proto: "udp", Container: 80, Host: 8080}, Port{Proto: "tcp", Container: 1, Host: 7001})
}

func first() uint16 { begin, _ := clientPorts(); return begin }

func loUp() error {
	c, err := netlink.Open()
	if err != nil {
		return err
	}
	defer c.Close()
	var b netlink.Batch
	b.SetUp(1)
	return c.Do(&b)
}

func TestChosenPorts(t *testing.T) {
	s := openService(t, Config{})
	a := attach(t, s)
	begin, _ := clientPorts()
	got := publish(t, s, a, Port{Proto: "tcp", Container: 80}, Port{Proto: "tcp", Container: 81}, Port{Proto: "udp", Container: 80},
		Port{Proto: "tcp", Container: 82, Host: 8000, HostEnd: 8005}, Port{Proto: "tcp", Container: 83, Host: 8000, HostEnd: 8005})
	var hosts []uint16
	for _, p := range got {
		if p.HostIP.Is4() {
			hosts = append(hosts, p.Host)
		}
	}
	want := []uint16{begin, begin + 1, begin, 8000, 8001}
	for i := range want {
		if hosts[i] != want[i] {
			t.Fatalf("got %v, want %v", hosts, want)
		}
	}
	again := publish(t, s, a, Port{Proto: "tcp", Container: 80})
	if again[0] != got[0] || len(a.Ports) != 2*len(want) {
		t.Errorf("publishing again: %v, %v", again, a.Ports)
	}
}

func TestRulesAreRestored(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	e := attach(t, s)
	serve(t, e.NetNS, "tcp", "0.0.0.0:80")
	publish(t, s, e, Port{Proto: "tcp", Container: 80, Host: 8080}, Port{Proto: "tcp", Container: 80, Host: 8081, HostIP: networktest.HostOut.Addr()})
	for _, change := range []string{
		"flush ruleset",
		"flush chain inet tare forward",
		"flush map inet tare ports",
		"delete chain inet tare to-tare0",
		"add rule inet tare forward drop",
	} {
		if strings.HasPrefix(change, "delete") {
			change = "flush map inet tare to; flush chain inet tare to-tare0; " + change
		}
		before := allRules(t)
		nft(t, change)
		eventually(t, change+" is undone, the rules are\n"+before, func() bool { return allRules(t) == before })
		wantAnswer(t, change, world, "tcp", "192.0.2.1:8080", "192.0.2.2")
		wantAnswer(t, change, world, "tcp", "192.0.2.1:8081", "192.0.2.2")
	}
}

func TestAdministratorsChainIsKept(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	e := attach(t, s)
	serve(t, e.NetNS, "tcp", "0.0.0.0:80")
	publish(t, s, e, Port{Proto: "tcp", Container: 80, Host: 8080})
	nft(t, "add rule inet tare tare-user ip saddr 192.0.2.2 drop")
	wantNoAnswer(t, "tare-user drops", world, "tcp", "192.0.2.1:8080")
	nft(t, "flush chain inet tare forward")
	eventually(t, "the chain is restored", func() bool {
		return strings.Contains(nft(t, "list", "chain", "inet", "tare", "forward"), "jump tare-user")
	})
	wantNoAnswer(t, "tare-user drops after restoring", world, "tcp", "192.0.2.1:8080")
	chain := func() string { t.Helper(); return nft(t, "-a", "list", "chain", "inet", "tare", "tare-user") }
	before := chain()
	_, err := s.Create(network.CreateRequest{Name: "n"})
	must(t, err)
	must(t, s.Release(context.Background(), e.ContainerID))
	again := openService(t, Config{Dir: t.TempDir()}) // as after a restart
	_, err = s.Remove("n")
	must(t, err)
	if after := chain(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	nft(t, "flush ruleset")
	eventually(t, "the chain comes first, without rules", func() bool {
		rules := allRules(t)
		at := strings.Index(rules, "jump tare-user")
		return strings.Contains(rules, "chain tare-user {") && at > 0 && at < strings.Index(rules, "vmap @to")
	})
	e = attach(t, again)
	serve(t, e.NetNS, "tcp", "0.0.0.0:80")
	publish(t, again, e, Port{Proto: "tcp", Container: 80, Host: 8081})
	wantAnswer(t, "its rules went with the flush", world, "tcp", "192.0.2.1:8081", "192.0.2.2")
}

// Turning forwarding on for containers does not make the host a router.
func TestHostDoesNotBecomeRouter(t *testing.T) {
	world := newNeighbour(t)
	must(t, sysctl.Write("net/ipv4/ip_forward", "0"))
	dir := t.TempDir()
	s := openService(t, Config{Dir: dir})
	if !s.guarded[4] || s.guarded[6] {
		t.Fatal("no guard")
	}
	other := openService(t, Config{EngineID: "e2"}) // another engine's traffic is not ours to drop
	if other.guarded[4] {
		t.Fatal("the second engine did not turn forwarding on")
	}
	serve(t, world, "tcp", "192.0.2.2:80")
	for _, s := range []*Service{s, other} {
		if _, err := askFor(20*time.Second, attach(t, s).NetNS, "tcp", "192.0.2.2:80"); err != nil {
			t.Errorf("engine %s: %v", s.cfg.EngineID, err)
		}
	}
	if !strings.Contains(nft(t, "list", "chain", "inet", "tare", "forward"), "iifgroup") {
		t.Error("no rule")
	}
}

// TestGuardSparesBridgesOfOthers: where the filter sees what stays on bridges, two
// machines on one that is no engine's go on reaching each other, and the guard drops what
// they send through the host.
func TestGuardSparesBridgesOfOthers(t *testing.T) {
	if !filterBridges(t, "iptables", true) {
		t.Skip("this kernel has no br_netfilter")
	}
	world := newNeighbour(t)
	must(t, sysctl.Write("net/ipv4/ip_forward", "0"))
	early := newOtherBridge(t, 200, "198.51.100.")
	s := openService(t, Config{})
	if !s.guarded[4] {
		t.Fatal("no guard")
	}
	late := newOtherBridge(t, 210, "203.0.113.")
	serve(t, world, "tcp", "192.0.2.2:80")
	for name, seg := range map[string]otherBridge{"early": early, "late": late} {
		serve(t, seg.b, "tcp", "0.0.0.0:80")
		if _, err := askFor(20*time.Second, seg.a, "tcp", seg.subnet+"3:80"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		must(t, netns.Do(world, func() error { return exec.Command("ip", "route", "add", seg.subnet+"0/24", "via", "192.0.2.1").Run() }))
		if got, err := askFor(time.Second, seg.a, "tcp", "192.0.2.2:80"); err == nil {
			t.Errorf("%s: forwarded to the world: %s", name, got)
		}
	}
	nft(t, "flush ruleset")
	eventually(t, "the rules are restored with both", func() bool {
		return strings.Count(allRules(t), "\"segment") == 4
	})
	var b netlink.Batch
	b.DelLink(200)
	must(t, s.host.Do(&b))
	eventually(t, "a bridge that is gone is forgotten", func() bool { return !slices.Contains(s.wall.Bridges(), 200) })
	if err := s.wall.Apply(firewall.State{Networks: s.rules(), Guard: s.guarded}); err != nil {
		t.Error(err)
	}
}

// otherBridge is a bridge of another program with two machines, and the host, on it.
type otherBridge struct {
	a, b   *os.File
	subnet string // its first three numbers
}

// newOtherBridge makes one whose links have indexes from one on.
func newOtherBridge(t *testing.T, index int, subnet string) otherBridge {
	t.Helper()
	host, err := netlink.Open()
	must(t, err)
	defer host.Close()
	m := netns.NewMaker(1)
	defer m.Close()
	name := fmt.Sprint("segment", index)
	must(t, exec.Command("ip", "link", "add", name, "index", fmt.Sprint(index), "type", "bridge").Run())
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", name).Run() })
	must(t, exec.Command("ip", "addr", "add", subnet+"1/24", "dev", name).Run())
	must(t, exec.Command("ip", "link", "set", name, "up").Run())
	seg := otherBridge{subnet: subnet}
	for i, ns := range []**os.File{&seg.a, &seg.b} {
		var in *netlink.Conn
		*ns, err = m.New(func() (err error) { in, err = netlink.Open(); return })
		must(t, err)
		t.Cleanup(func() { (*ns).Close() })
		defer in.Close()
		var h, n, c netlink.Batch
		h.AddVeth(netlink.Veth{Name: fmt.Sprint(name, "p", i), Index: index + 1 + i, Master: index, PeerName: "eth0", PeerIndex: 2, PeerNS: int((*ns).Fd())})
		must(t, host.Do(&h))
		n.SetUp(1)
		n.AddAddr(2, netlink.Addr{Prefix: netip.MustParsePrefix(fmt.Sprint(subnet, i+2, "/24"))})
		n.SetUp(2)
		n.AddRoute(netlink.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr(subnet + "1"), Index: 2})
		must(t, in.Do(&n))
		c.Settle(index + 1 + i)
		c.Settle(index)
		must(t, host.Do(&c))
	}
	return seg
}

// A client that never stops sending from one port follows the published port
// to another container.
func TestUDPClientFollowsPublishedPort(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	var c net.Conn
	must(t, netns.Do(world, func() (err error) { c, err = net.Dial("udp", "192.0.2.1:5300"); return }))
	defer c.Close()
	c.Write([]byte("nobody there yet"))
	answered := func() bool {
		c.Write([]byte("x"))
		c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, err := c.Read(make([]byte, 100))
		return err == nil
	}
	if answered() {
		t.Error("answered by nobody")
	}
	for range 2 {
		e := attach(t, s)
		serve(t, e.NetNS, "udp", "0.0.0.0:53")
		publish(t, s, e, Port{Proto: "udp", Container: 53, Host: 5300})
		eventually(t, "answer", answered)
		must(t, s.Release(context.Background(), e.ContainerID))
		eventually(t, "silence", func() bool { return !answered() })
	}
}

// TestContainersAreKeptApart, but for what they publish, whether bridges are filtered or not,
// and where the host has no address on the bridge too.
func TestContainersAreKeptApart(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{NoICC: true})
	quiet := six("quiet", "10.1.0.0/24")
	quiet.EnableIPv6 = new(false)
	quiet.Options = map[string]string{optionICC: "false", optionInhibit: "true"}
	makeNetwork(t, s, quiet)
	for i, filtered := range []bool{false, true} {
		if !filterBridges(t, "iptables", filtered) {
			t.Log("this kernel has no br_netfilter")
		}
		a, b := attachTo(t, s, "quiet", Request{}), attachTo(t, s, "quiet", Request{})
		serve(t, b.NetNS, "tcp", "0.0.0.0:80")
		wantNoAnswer(t, "sibling on the bridge", a.NetNS, "tcp", b.IP.Addr().String()+":80")
		a, b = attach(t, s), attach(t, s)
		serve(t, b.NetNS, "tcp", "0.0.0.0:80")
		publish(t, s, b, Port{Proto: "tcp", Container: 80, Host: uint16(8080 + i)})
		for _, e := range []*Endpoint{a, b} {
			wantAnswer(t, "published", e.NetNS, "tcp", fmt.Sprint("192.0.2.1:", 8080+i), "172.17.0.1")
		}
		outside := fmt.Sprint("192.0.2.2:", 80+i)
		serve(t, world, "tcp", outside)
		wantNoAnswer(t, "sibling", a.NetNS, "tcp", b.IP.Addr().String()+":80")
		wantAnswer(t, "host", nil, "tcp", b.IP.Addr().String()+":80", "172.17.0.1")
		wantAnswer(t, "world", a.NetNS, "tcp", outside, "192.0.2.1")
	}
}

// A bridge of the host's is left alone, whatever its name and group.
func TestBridgeOfTheHost(t *testing.T) {
	ip := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("ip %q: %v: %s", args, err, out)
		}
		return string(out)
	}
	newNeighbour(t)
	ip("link", "add", "brx", "type", "bridge")
	defer ip("link", "del", "brx")
	ip("addr", "add", "10.77.0.1/24", "dev", "brx")
	for _, group := range []string{"0", strconv.Itoa(bridge.Group)} {
		ip("link", "set", "brx", "group", group)
		before := ip("addr", "show", "brx")
		if s, err := Open(Config{EngineID: "e1", Link: "brx", Dir: t.TempDir()}); !errors.Is(err, bridge.ErrForeign) {
			t.Errorf("group %s: %v, %v", group, s, err)
		}
		if after := ip("addr", "show", "brx"); after != before {
			t.Errorf("it was\n%s, and is\n%s", before, after)
		}
	}
}

// Published ports do not depend on br_netfilter, which hosts have on and off.
func TestHairpinWithoutBridgeFilter(t *testing.T) {
	newNeighbour(t)
	if !filterBridges(t, "iptables", false) {
		t.Skip("this kernel has no br_netfilter to turn off")
	}
	s := openService(t, Config{})
	a, b := attach(t, s), attach(t, s)
	serve(t, a.NetNS, "tcp", "0.0.0.0:80")
	publish(t, s, a, Port{Proto: "tcp", Container: 80, Host: 8080})
	for _, e := range []*Endpoint{a, b} {
		wantAnswer(t, "hairpin", e.NetNS, "tcp", "192.0.2.1:8080", "172.17.0.1")
		wantAnswer(t, "gateway", e.NetNS, "tcp", "172.17.0.1:8080", "172.17.0.1")
	}
}
