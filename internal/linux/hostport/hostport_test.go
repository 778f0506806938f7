package hostport

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
)

// freePort returns a port of loopback that is free now.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func TestReservedPortIsRefusedToOthers(t *testing.T) {
	for _, proto := range []string{"tcp", "udp"} {
		a := freePort(t)
		f, err := Reserve(proto, a)
		if err != nil {
			t.Fatal(proto, err)
		}
		if _, err := Reserve(proto, a); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: second reservation: %v", proto, err)
		}
		if err := bindReusing(proto, a); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: foreign bind with SO_REUSEADDR: %v", proto, err)
		}
		p, got, err := Of(f)
		if err != nil || p != proto || got != a {
			t.Errorf("Of: %s %s %v", p, got, err)
		}
		f.Close()
		if err := bindReusing(proto, a); err != nil {
			t.Errorf("%s: after release: %v", proto, err)
		}
	}
}

// bindReusing binds as servers do: net sets SO_REUSEADDR for TCP.
func bindReusing(proto string, a netip.AddrPort) error {
	if proto == "udp" {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(a))
		if err == nil {
			c.Close()
		}
		return err
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", a.String())
	if err == nil {
		l.Close()
	}
	return err
}

func TestReservedPortRefusesConnections(t *testing.T) {
	a := freePort(t)
	f, err := Reserve("tcp", a)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := net.Dial("tcp", a.String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("dial: %v", err)
	}
}

func TestReserveIgnoresTimeWait(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := l.Addr().(*net.TCPAddr).AddrPort()
	go func() {
		c, err := net.Dial("tcp", a.String())
		if err == nil {
			c.Read(make([]byte, 1)) // the server closes first and gets TIME_WAIT
			c.Close()
		}
	}()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	l.Close()
	f, err := Reserve("tcp", a)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}
