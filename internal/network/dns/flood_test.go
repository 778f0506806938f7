package dns

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/tare-engine/tare/internal/linux/sock"
)

// more has a server asked for one container more, and returns where.
func more(t *testing.T, s *Server, id string) netip.AddrPort {
	t.Helper()
	sockets, err := Bind(netip.AddrPortFrom(Address, 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Add(id, sockets); err != nil {
		t.Fatal(err)
	}
	at, _ := sock.Own(sockets.UDP)
	return at
}

// send sends queries for names, and waits for no reply.
func send(t *testing.T, to netip.AddrPort, names ...string) {
	t.Helper()
	c, err := net.Dial("udp4", to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, name := range names {
		if _, err := c.Write(mustPack(t, query(name, dns.TypeA))); err != nil {
			t.Fatal(err)
		}
	}
}

// eventually waits for what must come true.
func eventually(t *testing.T, what string, true func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !true(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// endless names have a container ask again whenever it is answered.
type endless struct {
	*fake
	container string
	again     func()
}

func (e *endless) Addresses(containerID, name string) ([]netip.Addr, bool) {
	if containerID == e.container {
		e.again()
	}
	return e.fake.Addresses(containerID, name)
}

// TestFloodHoldsUpNobodyElse asks for one container while another asks without end: its
// socket is never read to the end.
func TestFloodHoldsUpNobodyElse(t *testing.T) {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := mustPack(t, query("web.", dns.TypeA))
	var to atomic.Pointer[net.UDPAddr]
	names := &endless{fake: someNames(), container: "c", again: func() { _, _ = c.WriteTo(b, to.Load()) }}
	s, flooded, _ := serve(t, names)
	quiet := more(t, s, "quiet")
	to.Store(net.UDPAddrFromAddrPort(flooded))
	for range 2 * atOnce {
		names.again()
	}
	for range 20 {
		if r := ask4(t, "udp", quiet, "web."); !is(r, "10.1.0.2") {
			t.Fatal(r)
		}
	}
}

// TestSilentUpstreams has many containers ask what is never answered: other names and
// other containers are answered, and what it costs is bounded and goes again.
func TestSilentUpstreams(t *testing.T) {
	before := runtime.NumGoroutine()
	names := &fake{upstreams: []Upstream{upstream(t, "udp", func(q *dns.Msg) *dns.Msg {
		if strings.HasPrefix(q.Question[0].Name, "hangs") {
			return nil
		}
		return knows("192.0.2.1")(q)
	})}}
	s, one, _ := serve(t, names)
	hang := func(at netip.AddrPort, n int) {
		for i := range n {
			send(t, at, fmt.Sprintf("hangs-%d.example.", i))
		}
	}
	under := func() int {
		s.queries.mu.Lock()
		defer s.queries.mu.Unlock()
		return s.queries.n
	}
	hang(one, maxQueries/2)
	eventually(t, "queries are not forwarded", func() bool { return under() == maxQueries/2 })
	if r := ask4(t, "udp", one, "answered.example."); !is(r, "192.0.2.1") {
		t.Error("another name:", r)
	}
	const containers, each = 200, 20
	var at []netip.AddrPort
	for i := range containers {
		at = append(at, more(t, s, fmt.Sprint("c", i)))
	}
	for _, a := range at {
		hang(a, each)
	}
	eventually(t, "queries are not forwarded", func() bool { return under() == allQueries })
	quiet := more(t, s, "quiet")
	for i := range 20 {
		if r := ask4(t, "udp", quiet, fmt.Sprintf("n%d.example.", i)); !is(r, "192.0.2.1") {
			t.Error("another container:", r)
		}
	}
	if n := under(); n > allQueries {
		t.Error("forwarded at once:", n)
	}
	// One for each query, one for its upstream, and those that were cancelled and are ending.
	eventually(t, "there are too many goroutines", func() bool { return runtime.NumGoroutine() < before+2*allQueries+100 })
	eventually(t, "what is not answered does not end", func() bool { return under() == 0 && runtime.NumGoroutine() < before+100 })
}

// TestSameQueryOfManyIsOne: who asks what is asked already costs no goroutine.
func TestSameQueryOfManyIsOne(t *testing.T) {
	release := make(chan struct{})
	names := someNames()
	names.upstreams = []Upstream{upstream(t, "udp", func(q *dns.Msg) *dns.Msg {
		<-release
		return knows("192.0.2.1")(q)
	})}
	s, at, _ := serve(t, names)
	conns := make([]*dns.Conn, maxSame)
	for i := range conns {
		c, err := dns.Dial("udp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		q := query("example.org.", dns.TypeA)
		q.Id = uint16(i + 1)
		if err := c.WriteMsg(q); err != nil {
			t.Fatal(err)
		}
		conns[i] = c
	}
	waiting := func() (n int) {
		s.mu.Lock()
		c := s.clients["c"]
		s.mu.Unlock()
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, f := range c.flights {
			n += len(f.waiting)
		}
		return n
	}
	eventually(t, "not all wait", func() bool { return waiting() == maxSame })
	send(t, at, "example.org.") // one more than may wait
	if r := ask4(t, "udp", at, "web."); !is(r, "10.1.0.2") || waiting() != maxSame {
		t.Error(r, waiting())
	}
	close(release)
	for i, c := range conns {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if r, err := c.ReadMsg(); err != nil || r.Id != uint16(i+1) || !is(r, "192.0.2.1") {
			t.Errorf("%d: %v, %v", i, r, err)
		}
	}
}
