//go:build root

package network

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/tare-engine/tare/internal/linux/netns"
)

// damaged is a network of both versions of IP with two containers, the second beside the
// bridge, that others are about to change.
type damaged struct {
	s   *Service
	n   *Network
	all []*Endpoint
	log lockedBuilder
}

func newDamaged(t *testing.T) *damaged {
	d := &damaged{}
	d.s = openService(t, Config{Log: slog.New(slog.NewTextHandler(&d.log, nil))})
	makeNetwork(t, d.s, six("n", "10.1.0.0/24", "fd01::/64"))
	d.s.maxPorts = 1
	for range 2 {
		e := attachTo(t, d.s, "n", Request{})
		serve(t, e.NetNS, "tcp", "[::]:80")
		d.all = append(d.all, e)
	}
	if d.all[0].Beside || !d.all[1].Beside {
		t.Fatal("both are on the bridge, or beside it")
	}
	publish(t, d.s, d.all[0], Port{Proto: "tcp", Container: 80, Host: 8080})
	d.n = d.all[0].network
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(d.log.text())
		}
	})
	return d
}

// lockedBuilder is a log that the service and the test share.
type lockedBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuilder) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuilder) has(text string) bool { return l.count(text) > 0 }

func (l *lockedBuilder) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lockedBuilder) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

// replace puts the names of links into a command.
func (d *damaged) replace(line string) string {
	return strings.NewReplacer("BRIDGE", d.n.link.Name, "PORT", d.all[0].Link, "BESIDE", d.all[1].Link).Replace(line)
}

// path is one who asks, an address and who the server sees.
type path struct {
	what           string
	from           *os.File
	server, client string
}

// paths are those by which everybody reaches everybody.
func (d *damaged) paths() (all []path) {
	at := func(a netip.Addr) string { return netip.AddrPortFrom(a, 80).String() }
	for _, e := range d.all {
		all = append(all,
			path{"host", nil, at(e.IP.Addr()), "10.1.0.1"},
			path{"host by IPv6", nil, at(e.IP6.Addr()), "fd01::1"},
			path{"out", e.NetNS, "192.0.2.2:80", "192.0.2.1"},
			path{"out by IPv6", e.NetNS, "[2001:db8::2]:80", "2001:db8::1"})
	}
	a, b := d.all[0], d.all[1]
	return append(all,
		path{"each other", a.NetNS, at(b.IP.Addr()), a.IP.Addr().String()},
		path{"each other by IPv6", b.NetNS, at(a.IP6.Addr()), b.IP6.Addr().String()})
}

// whole checks that everybody reaches everybody.
func (d *damaged) whole(t *testing.T, when string) {
	t.Helper()
	for _, w := range d.paths() {
		wantAnswer(t, when+": "+w.what, w.from, "tcp", w.server, w.client)
	}
}

// restored waits until what others took is back. Who asks meanwhile may be told that there
// is no route; that is no failure.
func (d *damaged) restored(t *testing.T, what string, world *os.File) {
	t.Helper()
	paths := append(d.paths(), path{from: world, server: "192.0.2.1:8080"}, path{from: world, server: "[2001:db8::1]:8080"})
	eventually(t, what+" is undone", func() bool {
		for _, w := range paths {
			if _, err := ask(w.from, "tcp", w.server); err != nil {
				return false
			}
		}
		return true
	})
}

// TestWhatOthersTakeIsRestored: of links, their addresses and states.
func TestWhatOthersTakeIsRestored(t *testing.T) {
	world := newNeighbour(t)
	serve(t, world, "tcp", "[::]:80")
	d := newDamaged(t)
	d.whole(t, "before")
	for _, line := range []string{
		"ip link set BRIDGE down",
		"ip addr del 10.1.0.1/24 dev BRIDGE",
		"ip addr del fd01::1/64 dev BRIDGE",
		"ip addr del 10.1.0.1/24 dev BRIDGE; ip addr del fd01::1/64 dev BRIDGE", // flush tries it again and again
		"ip link del BRIDGE",
		"ip link set PORT down",
		"ip link set PORT nomaster",
		"ip link set BESIDE down",
		"nft flush ruleset",
	} {
		line = d.replace(line)
		shell(t, line)
		d.restored(t, line, world)
		d.whole(t, line)
	}
	for _, text := range []string{"bridge was changed by another program; restored", "bridge was deleted by another program; restored", "link of a container was changed by another program; restored"} {
		if !d.log.has(text) {
			t.Errorf("the log lacks %q", text)
		}
	}
	if d.log.has("level=ERROR") {
		t.Error("an error is told")
	}
}

// TestLostReportsAreMadeUpFor: where the kernel had no room for its reports, what others have
// done is seen all the same.
func TestLostReportsAreMadeUpFor(t *testing.T) {
	world := newNeighbour(t)
	serve(t, world, "tcp", "[::]:80")
	d := newDamaged(t)
	d.whole(t, "before")
	d.s.stop() // nobody hears reports now
	for _, line := range []string{"ip link del BRIDGE", "ip addr flush dev BRIDGE", "ip link set PORT nomaster", "ip link set BESIDE down"} {
		line = d.replace(line)
		shell(t, line)
		d.s.compareLinks()
		d.whole(t, line)
	}
	if d.log.has("level=ERROR") {
		t.Error("an error is told")
	}
}

// TestBridgeWithoutCarrierAnswers: when its last port goes, a bridge goes on to answer for
// who is beside it.
func TestBridgeWithoutCarrierAnswers(t *testing.T) {
	world := newNeighbour(t)
	serve(t, world, "tcp", "[::]:80")
	d := newDamaged(t)
	d.s.stop() // nobody puts it back at once
	shell(t, d.replace("ip link set PORT down"))
	eventually(t, "no carrier", func() bool {
		out, err := exec.Command("ip", "link", "show", d.n.link.Name).Output()
		return err == nil && strings.Contains(string(out), "NO-CARRIER")
	})
	d.s.compareLinks()
	d.whole(t, "after the port came back")
}

// TestRouteThatIsRemovedIsTold, and put back by the next engine.
func TestRouteThatIsRemovedIsTold(t *testing.T) {
	cfg := Config{EngineID: "e1", Default: true, Dir: t.TempDir()}
	newNeighbour(t)
	s, _ := reopen(t, cfg, nil, nil)
	makeNetwork(t, s, six("n", "10.1.0.0/24", "fd01::/64"))
	n, err := s.find("n")
	must(t, err)
	shell(t, "ip route del 10.1.0.0/24 dev "+n.link.Name+"; ip -6 route del fd01::/64 dev "+n.link.Name)
	w, err := s.Warnings()
	must(t, err)
	if len(w) != 2 || !strings.Contains(w[0], "the host's route to 10.1.0.0/24, of network n, was removed") || !strings.Contains(w[1], "fd01::/64") {
		t.Error(w)
	}
	apart := six("apart", "10.2.0.0/24")
	apart.EnableIPv6, apart.Options = new(false), map[string]string{optionICC: "false"}
	makeNetwork(t, s, apart)
	b := attachTo(t, s, "apart", Request{})
	shell(t, "ip route del "+b.IP.Addr().String())
	if w, err = s.Warnings(); err != nil || len(w) != 3 || !strings.Contains(w[1]+w[2], "the host's route to 10.2.0.2/32, of network apart, was removed: put it back (ip route add 10.2.0.2/32 dev "+b.Link+")") {
		t.Error(w, err)
	}
	must(t, s.Release(context.Background(), b.ContainerID))
	abandon(t, s)
	next, _ := reopen(t, cfg, nil, nil)
	if w, err = next.Warnings(); err != nil || len(w) > 0 {
		t.Error(w, err)
	}
	e := attachTo(t, next, "n", Request{})
	serve(t, e.NetNS, "tcp", "[::]:80")
	wantAnswer(t, "by the route that is back", nil, "tcp", "10.1.0.2:80", "10.1.0.1")
	wantAnswer(t, "by the route that is back", nil, "tcp", "[fd01::2]:80", "fd01::1")
	must(t, next.Release(context.Background(), e.ContainerID))
	must(t, next.Destroy())
	must(t, next.Close())
}

// TestLinkThatIsDeletedIsTold: the container has one again when it is connected again.
func TestLinkThatIsDeletedIsTold(t *testing.T) {
	world := newNeighbour(t)
	serve(t, world, "tcp", "[::]:80")
	d := newDamaged(t)
	e := d.all[0]
	shell(t, d.replace("ip link del PORT"))
	const text = "WARNING: container c has lost its link to network n: somebody has deleted it"
	eventually(t, "it is told", func() bool {
		w, err := d.s.Warnings()
		must(t, err)
		return len(w) == 1 && strings.Contains(w[0], text) && d.log.has("link of a container was deleted by another program")
	})
	must(t, d.s.Disconnect(e.ContainerID, "n", e.NetNS))
	again, err := d.s.Connect(context.Background(), Request{ContainerID: e.ContainerID, Name: "c", Network: "n"}, e.NetNS)
	must(t, err)
	again.NetNS = nil
	wantAnswer(t, "connected again", e.NetNS, "tcp", "192.0.2.2:80", "192.0.2.1")
	if w, err := d.s.Warnings(); err != nil || len(w) > 0 {
		t.Error(w, err)
	}
	must(t, d.s.Release(context.Background(), e.ContainerID))
	must(t, e.NetNS.Close())
}

// TestRulesInAContainerAreItsOwn: one that may change its packet filter takes its name
// server away from itself until its next start, and from nobody else.
func TestRulesInAContainerAreItsOwn(t *testing.T) {
	newNeighbour(t)
	s := openService(t, Config{})
	makeNetwork(t, s, six("n", "10.1.0.0/24", "fd01::/64"))
	a, b := member(t, s, Request{Name: "a", Network: "n"}), member(t, s, Request{Name: "b", Network: "n"})
	before := allRules(t)
	must(t, netns.Do(a.NetNS, func() error { shell(t, "nft flush ruleset"); return nil }))
	if got := resolve(t, b.NetNS, "a"); got != a.IP.Addr().String() {
		t.Error("another container's:", got)
	}
	if allRules(t) != before {
		t.Error("the host's rules are others")
	}
	wantNoAnswer(t, "its own", a.NetNS, "tcp", "127.0.0.11:53")
	serve(t, b.NetNS, "tcp", "[::]:80")
	wantAnswer(t, "its network", a.NetNS, "tcp", "[fd01::3]:80", "fd01::2")
}
