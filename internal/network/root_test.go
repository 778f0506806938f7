//go:build root

package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/linux/sysctl"
)

// inside marks the copy of the test program that runs in a network namespace
// of its own, which plays the host.
const inside = "TARE_TEST_NETNS"

func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), inside+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := c.Run()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(e.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Addresses of the link between the host and the neighbour, which plays the
// world outside.
var (
	hostOut      = netip.MustParsePrefix("192.0.2.1/24")
	neighbourOut = netip.MustParsePrefix("192.0.2.2/24")

	hostOut6      = netip.MustParsePrefix("2001:db8::1/64")
	neighbourOut6 = netip.MustParsePrefix("2001:db8::2/64")
)

// newNeighbour makes the world outside, connected by a pair of links.
func newNeighbour(t testing.TB) *os.File {
	t.Helper()
	m := netns.NewMaker(1)
	defer m.Close()
	var in *netlink.Conn
	ns, err := m.New(func() (err error) { in, err = netlink.Open(); return })
	must(t, err)
	host, err := netlink.Open()
	must(t, err)
	defer in.Close()
	defer host.Close()
	var h, n netlink.Batch
	h.SetUp(1)
	h.AddVeth(netlink.Veth{Name: "out0", Index: 100, PeerName: "eth0", PeerIndex: 2, PeerNS: int(ns.Fd())})
	h.AddAddr(100, netlink.Addr{Prefix: hostOut})
	h.AddAddr(100, netlink.Addr{Prefix: hostOut6})
	must(t, host.Do(&h))
	n.SetUp(1)
	n.AddAddr(2, netlink.Addr{Prefix: neighbourOut})
	n.AddAddr(2, netlink.Addr{Prefix: neighbourOut6})
	n.SetUp(2)
	must(t, in.Do(&n))
	var c netlink.Batch
	c.Settle(100)
	must(t, host.Do(&c))
	t.Cleanup(func() {
		ns.Close()
		var b netlink.Batch
		b.DelLink(100)
		c, err := netlink.Open()
		must(t, err)
		defer c.Close()
		must(t, c.Do(&b))
	})
	return ns
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// openService opens a service on a directory and adopts nothing.
func openService(t testing.TB, cfg Config) *Service {
	t.Helper()
	if cfg.EngineID == "" {
		cfg.EngineID, cfg.Default = "e1", true
	}
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	s, err := Open(cfg)
	must(t, err)
	r, err := s.Adopt(context.Background(), nil, nil)
	must(t, err)
	if len(r.Lost) > 0 {
		t.Fatal(r.Lost)
	}
	t.Cleanup(func() {
		for id := range s.endpoints {
			if err := s.Release(context.Background(), id); err != nil {
				t.Error(err)
			}
		}
		if err := errors.Join(s.Destroy(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func attach(t testing.TB, s *Service) *Endpoint {
	t.Helper()
	e, err := s.Attach(context.Background(), Request{ContainerID: ident.New(), Name: "c"})
	must(t, err)
	return e
}

// serve answers every connection or datagram in a namespace with the client's
// address as the server sees it.
func serve(t testing.TB, ns *os.File, proto, addr string) {
	t.Helper()
	must(t, netns.Do(ns, func() error {
		if proto == "udp" {
			c, err := net.ListenPacket("udp", addr)
			if err == nil {
				t.Cleanup(func() { c.Close() })
				go func() {
					b := make([]byte, 100)
					for {
						_, from, err := c.ReadFrom(b)
						if err != nil {
							return
						}
						c.WriteTo([]byte(from.String()+"\n"), from)
					}
				}()
			}
			return err
		}
		l, err := net.Listen("tcp", addr)
		if err == nil {
			t.Cleanup(func() { l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					io.WriteString(c, c.RemoteAddr().String()+"\n")
					c.Close()
				}
			}()
		}
		return err
	}))
}

// ask connects from a namespace (nil: the host) and returns what the server
// answers at once: the client's address.
func ask(ns *os.File, proto, addr string) (string, error) {
	return askFor(300*time.Millisecond, ns, proto, addr)
}

func askFor(patience time.Duration, ns *os.File, proto, addr string) (string, error) {
	var seen string
	f := func() error {
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
	}
	if ns == nil {
		err := f()
		return seen, err
	}
	err := netns.Do(ns, f)
	return seen, err
}

// wantAnswer checks that a server answers and which client it saw.
func wantAnswer(t *testing.T, what string, ns *os.File, proto, addr, client string) {
	t.Helper()
	got, err := askFor(20*time.Second, ns, proto, addr)
	if err != nil || got != client {
		t.Errorf("%s: %s %s: server saw %q, %v; want %s", what, proto, addr, got, err, client)
	}
}

func wantNoAnswer(t *testing.T, what string, ns *os.File, proto, addr string) {
	t.Helper()
	if got, err := ask(ns, proto, addr); err == nil {
		t.Errorf("%s: %s %s is reachable, server saw %q", what, proto, addr, got)
	}
}

func TestContainerReachesOutside(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	a, b := attach(t, s), attach(t, s)
	if a.IP.String() != "172.17.0.2/16" || a.MAC.String() != "02:42:ac:11:00:02" || a.Gateway.String() != "172.17.0.1" {
		t.Fatalf("%+v", a.Record)
	}
	serve(t, world, "tcp", "192.0.2.2:80")
	wantAnswer(t, "container to world", a.NetNS, "tcp", "192.0.2.2:80", "192.0.2.1")
	serve(t, b.NetNS, "tcp", "172.17.0.3:80")
	wantAnswer(t, "container to container", a.NetNS, "tcp", "172.17.0.3:80", "172.17.0.2")
	wantAnswer(t, "host to container", nil, "tcp", "172.17.0.3:80", "172.17.0.1")
	must(t, netns.Do(a.NetNS, func() error {
		for name, want := range map[string]string{"eth0/disable_ipv6": "1", "eth0/accept_ra": "0", "lo/disable_ipv6": "0"} {
			if v, err := sysctl.Read("net/ipv6/conf/" + name); v != want || err != nil {
				t.Errorf("%s = %s, %v; want %s", name, v, err, want)
			}
		}
		return nil
	}))
}
