package relay

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/linux/hostport"
)

const patience = 20 * time.Second

// newPort serves a port of ::1 that leads to an address of 127.0.0.1.
func newPort(t *testing.T, proto string, to net.Addr) (r *Relay, socket *os.File, addr string) {
	t.Helper()
	r, err := Open(slog.New(slog.DiscardHandler), func(netip.Addr) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	socket, err = hostport.Reserve(proto, freePort(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	if err := r.Serve(socket, netip.MustParseAddrPort(to.String())); err != nil {
		t.Fatal(err)
	}
	_, at, err := hostport.Of(socket)
	if err != nil {
		t.Fatal(err)
	}
	return r, socket, at.String()
}

// freePort is one of ::1 that is free now. A socket keeps only a port that it was told.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// newServer calls serve with the first connection.
func newServer(t *testing.T, serve func(*net.TCPConn)) net.Addr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c, err := l.Accept(); err == nil {
			serve(c.(*net.TCPConn))
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr()
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// TestHalfClosed: who has said all that he has to say still gets the answer, whole.
func TestHalfClosed(t *testing.T) {
	to := newServer(t, func(c *net.TCPConn) {
		all, _ := io.ReadAll(c)
		c.Write(all)
	})
	_, _, addr := newPort(t, "tcp", to)
	c := dial(t, addr)
	sent := make([]byte, 8<<20)
	rand.Read(sent)
	if _, err := c.Write(sent); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes came back, %v", len(got), len(sent), err)
	}
}

// TestNobodyListens: the client is cut, as by a host where nobody listens.
func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	_, _, addr := newPort(t, "tcp", l.Addr())
	c, err := net.DialTimeout("tcp", addr, patience)
	if err == nil {
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
}

// TestCutIsCutOnBothSides: a connection that one side cuts does not look complete to the
// other.
func TestCutIsCutOnBothSides(t *testing.T) {
	to := newServer(t, func(c *net.TCPConn) {
		c.Read(make([]byte, 1))
		c.Write([]byte("half"))
		c.SetLinger(0)
	})
	_, _, addr := newPort(t, "tcp", to)
	c := dial(t, addr)
	c.Write([]byte("x"))
	if got, err := io.ReadAll(c); err == nil {
		t.Errorf("%q looks complete", got)
	}
}

// TestStopped: a port that is not served any more refuses, and its connections are cut;
// it can be served again, with connections of before in TIME_WAIT.
func TestStopped(t *testing.T) {
	hold := make(chan struct{})
	to := newServer(t, func(c *net.TCPConn) {
		c.Write([]byte("x"))
		<-hold
	})
	r, socket, addr := newPort(t, "tcp", to)
	c := dial(t, addr)
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(socket); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Error("a connection of a port that is stopped:", err)
	}
	close(hold)
	if _, err := net.DialTimeout("tcp", addr, patience); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Error("a port that is stopped:", err)
	}
	again := newServer(t, func(c *net.TCPConn) { c.Write([]byte("again")) })
	if err := r.Serve(socket, netip.MustParseAddrPort(again.String())); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(dial(t, addr)); string(got) != "again" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestSilentPortsCostNoGoroutine: they cost no goroutine.
func TestSilentPortsCostNoGoroutine(t *testing.T) {
	r, err := Open(slog.New(slog.DiscardHandler), func(netip.Addr) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	before := runtime.NumGoroutine()
	for range 100 {
		f, err := hostport.Reserve("tcp", netip.AddrPortFrom(netip.IPv6Loopback(), 0))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := r.Serve(f, netip.MustParseAddrPort("127.0.0.1:1")); err != nil {
			t.Fatal(err)
		}
	}
	if now := runtime.NumGoroutine(); now > before {
		t.Errorf("%d goroutines more", now-before)
	}
}

// TestDatagrams: each client gets the answers that are his, from where he has asked.
func TestDatagrams(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 100)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			server.WriteTo(buf[:n], from)
			server.WriteTo(buf[:n], from)
		}
	}()
	defer func() { server.Close(); <-done }()
	r, socket, addr := newPort(t, "udp", server.LocalAddr())
	var clients []net.Conn
	for range 3 {
		c, err := net.Dial("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		clients = append(clients, c)
	}
	ask := func(c net.Conn, what string) {
		t.Helper()
		if _, err := io.WriteString(c, what); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			buf := make([]byte, 100)
			n, err := c.Read(buf)
			if err != nil || string(buf[:n]) != what {
				t.Errorf("%q, %v; want %q", buf[:n], err, what)
			}
		}
	}
	for range 2 {
		for i, c := range clients {
			ask(c, string(rune('a'+i)))
		}
	}
	p := r.port(socket)
	p.mu.Lock()
	n := len(p.flows)
	for _, f := range p.flows {
		f.used = f.used.Add(-silence)
	}
	p.mu.Unlock()
	if n != len(clients) {
		t.Errorf("%d clients are known", n)
	}
	r.forgetSilent()
	p.mu.Lock()
	n = len(p.flows)
	p.mu.Unlock()
	if n != 0 {
		t.Errorf("%d clients are known after a long silence", n)
	}
	ask(clients[0], "again")
}
