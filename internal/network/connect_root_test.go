//go:build root

package network

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/netns"
)

// inNetworks makes three networks and a container on the first.
func inNetworks(t *testing.T, s *Service) *Endpoint {
	t.Helper()
	for i, name := range []string{"b", "a", "c"} {
		_, err := s.Create(network.CreateRequest{Name: name, IPAM: subnet(fmt.Sprintf("10.1.%d.0/24", i)), Internal: name == "c"})
		must(t, err)
	}
	e, err := s.Attach(context.Background(), Request{ContainerID: ident.New(), Name: "me", Network: "b"})
	must(t, err)
	t.Cleanup(func() {
		must(t, s.Release(context.Background(), e.ContainerID))
		for _, name := range []string{"a", "b", "c"} {
			_, err := s.Remove(name)
			must(t, err)
		}
	})
	return e
}

// expectExit checks where the container's default route leads.
func expectExit(t *testing.T, s *Service, e *Endpoint, want string) {
	t.Helper()
	in, err := socketIn(e.NetNS)
	must(t, err)
	defer in.Close()
	routes, err := in.Routes(4)
	must(t, err)
	var found []string
	for _, r := range routes {
		if r.Dst.Bits() == 0 {
			found = append(found, fmt.Sprint(r.Index))
		}
	}
	got, exit := []string{}, s.exitOf(e.ContainerID, v4)
	if exit != nil {
		got = append(got, fmt.Sprint(exit.Iface))
	}
	if !slices.Equal(got, found) || (exit == nil) != (want == "") || exit != nil && exit.NetworkName != want {
		t.Errorf("default route by %v, exit %+v, want %q", found, exit, want)
	}
}

func TestConnectMovesTheWayOut(t *testing.T) {
	s := openService(t, Config{})
	e := inNetworks(t, s)
	ns := e.NetNS
	connect := func(name string, r Request) *Endpoint {
		t.Helper()
		r.ContainerID, r.Name, r.Network = e.ContainerID, "me", name
		got, err := s.Connect(context.Background(), r, ns)
		must(t, err)
		return got
	}
	expectExit(t, s, e, "b")
	connect("c", Request{})
	expectExit(t, s, e, "b")
	a := connect("a", Request{IP: netip.MustParseAddr("10.1.1.77")})
	expectExit(t, s, e, "a")
	if a.Iface != 4 || a.IP.Addr().String() != "10.1.1.77" {
		t.Errorf("%+v", a)
	}
	if _, err := s.Connect(context.Background(), Request{ContainerID: e.ContainerID, Name: "me", Network: "a"}, ns); !errdefs.Is(err, errdefs.Forbidden) || err.Error() != "endpoint with name me already exists in network a" {
		t.Errorf("twice: %v", err)
	}
	for _, name := range []string{"host", "none", "nosuch"} {
		if _, err := s.Connect(context.Background(), Request{ContainerID: e.ContainerID, Network: name}, ns); err == nil {
			t.Errorf("connected to %s", name)
		}
	}
	must(t, s.Disconnect(e.ContainerID, "a", ns))
	expectExit(t, s, e, "b")
	must(t, s.Disconnect(e.ContainerID, "b", ns))
	expectExit(t, s, e, "")
	if err := s.Disconnect(e.ContainerID, "b", ns); !errdefs.Is(err, errdefs.Forbidden) || err.Error() != "container "+e.ContainerID+" is not connected to network b" {
		t.Errorf("twice: %v", err)
	}
	connect("bridge", Request{})
	expectExit(t, s, e, "bridge")
	connect("b", Request{Priority: -1})
	expectExit(t, s, e, "bridge")
	connect("a", Request{Priority: 1})
	expectExit(t, s, e, "a")
	if n := len(s.Endpoints(e.ContainerID)); n != 4 {
		t.Error(n)
	}
}

// TestLinksOfOthersInTheNamespace: a tunnel of the container's root, or of the kernel's, has the
// number or the name that a link would have.
func TestLinksOfOthersInTheNamespace(t *testing.T) {
	s := openService(t, Config{})
	e := inNetworks(t, s)
	foreign := func(ns *os.File, name string) {
		t.Helper()
		must(t, netns.Do(ns, func() error { shell(t, "ip link add "+name+" type bridge"); return nil }))
	}
	connect := func(name string, r Request, wantName string, wantIface int) {
		t.Helper()
		r.ContainerID, r.Name, r.Network = e.ContainerID, "me", name
		got, err := s.Connect(context.Background(), r, e.NetNS)
		must(t, err)
		if got.IfaceName != wantName || got.Iface != wantIface {
			t.Errorf("%s, number %d; want %s, %d", got.IfaceName, got.Iface, wantName, wantIface)
		}
	}
	foreign(e.NetNS, "tun0")
	connect("a", Request{}, "eth1", 4)
	foreign(e.NetNS, "eth2")
	if _, err := s.Connect(context.Background(), Request{ContainerID: e.ContainerID, Network: "c", IfaceName: "eth2"}, e.NetNS); !errdefs.Is(err, errdefs.Conflict) {
		t.Error(err)
	}
	connect("c", Request{}, "eth3", 6)
	expectExit(t, s, e, "a")

	later, err := s.Attach(context.Background(), Request{ContainerID: ident.New(), Name: "later", Network: "b", Later: true})
	must(t, err)
	ns, inside, err := s.newNS(false)
	must(t, err)
	defer ns.Close()
	must(t, inside.Close())
	foreign(ns, "tunl0")
	records, err := s.Enter(context.Background(), later.ContainerID, ns)
	must(t, err)
	if r := records[0]; r.IfaceName != "eth0" || r.Iface != 3 {
		t.Errorf("%+v", r)
	}
	second, err := s.Connect(context.Background(), Request{ContainerID: later.ContainerID, Network: "a"}, ns)
	must(t, err)
	if second.IfaceName != "eth1" {
		t.Errorf("%+v", second.Record)
	}
	must(t, s.Release(context.Background(), later.ContainerID))
}

// TestPublishedPortsMove with the way out: they are reached all the time.
func TestPublishedPortsMove(t *testing.T) {
	newNeighbour(t) // with it loopback is up
	s := openService(t, Config{})
	e := inNetworks(t, s)
	ns := e.NetNS
	serve(t, ns, "tcp", ":80")
	_, err := s.Publish(context.Background(), e.ContainerID, []Port{{Proto: "tcp", Container: 80, Host: 8080}})
	must(t, err)
	reached := func() {
		t.Helper()
		if _, err := askFor(20*time.Second, nil, "tcp", "127.0.0.1:8080"); err != nil {
			t.Error(err)
		}
	}
	reached()
	_, err = s.Connect(context.Background(), Request{ContainerID: e.ContainerID, Name: "me", Network: "a"}, ns)
	must(t, err)
	reached()
	must(t, s.Disconnect(e.ContainerID, "b", ns))
	reached()
	must(t, s.Disconnect(e.ContainerID, "a", ns))
	if _, err := ask(nil, "tcp", "127.0.0.1:8080"); err == nil {
		t.Error("a port of a container without a way out is published")
	}
	if held := s.HeldSockets(e.ContainerID); len(held) != 1 { // for both families
		t.Error("somebody else may take the port")
	}
	if _, err := ask(nil, "tcp", "[::1]:8080"); err == nil {
		t.Error("a port of a container without a way out is served on ::1")
	}
	_, err = s.Connect(context.Background(), Request{ContainerID: e.ContainerID, Name: "me", Network: "a"}, ns)
	must(t, err)
	_, err = s.Publish(context.Background(), e.ContainerID, []Port{{Proto: "tcp", Container: 80, Host: 8080}})
	must(t, err)
	reached()
	if _, err := askFor(20*time.Second, nil, "tcp", "[::1]:8080"); err != nil {
		t.Error(err)
	}
}

// TestConnectedIsAdopted: an engine that was killed finds all endpoints of a
// container, and goes on where the way out was.
func TestConnectedIsAdopted(t *testing.T) {
	cfg := Config{EngineID: "e1", Default: true, Dir: t.TempDir()}
	s1, _ := reopen(t, cfg, nil, nil)
	_, err := s1.Create(network.CreateRequest{Name: "a"})
	must(t, err)
	e, err := s1.Attach(context.Background(), Request{ContainerID: ident.New(), Name: "me"})
	must(t, err)
	ns, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", e.NetNS.Fd()))
	must(t, err)
	defer ns.Close()
	_, err = s1.Connect(context.Background(), Request{ContainerID: e.ContainerID, Name: "me", Network: "a"}, ns)
	must(t, err)
	var records []Record
	for _, e := range s1.Endpoints(e.ContainerID) {
		records = append(records, e.Record)
	}
	must(t, s1.Close())
	s2, r := reopen(t, cfg, records, nil)
	defer func() { must(t, s2.Close()) }()
	if r.Adopted != 2 || len(r.Lost) > 0 || len(r.Removed) > 0 {
		t.Errorf("%+v", r)
	}
	if x := s2.exitOf(e.ContainerID, v4); x == nil || x.NetworkName != "a" {
		t.Errorf("%+v", x)
	}
	must(t, s2.Disconnect(e.ContainerID, "a", ns))
	if x := s2.exitOf(e.ContainerID, v4); x == nil || x.NetworkName != "bridge" {
		t.Errorf("%+v", x)
	}
	must(t, s2.Release(context.Background(), e.ContainerID))
	_, err = s2.Remove("a")
	must(t, err)
	must(t, s2.Destroy())
}

// TestSettleAfterAKill: the engine was killed between the endpoint of a better way
// out and the move to it.
func TestSettleAfterAKill(t *testing.T) {
	cfg := Config{EngineID: "e1", Default: true, Dir: t.TempDir()}
	s1, _ := reopen(t, cfg, nil, nil)
	_, err := s1.Create(network.CreateRequest{Name: "a"})
	must(t, err)
	first, err := s1.Attach(context.Background(), Request{ContainerID: ident.New(), Name: "me"})
	must(t, err)
	ns, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", first.NetNS.Fd()))
	must(t, err)
	defer ns.Close()
	second, err := s1.Connect(context.Background(), Request{ContainerID: first.ContainerID, Name: "me", Network: "a"}, ns)
	must(t, err)
	must(t, s1.reroute(first.ContainerID, v4, first, ns)) // as it was before the move
	before, after := first.Record, second.Record
	before.Exit, after.Exit = true, false
	must(t, s1.Close())

	s2 := openAdopted(t, cfg, before, after)
	must(t, s2.Settle(first.ContainerID, ns))
	expectExit(t, s2, &Endpoint{Record: before, NetNS: ns}, "a")
	must(t, s2.Release(context.Background(), first.ContainerID))
	_, err = s2.Remove("a")
	must(t, err)
}

// TestAddressOfTheLastRun: a container that asks for an address has it again at
// once, though the kernel may not yet have removed the link of its last run.
func TestAddressOfTheLastRun(t *testing.T) {
	s := openService(t, Config{})
	_, err := s.Create(network.CreateRequest{Name: "n", IPAM: subnet("10.1.0.0/24")})
	must(t, err)
	r := Request{ContainerID: ident.New(), Name: "c", Network: "n", IP: netip.MustParseAddr("10.1.0.9")}
	for range 30 {
		e, err := s.Attach(context.Background(), r)
		must(t, err)
		if e.IP.Addr() != r.IP {
			t.Fatal(e.IP)
		}
		must(t, s.Release(context.Background(), r.ContainerID))
	}
	_, err = s.Remove("n")
	must(t, err)
}
