//go:build root

package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/linux/netns"
)

// reservers keeps endpoints ahead as the containers' cells do.
type reservers struct {
	s  *Service
	mu sync.Mutex
	of map[string][]*Endpoint // by network
}

func newReservers(s *Service) *reservers {
	r := &reservers{s: s, of: map[string][]*Endpoint{}}
	s.SetEvict(func(networkID string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, e := range r.of[networkID] {
			if err := s.Release(context.Background(), e.ContainerID); err != nil {
				s.log.Error("evict", "err", err)
			}
		}
		delete(r.of, networkID)
	})
	return r
}

// reserve makes an endpoint ahead.
func (r *reservers) reserve(t testing.TB, networkName string) *Endpoint {
	t.Helper()
	e, err := r.s.Reserve(context.Background(), Request{ContainerID: ident.New(), Network: networkName})
	must(t, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of[e.NetworkID] = append(r.of[e.NetworkID], e)
	return e
}

// bound says that an endpoint is not the reserver's any more.
func (r *reservers) bound(e *Endpoint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of[e.NetworkID] = slices.DeleteFunc(r.of[e.NetworkID], func(other *Endpoint) bool { return other == e })
}

// named makes a network with names.
func named(t testing.TB, s *Service, name, prefix string) {
	t.Helper()
	_, err := s.Create(network.CreateRequest{Name: name, IPAM: subnet(prefix)})
	must(t, err)
}

func TestEndpointAheadShowsWhenBound(t *testing.T) {
	var told []string
	s := openService(t, Config{Changed: func(n network.Network, id string, connected bool) { told = append(told, n.Name+" "+id) }})
	named(t, s, "one", "10.1.0.0/24")
	for _, name := range []string{"bridge", "one"} {
		e := newReservers(s).reserve(t, name)
		shown := func() int {
			in, err := s.Inspect(name)
			must(t, err)
			return len(in.Containers)
		}
		if shown() != 0 || s.InUse(e.NetworkID) || len(told) != 0 {
			t.Error("shown before it is bound", told)
		}
		if _, err := s.Bind(Request{ContainerID: e.ContainerID, Network: "host"}); err == nil {
			t.Error("bound to another network")
		}
		if _, err := s.Bind(Request{ContainerID: e.ContainerID, Network: name, IfaceName: "wan"}); err == nil {
			t.Error("bound with another name of its link")
		}
		r := Request{ContainerID: e.ContainerID, Network: name, Name: "web"}
		b, err := s.Bind(r)
		must(t, err)
		if b != e || shown() != 1 || !slices.Equal(told, []string{name + " " + e.ContainerID}) {
			t.Error("not shown", told)
		}
		if _, err := s.Bind(r); err == nil {
			t.Error("bound twice")
		}
		told = nil
		must(t, s.Release(context.Background(), e.ContainerID))
		told = nil
	}
	_, err := s.Remove("one")
	must(t, err)
}

// TestNamesOfAnEndpointAhead asks for names of a container before and after it gets an
// endpoint that was made ahead, and has it ask, by sockets that were made ahead.
func TestNamesOfAnEndpointAhead(t *testing.T) {
	s := openService(t, Config{DNS: []string{"127.0.0.1"}})
	named(t, s, "one", "10.1.0.0/24")
	other := member(t, s, Request{Name: "other", Network: "one"})
	r := newReservers(s)
	e := r.reserve(t, "one")
	if len(s.HeldSockets(e.ContainerID)) != 2 {
		t.Fatal("no name server is ready")
	}
	s.Rename(e.ContainerID, "early") // of a container that was created and not started
	for name, want := range map[string]string{
		"web": "SERVFAIL", "early": "SERVFAIL", ident.Short(e.ContainerID): "SERVFAIL", "10.1.0.3": "NXDOMAIN",
	} {
		if got := resolve(t, other.NetNS, name); got != want {
			t.Errorf("%s, ahead: %q, want %q", name, got, want)
		}
	}
	_, err := s.Bind(Request{ContainerID: e.ContainerID, Network: "one", Name: "web", Hostname: "host.example", Aliases: []string{"www"}, Links: []string{"other:linked"}})
	must(t, err)
	r.bound(e)
	ip := e.IP.Addr().String()
	for name, want := range map[string]string{"web": ip, "early": "SERVFAIL", ident.Short(e.ContainerID): ip, "www": ip, "host.example": ip, ip: "web.one."} {
		if got := resolve(t, other.NetNS, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := resolve(t, e.NetNS, "linked"); got != other.IP.Addr().String() {
		t.Error(got)
	}
	must(t, s.Release(context.Background(), e.ContainerID))
	if got := resolve(t, other.NetNS, "web"); got != "SERVFAIL" {
		t.Error("released:", got)
	}
}

// TestEndpointsAheadKeepNothing: neither the addresses of a network nor the network.
func TestEndpointsAheadKeepNothing(t *testing.T) {
	s := openService(t, Config{})
	named(t, s, "one", "10.1.0.0/29") // 5 for containers
	r := newReservers(s)
	var bound []*Endpoint
	for range 3 {
		r.reserve(t, "one")
		bound = append(bound, r.reserve(t, "one"))
	}
	for i, asked := range []string{"10.1.0.4", "", ""} { // then the lowest that is free
		req := Request{ContainerID: bound[i].ContainerID, Network: "one"}
		if asked != "" {
			req.IP, req.MAC = netip.MustParseAddr(asked), []byte{2, 0, 0, 0, 0, 7}
		}
		e, err := s.Bind(req)
		must(t, err)
		r.bound(e)
		if want := []string{"10.1.0.4/29", "10.1.0.2/29", "10.1.0.3/29"}[i]; e.IP.String() != want {
			t.Errorf("%s, want %s", e.IP, want)
		}
	}
	if bound[0].MAC.String() != "02:00:00:00:00:07" || bound[1].MAC.String() != "02:42:0a:01:00:02" {
		t.Error(bound[0].MAC, bound[1].MAC)
	}
	for range 2 {
		e, err := s.Attach(context.Background(), Request{ContainerID: ident.New(), Network: "one"})
		must(t, err)
		bound = append(bound, e)
	}
	full := r.reserve(t, "one")
	if _, err := s.Bind(Request{ContainerID: full.ContainerID, Network: "one"}); err == nil || !strings.Contains(err.Error(), "no available IPv4 addresses") {
		t.Error("there was one address more:", err)
	}
	if _, err := s.Remove("one"); !errdefs.Is(err, errdefs.Forbidden) {
		t.Error("removed with containers in it:", err)
	}
	for _, e := range bound {
		must(t, s.Release(context.Background(), e.ContainerID))
	}
	gone := r.reserve(t, "one")
	if _, err := s.Remove("one"); err != nil {
		t.Fatal("a network with nothing but endpoints ahead:", err)
	}
	if _, err := s.Bind(Request{ContainerID: gone.ContainerID, Network: "one"}); err == nil {
		t.Error("bound in a network that was removed")
	}
	settle(s)
	c, err := netlink.Open()
	must(t, err)
	defer c.Close()
	all, err := c.Links()
	must(t, err)
	for _, l := range all {
		if l.Name == gone.Link {
			t.Error("left:", l.Name)
		}
	}
}

// TestBoundEndpointsReachAll: on each kind of network, with a port of the bridge and
// without, an endpoint that was made ahead is what a cold one is.
func TestBoundEndpointsReachAll(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	makeNetwork(t, s, six("n", "10.1.0.0/24", "fd01::/64"))
	r := newReservers(s)
	serve(t, world, "tcp", "192.0.2.2:80")
	serve(t, world, "tcp", "[2001:db8::2]:80")
	for _, most := range []int{s.maxPorts, 0} {
		s.maxPorts = most
		for _, name := range []string{"bridge", "n"} {
			e := r.reserve(t, name)
			if e.Beside != (most == 0) {
				t.Fatal(e.Beside)
			}
			_, err := s.Bind(Request{ContainerID: e.ContainerID, Network: name, Name: "web"})
			must(t, err)
			r.bound(e)
			other := attachTo(t, s, name, Request{})
			to := []string{e.IP.Addr().String()}
			wantAnswer(t, "to the world", e.NetNS, "tcp", "192.0.2.2:80", "192.0.2.1")
			if name == "n" {
				to = append(to, e.IP6.Addr().String())
				wantAnswer(t, "to the world", e.NetNS, "tcp", "[2001:db8::2]:80", "2001:db8::1")
			}
			for i, a := range to {
				at := net.JoinHostPort(a, "80")
				serve(t, e.NetNS, "tcp", at)
				wantAnswer(t, "from another container", other.NetNS, "tcp", at, other.addrs()[i].String())
				wantAnswer(t, "from the host", nil, "tcp", at, s.gatewayOf(e, i))
			}
			cold := attachTo(t, s, name, Request{})
			if got, want := insideOf(t, e), insideOf(t, cold); got != want {
				t.Errorf("bound on %s, with at most %d ports:\n%s\ncold:\n%s", name, most, got, want)
			}
		}
	}
}

// gatewayOf is the host's address by which it reaches an endpoint's.
func (s *Service) gatewayOf(e *Endpoint, i int) string {
	return []string{e.Gateway.String(), e.Gateway6.String()}[i]
}

// insideOf is what ip tells of an endpoint's link, without its addresses.
func insideOf(t *testing.T, e *Endpoint) (text string) {
	t.Helper()
	must(t, netns.Do(e.NetNS, func() error {
		for _, args := range []string{"-o -4 addr show dev eth0", "-o -6 addr show dev eth0", "-4 route", "-6 route", "neigh show nud permanent dev eth0", "-o link show dev eth0"} {
			out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%s: %w: %s", args, err, out)
			}
			text += string(out)
		}
		return nil
	}))
	for _, a := range e.addrs() {
		text = regexp.MustCompile(`\b`+regexp.QuoteMeta(a.String())+`\b`).ReplaceAllString(text, "ADDRESS")
	}
	text = strings.ReplaceAll(text, e.MAC.String(), "MAC")
	return regexp.MustCompile(`@if\d+|link-netns\S* \S+|fe80::[0-9a-f:]+/64 scope link tentative|fe80::[0-9a-f:]+/64 scope link`).ReplaceAllString(text, "")
}

// TestBoundEndpointHasAllThatIsAskedFor, or is refused: what links have besides addresses.
func TestBoundEndpointHasAllThatIsAskedFor(t *testing.T) {
	s := openService(t, Config{})
	r := newReservers(s)
	makeNetwork(t, s, network.CreateRequest{Name: "one", Options: map[string]string{optionIfaces: "net"}})
	e := r.reserve(t, "one")
	limits := api.NetworkLimits{RateIn: slow, RateOut: slow}
	for _, asks := range []Request{
		{LinkLocal: []netip.Addr{netip.MustParseAddr("169.254.9.9")}}, {Sysctls: []Sysctl{{"net.ipv4.conf.IFNAME.log_martians", "1"}}}, {IfaceName: "wan"}, {Later: true},
	} {
		asks.ContainerID, asks.Network = e.ContainerID, "one"
		if _, err := s.Bind(asks); err == nil {
			t.Errorf("bound: %+v", asks)
		}
	}
	b, err := s.Bind(Request{ContainerID: e.ContainerID, Network: "one", Limits: limits})
	must(t, err)
	r.bound(b)
	if b.Limits != limits || b.IfaceName != "net0" || !b.Exit {
		t.Errorf("%+v", b.Record)
	}
	cold, err := s.Attach(context.Background(), Request{ContainerID: ident.New(), Name: "cold", Network: "one", Limits: limits})
	must(t, err)
	lines := func(e *Endpoint) int { return strings.Count(queues(t, e), "\n") }
	if lines(b) != lines(cold) || lines(cold) == lines(attach(t, s)) {
		t.Errorf("bound:\n%s\ncold:\n%s", queues(t, b), queues(t, cold))
	}
	newNeighbour(t)
	makeNetwork(t, s, lan("lan", nil, "10.2.0.0/24"))
	if _, ok := s.Reservable("lan"); ok {
		t.Error("endpoints of macvlan are made ahead")
	}
	if _, err := s.Reserve(context.Background(), Request{ContainerID: ident.New(), Network: "lan"}); !errdefs.Is(err, errdefs.Forbidden) {
		t.Error(err)
	}
}

// TestBoundEndpointsInEachMode have the ways that others of their network have.
func TestBoundEndpointsInEachMode(t *testing.T) {
	s := openService(t, Config{})
	r := newReservers(s)
	routes := func(e *Endpoint) (all []string) {
		c, err := socketIn(e.NetNS)
		must(t, err)
		defer c.Close()
		for _, f := range families {
			list, err := c.Routes(int(f))
			must(t, err)
			for _, r := range list {
				all = append(all, fmt.Sprint(r.Dst, r.Gateway))
			}
		}
		return all
	}
	for i, name := range []string{modeNAT, modeRouted, modeIsolated} {
		made := mode(name, name, fmt.Sprintf("10.%d.0.0/24", i+1), fmt.Sprintf("fd0%d::/64", i+1))
		made.Internal = name == modeIsolated
		makeNetwork(t, s, made)
		cold := attachTo(t, s, name, Request{})
		e := r.reserve(t, name)
		_, err := s.Bind(Request{ContainerID: e.ContainerID, Network: name})
		must(t, err)
		r.bound(e)
		if e.Gateway != cold.Gateway || e.Gateway6 != cold.Gateway6 || e.Exit != cold.Exit || e.Exit6 != cold.Exit6 {
			t.Errorf("%s: %+v, %+v", name, e, cold)
		}
		if got, want := routes(e), routes(cold); len(want) == 0 || !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
