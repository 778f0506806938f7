// Package networktest makes hosts for tests: a network namespace that plays the host,
// a neighbour that plays the world outside, and packets between them.
//
//	func TestMain(m *testing.M) { networktest.Main(m) } // the test program is the host
//
//	world := networktest.NewNeighbour(t)
//	networktest.Serve(t, world, "tcp", "192.0.2.2:80")
//	networktest.WantAnswer(t, "host to world", nil, "tcp", "192.0.2.2:80", "192.0.2.1")
package networktest

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/linux/sysctl"
)

// inside marks the copy of the test program that runs in a network namespace of its
// own.
const inside = "TARE_TEST_NETNS"

// Main runs a package's tests in a new network namespace, which plays the host: by a
// copy of the test program, as Go's threads cannot all be moved. It does not return.
func Main(m *testing.M) {
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
	os.Exit(0)
}

// Addresses of the link between the host, where it is out0 with index OutIndex, and its
// neighbour, where it is eth0 with index 2.
var (
	HostOut      = netip.MustParsePrefix("192.0.2.1/24")
	NeighbourOut = netip.MustParsePrefix("192.0.2.2/24")

	HostOut6      = netip.MustParsePrefix("2001:db8::1/64")
	NeighbourOut6 = netip.MustParsePrefix("2001:db8::2/64")
)

// OutIndex is the number of the host's link to its neighbour.
const OutIndex = 100

// neighbourIndex is that of the link's other end.
const neighbourIndex = 2

// NewNamespace makes a network namespace with nothing but loopback, which lives as long
// as the test.
func NewNamespace(t testing.TB) *os.File {
	t.Helper()
	ns, in := newNamespace(t)
	Must(t, in.Close())
	return ns
}

// newNamespace makes a namespace, and a socket in it that the caller closes.
func newNamespace(t testing.TB) (*os.File, *netlink.Conn) {
	t.Helper()
	m := netns.NewMaker(1)
	defer m.Close()
	var in *netlink.Conn
	ns, err := m.New(func() (err error) { in, err = netlink.Open(); return })
	Must(t, err)
	t.Cleanup(func() { ns.Close() })
	var b netlink.Batch
	b.SetUp(netlink.Loopback)
	Must(t, in.Do(&b))
	return ns, in
}

// NewNeighbour makes the world outside: a namespace that is connected with the host by
// a pair of links. Both go with the test.
func NewNeighbour(t testing.TB) *os.File {
	t.Helper()
	host, err := netlink.Open()
	Must(t, err)
	defer host.Close()
	t.Cleanup(func() {
		var b netlink.Batch
		b.DelLink(OutIndex)
		Must(t, do(&b))
	})
	ns, in := newNamespace(t)
	defer in.Close()
	var h, n netlink.Batch
	h.SetUp(netlink.Loopback)
	h.AddVeth(netlink.Veth{Name: "out0", Index: OutIndex, PeerName: "eth0", PeerIndex: neighbourIndex, PeerNS: int(ns.Fd())})
	h.AddAddr(OutIndex, netlink.Addr{Prefix: HostOut})
	h.AddAddr(OutIndex, netlink.Addr{Prefix: HostOut6})
	Must(t, host.Do(&h))
	n.AddAddr(neighbourIndex, netlink.Addr{Prefix: NeighbourOut})
	n.AddAddr(neighbourIndex, netlink.Addr{Prefix: NeighbourOut6})
	n.SetUp(neighbourIndex)
	Must(t, in.Do(&n))
	var c netlink.Batch
	c.Settle(OutIndex)
	Must(t, host.Do(&c))
	return ns
}

// do sends a batch in the caller's namespace.
func do(b *netlink.Batch) error {
	c, err := netlink.Open()
	if err != nil {
		return err
	}
	return errors.Join(c.Do(b), c.Close())
}

// RouteToHost has a neighbour send the packets for subnets to the host, which it would
// not get otherwise.
func RouteToHost(t testing.TB, world *os.File, subnets ...string) {
	t.Helper()
	var b netlink.Batch
	for _, p := range subnets {
		r := netlink.Route{Dst: netip.MustParsePrefix(p), Gateway: HostOut.Addr(), Index: neighbourIndex}
		if r.Dst.Addr().Is6() {
			r.Gateway = HostOut6.Addr()
		}
		b.AddRoute(r)
	}
	Must(t, netns.Do(world, func() error { return do(&b) }))
}

// RouteLoopbackToHost has a neighbour send the packets for 127.0.0.0/8 to the host, as a
// hostile one might.
func RouteLoopbackToHost(t testing.TB, world *os.File) {
	t.Helper()
	var b netlink.Batch
	b.SetDown(netlink.Loopback) // without a loopback its addresses are routed like any
	Must(t, netns.Do(world, func() error {
		return errors.Join(do(&b), sysctl.Write("net/ipv4/conf/eth0/route_localnet", "1"))
	}))
	RouteToHost(t, world, "127.0.0.0/8")
}

// Must ends the test with an error, if it is one.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
