//go:build root

package network

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/network"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/hostport"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/network/ipam"
	"github.com/tare-engine/tare/internal/network/networktest"
)

// links lists the names of links that bear an engine's id.
func links(t *testing.T, engine string) []string {
	t.Helper()
	c, err := netlink.Open()
	must(t, err)
	defer c.Close()
	all, err := c.Links()
	must(t, err)
	var own []string
	for _, l := range all {
		if strings.HasPrefix(l.Alias, "tare:"+engine) {
			own = append(own, l.Name)
		}
	}
	return own
}

// left returns what a network has besides its bridge.
func left(t *testing.T, s *Service) (n int) {
	t.Helper()
	bridge := s.all()[0].link.Index()
	known, err := s.host.Neighbours(bridge)
	must(t, err)
	for _, a := range known {
		if a.Is4() {
			n++
		}
	}
	return n + len(links(t, s.cfg.EngineID)) - 1
}

// TestHardwareAddressOfTheGateway: who asks for it has cut himself off, and no one else.
func TestHardwareAddressOfTheGateway(t *testing.T) {
	s := openService(t, Config{})
	serve(t, nil, "tcp", "0.0.0.0:80")
	other := attach(t, s)
	e, err := s.Attach(context.Background(), Request{ContainerID: ident.New(), Name: "c", MAC: s.all()[0].link.MAC})
	must(t, err)
	wantAnswer(t, "beside it", other.NetNS, "tcp", "172.17.0.1:80", other.IP.Addr().String())
	must(t, s.Release(context.Background(), e.ContainerID))
	wantAnswer(t, "after it", other.NetNS, "tcp", "172.17.0.1:80", other.IP.Addr().String())
}

// A network is not full because the links of those who left it are not gone yet.
func TestAddressesThatLeaveAreFreeForTheNext(t *testing.T) {
	s := openService(t, Config{})
	_, err := s.Create(network.CreateRequest{Name: "small", IPAM: subnet("10.91.0.0/29")})
	must(t, err)
	all := map[string]*Endpoint{}
	for i := range 20 {
		e, err := s.Attach(context.Background(), Request{ContainerID: ident.New(), Network: "small"})
		if err != nil {
			t.Fatalf("endpoint %d: %v", i, err)
		}
		all[e.ContainerID] = e
		for id, e := range all {
			if len(all) == 5 { // all that there is
				must(t, s.Release(context.Background(), id))
				delete(all, id)
				defer e.CloseNetNS() // somebody keeps the namespace alive
			}
		}
	}
	for range 5 - len(all) {
		_, err = s.Attach(context.Background(), Request{ContainerID: ident.New(), Network: "small"})
		must(t, err)
	}
	if _, err = s.Attach(context.Background(), Request{ContainerID: ident.New(), Network: "small"}); !errors.Is(err, ipam.ErrExhausted) {
		t.Errorf("a sixth endpoint: %v", err)
	}
}

func TestReleasedEndpointsLeaveNothing(t *testing.T) {
	s := openService(t, Config{})
	before := allRules(t)
	for range 2 {
		var all []*Endpoint
		for i := range 50 {
			e := attach(t, s)
			publish(t, s, e, Port{Proto: "tcp", Container: 80}, Port{Proto: "udp", Container: 53, Host: uint16(5000 + i)})
			all = append(all, e)
		}
		if all[49].IP.Addr().String() != "172.17.0.51" {
			t.Errorf("addresses were not given back: %s", all[49].IP)
		}
		for _, e := range all {
			must(t, s.Release(context.Background(), e.ContainerID))
			must(t, s.Release(context.Background(), e.ContainerID))
		}
		eventually(t, "links and neighbours gone", func() bool { return left(t, s) == 0 })
		eventually(t, "addresses free", func() bool { s.leaving.mu.Lock(); defer s.leaving.mu.Unlock(); return len(s.leaving.wait) == 0 })
	}
	if d := cmp.Diff(before, allRules(t)); d != "" {
		t.Error(d)
	}
	if len(s.ports.held) != 0 {
		t.Error("ports left:", len(s.ports.held))
	}
}

func TestAddressIsNotReusedWhileItsLinkLives(t *testing.T) {
	s := openService(t, Config{})
	a := attach(t, s)
	holder, err := os.Open("/proc/self/fd/" + itoa(a.NetNS.Fd()))
	must(t, err)
	defer holder.Close()
	must(t, s.Release(context.Background(), a.ContainerID))
	if b := attach(t, s); b.IP == a.IP {
		t.Fatal("address given out while the old namespace lives")
	}
	eventually(t, "link of a held namespace deleted", func() bool {
		return !strings.Contains(strings.Join(links(t, "e1"), " "), a.Link)
	})
	eventually(t, "address free", func() bool { c := attach(t, s); return c.IP == a.IP })
}

func itoa(fd uintptr) string { b, _ := json.Marshal(fd); return string(b) }

// abandon drops a service as a kill of the engine would: nothing is taken back,
// descriptors are closed.
func abandon(t *testing.T, s *Service) {
	t.Helper()
	must(t, s.Close())
}

// reopen opens a service as the next engine does, on what is there, and adopts it. It stays
// the caller's.
func reopen(t *testing.T, cfg Config, records []Record, held []*os.File) (*Service, Report) {
	t.Helper()
	s, err := Open(cfg)
	must(t, err)
	r, err := s.Adopt(context.Background(), records, held)
	must(t, err)
	return s, r
}

// process runs something in a namespace, as a container that outlives the
// engine does.
func process(t *testing.T, ns *os.File) (stop func()) {
	t.Helper()
	c := exec.Command("sleep", "100")
	must(t, netns.Do(ns, c.Start))
	var once bool
	stop = func() {
		if !once {
			once = true
			c.Process.Kill()
			c.Wait()
		}
	}
	t.Cleanup(stop)
	return stop
}

func TestKilledEngineIsAdopted(t *testing.T) {
	world := newNeighbour(t)
	cfg := Config{EngineID: "e7", Dir: t.TempDir()}
	s, _ := reopen(t, cfg, nil, nil)
	id := s.all()[0].rec.ID
	live, dead, unknown := attach(t, s), attach(t, s), attach(t, s)
	stopLive, stopUnknown := process(t, live.NetNS), process(t, unknown.NetNS)
	serve(t, live.NetNS, "tcp", "0.0.0.0:80")
	publish(t, s, live, Port{Proto: "tcp", Container: 80, Host: 8080})
	publish(t, s, unknown, Port{Proto: "tcp", Container: 80, Host: 8081})
	held := dup(t, s.HeldSockets(live.ContainerID))
	records := []Record{roundTrip(t, live.Record), roundTrip(t, dead.Record)}
	abandon(t, s)

	eventually(t, "link of the dead container gone", func() bool { return !strings.Contains(strings.Join(links(t, "e7"), " "), dead.Link) })
	wantAnswer(t, "while the engine is away", world, "tcp", "192.0.2.1:8080", "192.0.2.2")
	if _, err := hostport.Reserve("tcp", netip.MustParseAddrPort("0.0.0.0:8080")); err == nil {
		t.Error("a held port was free while the engine was away")
	}
	s, r := reopen(t, cfg, records, held)
	defer func() { must(t, s.Destroy()); must(t, s.Close()) }()
	if r.Adopted != 2 || len(r.Gone) != 1 || r.Gone[0] != dead.ContainerID || len(r.Lost) != 0 {
		t.Errorf("report: %+v", r)
	}
	if d := cmp.Diff([]string{"link " + unknown.Link, "neighbour " + unknown.IP.Addr().String()}, r.Removed); d != "" {
		t.Error(d)
	}
	if s.all()[0].rec.ID != id {
		t.Error("the network has another id")
	}
	wantAnswer(t, "adopted", world, "tcp", "192.0.2.1:8080", "192.0.2.2")
	wantNoAnswer(t, "removed", world, "tcp", "192.0.2.1:8081")
	e := s.Endpoints(live.ContainerID)[0]
	if !reflect.DeepEqual(live.Record, e.Record) {
		t.Errorf("adopted %+v, was %+v", e.Record, live.Record)
	}
	publish(t, s, e, Port{Proto: "tcp", Container: 80, Host: 8080}) // again, as after a kill half way
	for _, e := range []*Endpoint{live, dead} {
		must(t, s.Release(context.Background(), e.ContainerID))
	}
	stopLive()
	stopUnknown()
	eventually(t, "nothing left", func() bool { return left(t, s) == 0 })
	l, err := net.Listen("tcp", "0.0.0.0:8080")
	must(t, err)
	l.Close()
}

func dup(t *testing.T, files []*os.File) (held []*os.File) {
	t.Helper()
	for _, f := range files {
		fd, err := syscall.Dup(int(f.Fd()))
		must(t, err)
		held = append(held, os.NewFile(uintptr(fd), f.Name()))
	}
	return held
}

func roundTrip(t *testing.T, r Record) (back Record) {
	t.Helper()
	b, err := json.Marshal(r)
	must(t, err)
	must(t, json.Unmarshal(b, &back))
	return back
}

func TestEnginesDoNotTouchEachOther(t *testing.T) {
	one, two := Config{EngineID: "aa", Dir: t.TempDir()}, Config{EngineID: "bb", Dir: t.TempDir()}
	s1, _ := reopen(t, one, nil, nil)
	s2, _ := reopen(t, two, nil, nil)
	a, b := attach(t, s1), attach(t, s2)
	serve(t, b.NetNS, "tcp", "0.0.0.0:80")
	publish(t, s2, b, Port{Proto: "tcp", Container: 80, Host: 8080})
	if a.IP.Masked() == b.IP.Masked() {
		t.Errorf("both use %s", a.IP.Masked())
	}
	wantNoAnswer(t, "other engine's container", a.NetNS, "tcp", b.IP.Addr().String()+":80")
	wantAnswer(t, "other engine's published port", a.NetNS, "tcp", s1.all()[0].link.Gateways[0].Addr().String()+":8080", b.Gateway.String())
	if _, err := s1.Publish(context.Background(), a.ContainerID, []Port{{Proto: "tcp", Container: 80, Host: 8080}}); err == nil {
		t.Error("a port of the other engine was given out")
	}
	before := nft(t, "list", "table", "inet", "tare_bb")
	abandon(t, s1)
	s1, r := reopen(t, one, nil, nil)
	if len(r.Lost) != 0 {
		t.Error(r)
	}
	if d := cmp.Diff(before, nft(t, "list", "table", "inet", "tare_bb")); d != "" || len(links(t, "bb")) != 2 {
		t.Error("the other engine's objects changed", d, links(t, "bb"))
	}
	must(t, s1.Destroy())
	must(t, s1.Close())
	if len(links(t, "aa")) != 0 || len(links(t, "bb")) != 2 || strings.Contains(nft(t, "list", "tables"), "tare_aa") {
		t.Error("Destroy removed too much or too little")
	}
	if _, err := Open(Config{EngineID: "cc", Link: "tare-bb", Dir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "belongs to somebody else") {
		t.Errorf("another engine's bridge was taken: %v", err)
	}
	must(t, s2.Release(context.Background(), b.ContainerID))
	must(t, s2.Destroy())
	must(t, s2.Close())
}

func TestNetworksWithoutLinks(t *testing.T) {
	s := openService(t, Config{})
	ctx := context.Background()
	h, err := s.Attach(ctx, Request{ContainerID: ident.New(), Network: "host"})
	must(t, err)
	if h.NetNS != nil || h.IP.IsValid() {
		t.Errorf("%+v", h)
	}
	n, err := s.Attach(ctx, Request{ContainerID: ident.New(), Network: "none"})
	must(t, err)
	must(t, netns.Do(n.NetNS, func() error {
		c, err := netlink.Open()
		if err != nil {
			return err
		}
		defer c.Close()
		all, err := c.Links()
		if len(all) != 1 || !all[0].Up {
			t.Errorf("%+v", all)
		}
		return err
	}))
	for _, e := range []*Endpoint{h, n} {
		if got, err := s.Publish(ctx, e.ContainerID, []Port{{Proto: "tcp", Container: 80, Host: 80}}); err != nil || len(got) != 0 {
			t.Error("published without a link:", got, err)
		}
		must(t, s.Release(ctx, e.ContainerID))
	}
}

func TestChosenSubnetAvoidsTheHosts(t *testing.T) {
	newNeighbour(t)
	c, err := netlink.Open()
	must(t, err)
	defer c.Close()
	var b netlink.Batch
	b.AddRoute(netlink.Route{Dst: netip.MustParsePrefix("172.17.4.0/24"), Gateway: networktest.NeighbourOut.Addr(), Index: 100})
	must(t, c.Do(&b))
	dir := t.TempDir()
	s, _ := reopen(t, Config{EngineID: "e3", Dir: dir}, nil, nil)
	if g := s.all()[0].link.Gateways[0].String(); g != "172.18.0.1/16" {
		t.Error(g)
	}
	must(t, s.Destroy())
	must(t, s.Close())
	s, _ = reopen(t, Config{EngineID: "e3", Dir: dir, BIP: netip.MustParsePrefix("10.9.8.1/24")}, nil, nil)
	if e := attach(t, s); e.IP.String() != "10.9.8.2/24" {
		t.Error(e.IP)
	}
	abandon(t, s)
	s, _ = reopen(t, Config{EngineID: "e3", Dir: dir, BIP: netip.MustParsePrefix("10.9.9.1/24")}, nil, nil)
	addrs, err := c.Addrs(s.all()[0].link.Index())
	must(t, err)
	if len(addrs) != 1 || addrs[0].String() != "10.9.9.1/24" {
		t.Error("the bridge kept an old address:", addrs)
	}
	must(t, s.Destroy())
	must(t, s.Close())
}

func TestDeletedBridgeIsRestored(t *testing.T) {
	world := newNeighbour(t)
	cfg := Config{EngineID: "e4", Dir: t.TempDir()}
	s, _ := reopen(t, cfg, nil, nil)
	e := attach(t, s)
	defer process(t, e.NetNS)()
	serve(t, e.NetNS, "tcp", "0.0.0.0:80")
	serve(t, world, "tcp", "192.0.2.2:80")
	publish(t, s, e, Port{Proto: "tcp", Container: 80, Host: 8080})
	cut := func() {
		old := s.all()[0].link.Index()
		c, err := netlink.Open()
		must(t, err)
		defer c.Close()
		var b netlink.Batch
		b.DelLink(old)
		must(t, c.Do(&b))
	}
	check := func(when string) {
		t.Helper()
		wantAnswer(t, when, world, "tcp", "192.0.2.1:8080", "192.0.2.2")
		wantAnswer(t, when, e.NetNS, "tcp", "192.0.2.1:8080", e.Gateway.String())
		wantAnswer(t, when, e.NetNS, "tcp", "192.0.2.2:80", "192.0.2.1")
	}
	cut()
	eventually(t, "restored", func() bool { _, err := ask(nil, "tcp", "127.0.0.1:8080"); return err == nil })
	check("deleted while the engine runs")

	ns := dup(t, []*os.File{e.NetNS})[0]
	defer ns.Close()
	abandon(t, s)
	cut()
	s, r := reopen(t, cfg, []Record{e.Record}, nil)
	if len(r.Lost) != 0 || len(r.Gone) != 0 {
		t.Error(r)
	}
	e.NetNS = ns
	check("deleted while the engine was away")
	must(t, s.Release(context.Background(), e.ContainerID))
	index := s.all()[0].link.Index()
	must(t, s.Destroy())
	s.linkGone(index) // as the kernel tells
	for _, l := range links(t, "e4") {
		if l == "tare-e4" {
			t.Error("restored after Destroy")
		}
	}
	must(t, s.Close())
}

func TestClosedServiceLeavesNoDescriptorsNorGoroutines(t *testing.T) {
	count := func() (fds, goroutines int) {
		d, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(d), runtime.NumGoroutine()
	}
	cycle := func() {
		s, _ := reopen(t, Config{EngineID: "e5", Dir: t.TempDir()}, nil, nil)
		for range 3 {
			e := attach(t, s)
			publish(t, s, e, Port{Proto: "udp", Container: 1})
			must(t, s.Release(context.Background(), e.ContainerID))
		}
		attach(t, s)
		must(t, s.Destroy())
		must(t, s.Close())
	}
	cycle() // the first one opens what the runtime keeps
	fds, goroutines := count()
	cycle()
	eventually(t, "as before", func() bool { f, g := count(); return f <= fds && g <= goroutines })
}
