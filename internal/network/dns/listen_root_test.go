//go:build root

package dns

import (
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/network/networktest"
)

// TestListen asks at port 53 from inside a namespace, where another server has that
// port, and from its loopback only.
func TestListen(t *testing.T) {
	ns := networktest.NewNamespace(t)
	before, err := Listen(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	sockets, err := Listen(ns) // the queries are its from now on
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range sockets.Files() {
		if proto, ok := Own(f); !ok || proto != []string{"udp", "tcp"}[i] {
			t.Error(proto, ok)
		}
	}
	of, err := netns.OfSocket(sockets.UDP)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := of.Stat()
	b, _ := ns.Stat()
	if !os.SameFile(a, b) {
		t.Error("the socket is in another namespace")
	}
	of.Close()

	s, err := Open(someNames(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Add("c", sockets); err != nil {
		t.Fatal(err)
	}
	if err := s.Add("c", sockets); err == nil {
		t.Error("a container has got two name servers")
	}
	for _, proto := range []string{"udp", "tcp"} {
		var own, conn net.Conn
		err := netns.Do(ns, func() error {
			l, err := net.ListenPacket("udp4", "0.0.0.0:53") // as a server of the container's does
			if err != nil {
				return err
			}
			own = l.(*net.UDPConn)
			conn, err = net.Dial(proto, "127.0.0.11:53")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		r, _, err := (&dns.Client{Net: proto, Timeout: 10 * time.Second}).ExchangeWithConn(query("web.", dns.TypeA), &dns.Conn{Conn: conn})
		if err != nil || !is(r, "10.1.0.2") {
			t.Errorf("%s: %v %v", proto, r, err)
		}
		conn.Close()
		own.Close()
	}
}

// BenchmarkListen is what a container on a network of a user costs more at its start.
func BenchmarkListen(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		ns := networktest.NewNamespace(b)
		b.StartTimer()
		s, err := Listen(ns)
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
		ns.Close()
		b.StartTimer()
	}
}
