package dns

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/tare-engine/tare/internal/linux/sock"
)

// serve starts a server that is asked for one container, and returns where.
func serve(t *testing.T, names Names) (s *Server, udp, tcp netip.AddrPort) {
	t.Helper()
	s, err := Open(names, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	sockets, err := Bind(netip.AddrPortFrom(Address, 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Add("c", sockets); err != nil {
		t.Fatal(err)
	}
	udp, _ = sock.Own(sockets.UDP)
	tcp, _ = sock.Own(sockets.TCP)
	return s, udp, tcp
}

// upstream is a name server of the host that does what it is told.
func upstream(t *testing.T, proto string, do func(q *dns.Msg) *dns.Msg) Upstream {
	t.Helper()
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		if r := do(q); r != nil {
			_ = w.WriteMsg(r)
		}
	})
	var at net.Addr
	srv := &dns.Server{Handler: handler}
	var err error
	if proto == "udp" {
		srv.PacketConn, err = net.ListenPacket("udp4", "127.0.0.1:0")
	} else {
		srv.Listener, err = net.Listen("tcp4", "127.0.0.1:0")
	}
	if err != nil {
		t.Fatal(err)
	}
	if proto == "udp" {
		at = srv.PacketConn.LocalAddr()
	} else {
		at = srv.Listener.Addr()
	}
	started := make(chan struct{})
	srv.NotifyStartedFunc = func() { close(started) }
	go srv.ActivateAndServe()
	<-started
	t.Cleanup(func() { srv.Shutdown() })
	return Upstream{Addr: netip.MustParseAddrPort(at.String()), Host: true}
}

// knows answers with an address.
func knows(addr string) func(*dns.Msg) *dns.Msg {
	return func(q *dns.Msg) *dns.Msg {
		r := &dns.Msg{}
		r.SetReply(q)
		rr, _ := dns.NewRR(q.Question[0].Name + " 60 IN A " + addr)
		r.Answer = append(r.Answer, rr)
		return r
	}
}

func fails(q *dns.Msg) *dns.Msg {
	r := &dns.Msg{}
	return r.SetRcode(q, dns.RcodeServerFailure)
}

func silent(*dns.Msg) *dns.Msg { return nil }

func ask4(t *testing.T, proto string, at netip.AddrPort, name string) *dns.Msg {
	t.Helper()
	c := dns.Client{Net: proto, Timeout: 10 * time.Second}
	r, _, err := c.Exchange(query(name, dns.TypeA), at.String())
	if err != nil {
		t.Fatalf("%s over %s: %v", name, proto, err)
	}
	return r
}

// is says that a reply is one address.
func is(r *dns.Msg, addr string) bool {
	if r.Rcode != dns.RcodeSuccess || len(r.Answer) != 1 {
		return false
	}
	a, ok := r.Answer[0].(*dns.A)
	return ok && a.A.String() == addr
}

func TestServerAnswersNames(t *testing.T) {
	_, udp, tcp := serve(t, someNames())
	for proto, at := range map[string]netip.AddrPort{"udp": udp, "tcp": tcp} {
		if r := ask4(t, proto, at, "web."); !is(r, "10.1.0.2") {
			t.Errorf("%s: %v", proto, r)
		}
		if r := ask4(t, proto, at, "example.org."); r.Rcode != dns.RcodeServerFailure {
			t.Errorf("%s, with nobody to ask: %v", proto, r)
		}
	}
}

func TestServerForwards(t *testing.T) {
	for _, c := range []struct {
		name string
		up   []func(*dns.Msg) *dns.Msg
		code int
		want string
	}{
		{"the first", []func(*dns.Msg) *dns.Msg{knows("192.0.2.1"), knows("192.0.2.2")}, 0, "192.0.2.1"},
		{"after a failure", []func(*dns.Msg) *dns.Msg{fails, knows("192.0.2.2")}, 0, "192.0.2.2"},
		{"beside a silent one", []func(*dns.Msg) *dns.Msg{silent, knows("192.0.2.2")}, 0, "192.0.2.2"},
		{"nobody", []func(*dns.Msg) *dns.Msg{fails, silent}, dns.RcodeServerFailure, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, proto := range []string{"udp", "tcp"} {
				names := &fake{}
				for _, do := range c.up {
					names.upstreams = append(names.upstreams, upstream(t, proto, do))
				}
				_, udp, tcp := serve(t, names)
				at := map[string]netip.AddrPort{"udp": udp, "tcp": tcp}[proto]
				r := ask4(t, proto, at, "example.org.")
				if r.Rcode != c.code || c.want != "" && !is(r, c.want) {
					t.Errorf("%s: %v", proto, r)
				}
			}
		})
	}
}

// TestServerAsksOnce: what is in the cache, or asked for already, is not asked again.
func TestServerAsksOnce(t *testing.T) {
	var asked atomic.Int32
	names := &fake{upstreams: []Upstream{upstream(t, "udp", func(q *dns.Msg) *dns.Msg {
		asked.Add(1)
		return knows("192.0.2.1")(q)
	})}}
	_, udp, _ := serve(t, names)
	for range 3 {
		if r := ask4(t, "udp", udp, "example.org."); !is(r, "192.0.2.1") {
			t.Error(r)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("%d times", n)
	}
}

// TestServerHearsNobodyElse: a reply under another id, or to another question, is
// not taken.
func TestServerHearsNobodyElse(t *testing.T) {
	l, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		buf := make([]byte, 512)
		n, from, err := l.ReadFrom(buf)
		if err != nil {
			return
		}
		var q dns.Msg
		if q.Unpack(buf[:n]) != nil {
			return
		}
		for i, change := range []func(*dns.Msg){
			func(r *dns.Msg) { r.Id++ },
			func(r *dns.Msg) { r.Question[0].Name = "example.com." },
			func(r *dns.Msg) { r.Response = false },
			func(*dns.Msg) {},
		} {
			r := knows(fmt.Sprintf("192.0.2.%d", i))(q.Copy())
			change(r)
			if b, err := r.Pack(); err == nil {
				_, _ = l.WriteTo(b, from)
			}
		}
	}()
	names := &fake{upstreams: []Upstream{{Addr: netip.MustParseAddrPort(l.LocalAddr().String()), Host: true}}}
	_, udp, _ := serve(t, names)
	if r := ask4(t, "udp", udp, "example.org."); !is(r, "192.0.2.3") {
		t.Error(r)
	}
}

// TestRemoveEndsWhatIsUnderWay: connections and queries of a container that is gone.
func TestRemoveEndsWhatIsUnderWay(t *testing.T) {
	asked := make(chan struct{}, 16)
	names := &fake{upstreams: []Upstream{upstream(t, "tcp", func(*dns.Msg) *dns.Msg {
		asked <- struct{}{}
		return nil
	})}}
	s, _, tcp := serve(t, names)
	c, err := net.Dial("tcp", tcp.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := writeFramed(c, mustPack(t, query("example.org.", dns.TypeA))); err != nil {
		t.Fatal(err)
	}
	<-asked
	s.Remove("c")
	s.Remove("c") // there is none any more
	if s.Sockets("c") != nil {
		t.Error("there are sockets")
	}
	reply, err := readFramed(c)
	if err == nil {
		_, err = readFramed(c) // it may have been told that nobody could be asked
	}
	if err == nil || errors.Is(err, net.ErrClosed) {
		t.Error(reply, err)
	}
	if _, err := net.Dial("tcp", tcp.String()); err == nil {
		t.Error("somebody listens")
	}
}

// TestCloseWaitsForWhatIsUnderWay: who waits for a reply has been told when the server is
// closed.
func TestCloseWaitsForWhatIsUnderWay(t *testing.T) {
	asked := make(chan struct{}, 16)
	silent := upstream(t, "udp", func(*dns.Msg) *dns.Msg { asked <- struct{}{}; return nil })
	s, err := Open(&fake{upstreams: []Upstream{silent}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	sockets, err := Bind(netip.AddrPortFrom(Address, 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Add("c", sockets); err != nil {
		t.Fatal(err)
	}
	told := false
	s.clients["c"].ask(mustPack(t, query("example.org.", dns.TypeA)), true, func([]byte) { told = true })
	<-asked
	if err := s.Close(); err != nil || !told {
		t.Error("under way:", err)
	}
}
