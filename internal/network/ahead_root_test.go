//go:build root

package network

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/netlink"
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
		if _, err := s.Bind(Request{ContainerID: e.ContainerID, Network: name, IP: e.IP.Addr().Next()}); err == nil {
			t.Error("bound with another address")
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
		"web": "SERVFAIL", "early": "SERVFAIL", ident.Short(e.ContainerID): "SERVFAIL", e.IP.Addr().String(): "NXDOMAIN",
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

// TestEndpointsAheadKeepNothing removes a network that has nothing else, and takes the
// addresses of others.
func TestEndpointsAheadKeepNothing(t *testing.T) {
	s := openService(t, Config{})
	named(t, s, "one", "10.1.0.0/27") // 29 for containers
	r := newReservers(s)
	claimed := r.reserve(t, "one").IP.Addr()
	e, err := s.Attach(context.Background(), Request{ContainerID: ident.New(), Network: "one", IP: claimed})
	must(t, err)
	if e.IP.Addr() != claimed {
		t.Error(e.IP)
	}
	r.reserve(t, "one")
	ids := []string{e.ContainerID}
	for len(ids) < 29 {
		e, err := s.Attach(context.Background(), Request{ContainerID: ident.New(), Network: "one"})
		must(t, err)
		ids = append(ids, e.ContainerID)
		if len(ids) == 29-spare {
			_, err := s.Reserve(context.Background(), Request{ContainerID: ident.New(), Network: "one"})
			if !errdefs.Is(err, errdefs.Forbidden) {
				t.Fatal("one of the last addresses is taken ahead:", err)
			}
		}
	}
	if _, err := s.Attach(context.Background(), Request{ContainerID: ident.New(), Network: "one"}); err == nil {
		t.Error("there was one address more")
	}
	for _, id := range ids {
		must(t, s.Release(context.Background(), id))
	}
	settle(s)
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
