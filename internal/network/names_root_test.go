//go:build root

package network

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/netns"
	server "github.com/tare-engine/tare/internal/network/dns"
)

// member attaches a container to a network and serves names to it.
func member(t *testing.T, s *Service, r Request) *Endpoint {
	t.Helper()
	r.ContainerID = ident.New()
	e, err := s.Attach(context.Background(), r)
	must(t, err)
	t.Cleanup(func() { must(t, s.Release(context.Background(), e.ContainerID)) })
	must(t, s.ServeNames(e.ContainerID, nil, e.NetNS))
	return e
}

// resolve asks for a name, or the name of an address, inside a namespace; the
// answers, or the code if there is none.
func resolve(t *testing.T, ns *os.File, name string) string {
	t.Helper()
	q := (&dns.Msg{}).SetQuestion(dns.Fqdn(name), dns.TypeA)
	if a, err := netip.ParseAddr(name); err == nil {
		reverse, err := dns.ReverseAddr(a.String())
		must(t, err)
		q = (&dns.Msg{}).SetQuestion(reverse, dns.TypePTR)
	}
	var c net.Conn
	must(t, netns.Do(ns, func() (err error) {
		c, err = net.Dial("udp", netip.AddrPortFrom(server.Address, server.Port).String())
		return err
	}))
	defer c.Close()
	r, _, err := (&dns.Client{Timeout: 10 * time.Second}).ExchangeWithConn(q, &dns.Conn{Conn: c})
	must(t, err)
	var got []string
	for _, rr := range r.Answer {
		got = append(got, rr.String()[strings.LastIndexByte(rr.String(), '\t')+1:])
	}
	if r.Rcode != dns.RcodeSuccess {
		got = append(got, dns.RcodeToString[r.Rcode])
	}
	slices.Sort(got)
	return strings.Join(got, " ")
}

func TestNames(t *testing.T) {
	s := openService(t, Config{DNS: []string{"127.0.0.1"}}) // of the container: nobody is there
	for i, name := range []string{"one", "two"} {
		_, err := s.Create(network.CreateRequest{Name: name, IPAM: subnet("10.1." + string(rune('0'+i)) + ".0/24")})
		must(t, err)
		t.Cleanup(func() {
			_, err := s.Remove(name)
			must(t, err)
		})
	}
	web := member(t, s, Request{Name: "Web", Network: "one", Aliases: []string{"www", "same"}, Hostname: "host.example"})
	other := member(t, s, Request{Name: "other", Network: "one", Aliases: []string{"same"}, Links: []string{"Web:linked", web.ContainerID + ":by-id"}})
	far := member(t, s, Request{Name: "far", Network: "two", Aliases: []string{"www"}})
	want := func(e *Endpoint, name, want string) {
		t.Helper()
		if got := resolve(t, e.NetNS, name); got != want {
			t.Errorf("%s asks for %s: %q, want %q", e.Name, name, got, want)
		}
	}
	for _, name := range []string{"web", "WEB", "www", "web.one", "host.example", ident.Short(web.ContainerID), "linked", "by-id"} {
		want(other, name, "10.1.0.2")
	}
	want(web, "same", "10.1.0.2 10.1.0.3")
	want(web, "linked", "SERVFAIL") // a name of other's only
	want(far, "web", "SERVFAIL")
	want(far, "www", "10.1.1.2")
	want(other, "10.1.0.2", "Web.one.")
	want(other, "10.1.0.99", "NXDOMAIN")
	want(other, "10.1.1.2", "SERVFAIL") // of a network that it is not in

	// names follow what happens to containers
	s.Rename(web.ContainerID, "renamed")
	want(other, "web", "SERVFAIL")
	want(other, "renamed", "10.1.0.2")
	_, err := s.Connect(context.Background(), Request{ContainerID: far.ContainerID, Name: "far", Network: "one"}, far.NetNS)
	must(t, err)
	want(other, "far", "10.1.0.4")
	want(far, "www.two", "10.1.1.2")
	must(t, s.Disconnect(far.ContainerID, "one", far.NetNS))
	want(other, "far", "SERVFAIL")
	must(t, s.Release(context.Background(), web.ContainerID))
	want(other, "same", "10.1.0.3")
	if len(s.table.names) != 2 {
		t.Error(s.table.names)
	}
}

// loopbackUp gives the test's namespace its loopback.
func loopbackUp(t *testing.T) {
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
}

// TestNameServersOutliveTheEngine: the next one goes on with the same sockets, or
// with others if nobody has held them.
func TestNameServersOutliveTheEngine(t *testing.T) {
	loopbackUp(t)
	for _, kept := range []bool{true, false} {
		cfg := Config{EngineID: "e8", Dir: t.TempDir(), DNS: []string{"127.0.0.1"}}
		s, _ := reopen(t, cfg, nil, nil)
		_, err := s.Create(network.CreateRequest{Name: "n", IPAM: subnet("10.1.0.0/24")})
		must(t, err)
		attach := func() *Endpoint {
			e, err := s.Attach(context.Background(), Request{ContainerID: ident.New(), Name: "c" + ident.New()[:4], Network: "n"})
			must(t, err)
			must(t, s.ServeNames(e.ContainerID, nil, e.NetNS))
			return e
		}
		e, gone := attach(), attach()
		process(t, e.NetNS)
		ns, err := netns.OfSocket(s.HeldSockets(e.ContainerID)[0])
		must(t, err)
		defer ns.Close()
		publish(t, s, e, Port{Proto: "tcp", Container: 80, HostIP: netip.MustParseAddr("127.0.0.11"), Host: 8080})
		var held []*os.File
		if kept {
			held = dup(t, append(s.HeldSockets(e.ContainerID), s.HeldSockets(gone.ContainerID)...))
		}
		abandon(t, s)
		s, r := reopen(t, cfg, []Record{roundTrip(t, e.Record)}, held)
		if r.Adopted != 1 || len(r.Lost) > 0 {
			t.Errorf("%+v", r)
		}
		must(t, s.ServeNames(e.ContainerID, nil, ns))
		must(t, s.LeaveNames())
		if got := resolve(t, ns, e.Name); got != "10.1.0.2" {
			t.Errorf("sockets kept: %v: %q", kept, got)
		}
		must(t, s.Release(context.Background(), e.ContainerID))
		must(t, s.Destroy())
		must(t, s.Close())
	}
}

// TestUpstreams: the host's namespace is for those that have a way out
// (CVE-2024-29018).
func TestUpstreams(t *testing.T) {
	const resolv = "nameserver 127.0.0.53\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver 2001:db8::1\n"
	show := func(list []server.Upstream) (all []string) {
		for _, u := range list {
			from := "container"
			if u.Host {
				from = "host"
			}
			all = append(all, u.Addr.String()+" from the "+from)
		}
		return all
	}
	if got := show(hostUpstreams([]byte(resolv), true, false)); !slices.Equal(got, []string{
		"127.0.0.53:53 from the host", "192.0.2.1:53 from the container", "[fe80::1%eth0]:53 from the host", "[2001:db8::1]:53 from the host",
	}) {
		t.Error(got)
	}
	if got := show(hostUpstreams([]byte(resolv), true, true)); !slices.Equal(got, []string{
		"127.0.0.53:53 from the host", "192.0.2.1:53 from the container", "[fe80::1%eth0]:53 from the host", "[2001:db8::1]:53 from the container",
	}) {
		t.Error(got)
	}
	if got := show(hostUpstreams([]byte(resolv), false, true)); !slices.Equal(got, []string{
		"127.0.0.53:53 from the host", "192.0.2.1:53 from the host", "[fe80::1%eth0]:53 from the host", "[2001:db8::1]:53 from the container",
	}) {
		t.Error(got)
	}
	if got := show(hostUpstreams([]byte(resolv), false, false)); !slices.Equal(got, []string{"192.0.2.1:53 from the container"}) {
		t.Error(got)
	}
	s := openService(t, Config{})
	_, err := s.Create(network.CreateRequest{Name: "in", Internal: true})
	must(t, err)
	e := member(t, s, Request{Name: "b", Network: "in"})
	for _, u := range (directory{s}).Upstreams(e.ContainerID) {
		if u.Host {
			t.Errorf("%s is asked from the host's namespace for a container that has no way out", u.Addr)
		}
	}
	must(t, s.ServeNames(e.ContainerID, []string{"127.0.0.1"}, e.NetNS))
	if got := show((directory{s}).Upstreams(e.ContainerID)); !slices.Equal(got, []string{"127.0.0.1:53 from the container"}) {
		t.Error(got)
	}
	must(t, s.Release(context.Background(), e.ContainerID))
	_, err = s.Remove("in")
	must(t, err)
}

// TestNamesForTheHost: its programs find containers of all networks, and are told
// nothing else.
func TestNamesForTheHost(t *testing.T) {
	const at = "127.0.0.12"
	loopbackUp(t)
	s := openService(t, Config{HostNames: netip.MustParseAddr(at)})
	_, err := s.Create(network.CreateRequest{Name: "one", IPAM: subnet("10.1.0.0/24")})
	must(t, err)
	e := member(t, s, Request{Name: "Web", Network: "one"})
	_, err = s.Connect(context.Background(), Request{ContainerID: e.ContainerID, Name: "Web", Network: "bridge"}, e.NetNS)
	must(t, err)
	ask := func(name string, kind uint16) string {
		t.Helper()
		r, _, err := (&dns.Client{Timeout: 10 * time.Second}).Exchange((&dns.Msg{}).SetQuestion(name, kind), at+":53")
		must(t, err)
		var got []string
		for _, rr := range r.Answer {
			got = append(got, rr.String()[strings.LastIndexByte(rr.String(), '\t')+1:])
		}
		slices.Sort(got)
		return strings.Join(append(got, dns.RcodeToString[r.Rcode]), " ")
	}
	other := s.Endpoints(e.ContainerID)[1].IP.Addr().String()
	for _, c := range []struct {
		name string
		kind uint16
		want string
	}{
		{"web.tare.", dns.TypeA, "10.1.0.2 " + other + " NOERROR"},
		{"WEB.one.tare.", dns.TypeA, "10.1.0.2 NOERROR"},
		{"2.0.1.10.in-addr.arpa.", dns.TypePTR, "Web.tare. NOERROR"},
		{"nosuch.tare.", dns.TypeA, "NOERROR"},
		{"web.", dns.TypeA, "SERVFAIL"},
		{"example.org.", dns.TypeA, "SERVFAIL"},
	} {
		if got := ask(c.name, c.kind); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if _, err := Open(Config{EngineID: "e9", Dir: t.TempDir(), HostNames: netip.MustParseAddr("192.0.2.99")}); err == nil {
		t.Error("an address that is not the host's")
	}
	must(t, s.Release(context.Background(), e.ContainerID))
	_, err = s.Remove("one")
	must(t, err)
}
