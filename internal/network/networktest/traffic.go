package networktest

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/linux/netns"
)

// Serve answers every connection or datagram in a namespace (nil: the host) with the
// client's address as the server sees it, until the test ends. proto is tcp or udp.
func Serve(t testing.TB, ns *os.File, proto, addr string) {
	t.Helper()
	Must(t, within(ns, func() error {
		if proto == "udp" {
			c, err := net.ListenPacket("udp", addr)
			if err == nil {
				t.Cleanup(func() { c.Close() })
				go answerDatagrams(c)
			}
			return err
		}
		l, err := net.Listen("tcp", addr)
		if err == nil {
			t.Cleanup(func() { l.Close() })
			go answerConnections(l)
		}
		return err
	}))
}

func answerDatagrams(c net.PacketConn) {
	b := make([]byte, 100)
	for {
		_, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		c.WriteTo([]byte(from.String()+"\n"), from)
	}
}

func answerConnections(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		io.WriteString(c, c.RemoteAddr().String()+"\n")
		c.Close()
	}
}

// within calls f in a namespace; nil is the host's, where the caller is.
func within(ns *os.File, f func() error) error {
	if ns == nil {
		return f()
	}
	return netns.Do(ns, f)
}

// Ask connects from a namespace (nil: the host) and returns what a server of Serve
// answers at once: the client's address.
func Ask(ns *os.File, proto, addr string) (string, error) {
	return AskFor(300*time.Millisecond, ns, proto, addr)
}

// AskFor is Ask for a server that may take some time.
func AskFor(patience time.Duration, ns *os.File, proto, addr string) (seen string, err error) {
	err = within(ns, func() error {
		c, err := net.DialTimeout(proto, addr, patience)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		if proto == "udp" {
			io.WriteString(c, "x")
		}
		seen, err = bufio.NewReader(c).ReadString('\n')
		if client, err := netip.ParseAddrPort(strings.TrimSpace(seen)); err == nil {
			seen = client.Addr().Unmap().String()
		}
		return err
	})
	return seen, err
}

// WantAnswer checks that a server answers and which client it saw.
func WantAnswer(t testing.TB, what string, ns *os.File, proto, addr, client string) {
	t.Helper()
	got, err := AskFor(20*time.Second, ns, proto, addr)
	if err != nil || got != client {
		t.Errorf("%s: %s %s: server saw %q, %v; want %s", what, proto, addr, got, err, client)
	}
}

// WantNoAnswer checks that a server is not reached.
func WantNoAnswer(t testing.TB, what string, ns *os.File, proto, addr string) {
	t.Helper()
	if got, err := Ask(ns, proto, addr); err == nil {
		t.Errorf("%s: %s %s is reachable, server saw %q", what, proto, addr, got)
	}
}
