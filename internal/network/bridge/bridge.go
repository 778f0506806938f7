// Package bridge makes the links of bridge networks.
//
// A network is one Linux bridge that bears the gateway's address, unless it has none or
// another machine has it. An endpoint is a veth pair: one end is a port of the bridge, the
// other is eth0 in the container's network namespace.
//
//	host                                   container
//	tare0  172.17.0.1/16 (bridge)
//	 ├─ tv3f…  ─────────────── veth ────── eth0 172.17.0.2/16, default via 172.17.0.1
//	 └─ tv9a…  ─────────────── veth ────── eth0 172.17.0.3/16
//
// Both sides know each other by permanent neighbour entries: neither ARP nor NDP for
// the gateway, and the host's tables of neighbours cannot overflow. A network has
// addresses of IPv4, of IPv6, or of both; without those of IPv6 its links do not know
// it, and with them they believe no router's advertisements.
//
// Endpoints are never taken down link by link, which would hold up every other
// change of the network for tens of milliseconds. When nothing is in the
// namespace any more, the kernel removes both ends in the background.
package bridge

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"

	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/linux/sysctl"
)

// Group is the link group of what bridge networks of all engines have at the host: bridges,
// ends of pairs, second links of limits. Rules of one engine for "everything that is no
// container's" spare the others' by it.
const Group = 0x7a9e

// Alias begins the aliases of all engines' links.
const Alias = "tare:"

// ErrForeign says that a link of the name exists and is not this engine's.
var ErrForeign = errors.New("the link belongs to somebody else, and an engine makes its own: name one that is not there yet")

// Link is the bridge of a network.
type Link struct {
	Name     string
	MAC      net.HardwareAddr
	Gateways []netip.Prefix // its own addresses, one of a family at most, with the lengths of the subnets
	MTU      int            // of endpoints; 0: the kernel's default

	options Options
	index   atomic.Int64 // changes when somebody deletes the bridge
	answers atomic.Int64 // the index of the bridge that answers for endpoints beside it
}

// Index returns the bridge's number in the kernel.
func (l *Link) Index() int { return int(l.index.Load()) }

// Options describe the bridge of a network.
type Options struct {
	Name     string
	Alias    string // names the owner
	MAC      net.HardwareAddr
	Gateways []netip.Prefix
	// KeepAddrs leaves the bridge addresses that somebody else has given to it.
	KeepAddrs bool
	MTU       int
	// NoICC keeps endpoints that have ports of the bridge from reaching each other there. (Whether the
	// host's firewall sees what stays on a bridge depends on br_netfilter.)
	NoICC bool
}

// Ensure makes the bridge, or brings one made earlier into the state described. What it has
// made is gone after an error.
func Ensure(c *netlink.Conn, o Options) (*Link, error) {
	l, ok, err := c.LinkByName(o.Name)
	if err != nil {
		return nil, err
	}
	switch {
	case ok && l.Kind != "bridge":
		return nil, fmt.Errorf("%s is not a bridge: %w", o.Name, ErrForeign)
	case ok && l.Alias != o.Alias:
		if finished, err := Finished(c, l); err != nil || finished {
			return nil, errors.Join(err, fmt.Errorf("bridge %s (alias %q): %w", o.Name, l.Alias, ErrForeign))
		}
	case !ok:
		if l, err = add(c, o, o.MAC); err != nil {
			return nil, err
		}
		failpoint.Hit("network/bridge-begun")
	}
	link := &Link{Name: o.Name, MAC: l.MAC, Gateways: o.Gateways, MTU: o.MTU, options: o}
	link.index.Store(int64(l.Index))
	err = link.configure(c, l)
	if err != nil && !ok {
		var b netlink.Batch
		b.DelLink(l.Index)
		err = errors.Join(err, c.Do(&b))
	}
	return link, err
}

// Restore makes the bridge anew after somebody has deleted it, with the same
// hardware address, which containers know. Reconnect the endpoints afterwards.
func (l *Link) Restore(c *netlink.Conn) error {
	have, ok, err := c.LinkByName(l.Name)
	if err != nil {
		return err
	}
	if !ok {
		if have, err = add(c, l.options, l.MAC); err != nil {
			return err
		}
	}
	l.index.Store(int64(have.Index))
	return l.configure(c, have)
}

// Sound reports whether the bridge is up and has its addresses. One that is not there is
// as good: somebody is told of that otherwise.
func (l *Link) Sound(c *netlink.Conn) (bool, error) {
	have, ok, err := c.LinkByName(l.Name)
	if err != nil || !ok {
		return !ok, err
	}
	addrs, err := c.Addrs(have.Index)
	lost := slices.ContainsFunc(l.Gateways, func(g netip.Prefix) bool { return !slices.Contains(addrs, g) })
	return have.Up && !lost, err
}

// Reconnect makes a bridged endpoint a port of the bridge again, and has it up.
func (l *Link) Reconnect(c *netlink.Conn, e Endpoint) error {
	var b netlink.Batch
	b.SetUp(e.Index)
	b.SetMaster(e.Index, l.Index())
	l.know(&b, e)
	if l.options.NoICC {
		b.SetIsolated(e.Index)
	}
	b.Settle(e.Index)
	b.Settle(l.Index())
	return c.Do(&b)
}

// add makes the bridge; configure gives it the alias, which the kernel does not
// take in the same message.
func add(c *netlink.Conn, o Options, mac net.HardwareAddr) (netlink.Link, error) {
	var b netlink.Batch
	b.AddBridge(o.Name, mac, o.MTU, Group)
	if err := c.Do(&b); err != nil {
		return netlink.Link{}, err
	}
	l, _, err := c.LinkByName(o.Name)
	return l, err
}

// Finished reports whether a bridge is more than the beginning of one whose maker
// was killed before the alias.
func Finished(c *netlink.Conn, l netlink.Link) (bool, error) {
	if l.Alias != "" || l.Group != Group {
		return true, nil
	}
	addrs, err := c.Addrs(l.Index)
	return len(addrs) > 0, err
}

// configure sets parameters, addresses and state. Addresses of other subnets, from an
// earlier configuration, go.
func (l *Link) configure(c *netlink.Conn, have netlink.Link) error {
	if err := l.setParameters(); err != nil { // an address of IPv6 needs them
		return err
	}
	o, index := l.options, l.Index()
	addrs, err := c.Addrs(index)
	if err != nil {
		return err
	}
	var b netlink.Batch
	for _, a := range addrs {
		if !o.KeepAddrs && !a.Addr().IsLinkLocalUnicast() && !slices.Contains(l.Gateways, a) {
			b.DelAddr(index, a)
		}
	}
	for _, g := range l.Gateways {
		if !slices.Contains(addrs, g) {
			b.AddAddr(index, netlink.Addr{Prefix: g})
		}
	}
	if have.Alias != o.Alias {
		b.SetAlias(index, o.Alias)
	}
	if have.Group != Group {
		b.SetGroup(index, Group)
	}
	b.SetUp(index)
	return c.Do(&b)
}

// gateway is the link's address of the same family as another one; zero if it has none.
func (l *Link) gateway(a netip.Addr) netip.Addr {
	for _, g := range l.Gateways {
		if g.Addr().Is4() == a.Is4() {
			return g.Addr()
		}
	}
	return netip.Addr{}
}

// ipv6 says that the link has an address of IPv6.
func (l *Link) ipv6() bool {
	return slices.ContainsFunc(l.Gateways, func(p netip.Prefix) bool { return p.Addr().Is6() })
}

// setParameters lets packets from 127.0.0.1 through to containers: a published
// port is reached there too. The firewall drops such packets that come from
// outside, which the kernel then no longer does.
func (l *Link) setParameters() error {
	if _, err := sysctl.Set("net/ipv4/conf/"+l.Name+"/route_localnet", "1"); err != nil {
		return err
	}
	return setIPv6(sysctl.Write, "net/ipv6/conf/"+l.Name, l.ipv6())
}

// Default has the links that will come into the calling thread's network namespace
// know IPv6 or not.
func Default(t *sysctl.Tree, ipv6 bool) error { return setIPv6(t.Write, "net/ipv6/conf/default", ipv6) }

// setIPv6 turns IPv6 on or off for links. Advertisements of routers are not believed,
// also if somebody turns it on later; addresses are used without a search for others
// that have them.
func setIPv6(write func(name, value string) error, dir string, on bool) error {
	disable := "1"
	if on {
		disable = "0"
	}
	for _, p := range [][2]string{{"accept_ra", "0"}, {"accept_dad", "0"}, {"disable_ipv6", disable}} {
		if p[0] == "accept_dad" && !on {
			continue
		}
		err := write(dir+"/"+p[0], p[1])
		if errors.Is(err, syscall.ENOENT) && !on {
			return nil // the kernel has no IPv6
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Remove removes the bridge of a network without endpoints; it may be gone.
func (l *Link) Remove(c *netlink.Conn) error {
	have, ok, err := c.LinkByName(l.Name)
	if err != nil || !ok || have.Alias != l.options.Alias {
		return err
	}
	var b netlink.Batch
	b.DelLink(have.Index)
	return c.Do(&b)
}

// Endpoint describes a container's place in the network.
type Endpoint struct {
	Name  string // of the host's end
	Index int    // of the host's end
	Alias string
	Addrs []Addr
	MAC   net.HardwareAddr
	// Beside makes the endpoint without a port of the bridge; see MaxPorts.
	Beside bool
	Iface  int // number of the container's end, from FirstIface on
	// IfaceName is the name of the container's end; empty: InterfaceName(Iface).
	IfaceName string
}

// InterfaceName is what the link of a number is called that is not named otherwise.
func InterfaceName(iface int) string { return "eth" + strconv.Itoa(iface-FirstIface) }

// Addr is an address of a container.
type Addr struct {
	netip.Prefix
	Gateway netip.Addr // the way out, if there is one
	Exit    bool       // its default route of the family leads here
}

// know tells the host where a bridged endpoint is, as far as it is in the network.
func (l *Link) know(h *netlink.Batch, e Endpoint) {
	for _, a := range e.Addrs {
		if !l.gateway(a.Addr()).IsValid() {
			continue
		}
		if a.Addr().Is6() {
			h.DelProxy(l.Index(), a.Addr()) // of an endpoint beside the bridge that had it
		}
		h.AddNeighbour(l.Index(), a.Addr(), e.MAC)
	}
	// One that has asked for the bridge's own hardware address does not get what is sent there.
	if !bytes.Equal(e.MAC, l.MAC) {
		h.AddForwarding(e.Index, e.MAC)
	}
}

// FirstIface is the number of a container's first link, behind that of lo. The next has the
// next one, in each namespace; higher ones where links of others are.
const FirstIface = netlink.Loopback + 1

// DefaultRoute is the route out by a gateway, over the container's link of that number.
func DefaultRoute(gateway netip.Addr, iface int) netlink.Route {
	everywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if gateway.Is6() {
		everywhere = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netlink.Route{Dst: everywhere, Gateway: gateway, Index: iface}
}

// pair makes the endpoint's links, as far as they do not depend on its addresses.
func (l *Link) pair(h *netlink.Batch, ns int, e Endpoint) {
	v := netlink.Veth{
		Name: e.Name, Index: e.Index, Master: l.Index(), Group: Group, MTU: l.MTU,
		PeerName: cmp.Or(e.IfaceName, InterfaceName(e.Iface)), PeerIndex: e.Iface, PeerMAC: e.MAC, PeerNS: ns,
	}
	if e.Beside {
		v.Master, v.MAC = 0, l.MAC
	}
	h.AddVeth(v)
	h.SetAlias(e.Index, e.Alias)
	h.SetNoLinkLocal(e.Index)
	switch {
	case e.Beside:
		h.SetRouteLocalnet(e.Index)
	case l.options.NoICC:
		h.SetIsolated(e.Index)
	}
}

// Connect makes the endpoint: ns is the descriptor of the container's network
// namespace, inside a socket in it. EEXIST says that the index is in use. After
// any other error, dropping the namespace removes what was made.
func (l *Link) Connect(host, inside *netlink.Conn, ns int, e Endpoint) error {
	if e.Beside {
		return l.connectBeside(host, inside, ns, e)
	}
	var h, n netlink.Batch
	l.pair(&h, ns, e)
	l.know(&h, e)
	if err := host.Do(&h); err != nil {
		return err
	}
	n.SetUp(netlink.Loopback)
	n.SetUp(e.Iface)
	l.address(&n, e)
	if err := inside.Do(&n); err != nil {
		return err
	}
	var c netlink.Batch
	l.settle(&c, e)
	return host.Do(&c)
}

// settle has the links of an endpoint carry packets: or the first ones of a container
// that starts at once are lost, and a lost SYN costs it a second. The bridge comes up with
// its first port.
func (l *Link) settle(c *netlink.Batch, e Endpoint) {
	c.Settle(e.Index)
	if !e.Beside {
		c.Settle(l.Index())
	}
}

// address gives a container's link what it has of IP.
func (l *Link) address(n *netlink.Batch, e Endpoint) {
	if e.Beside {
		l.addressBeside(n, e)
		return
	}
	for _, a := range e.Addrs {
		n.AddAddr(e.Iface, netlink.Addr{Prefix: a.Prefix})
	}
	for _, a := range e.Addrs {
		if own := l.gateway(a.Addr()); own.IsValid() {
			n.AddNeighbour(e.Iface, own, l.MAC)
		}
		if a.Exit {
			n.AddRoute(DefaultRoute(a.Gateway, e.Iface))
		}
	}
}

// Pair makes the links of an endpoint whose addresses are not known yet; Assign follows.
// Errors are those of Connect.
func (l *Link) Pair(host, inside *netlink.Conn, ns int, e Endpoint) error {
	var h, n netlink.Batch
	l.pair(&h, ns, e)
	if err := host.Do(&h); err != nil {
		return err
	}
	if e.Beside {
		if err := l.routeIPv6("net/ipv6/conf/" + e.Name); err != nil {
			return err
		}
	}
	n.SetUp(netlink.Loopback)
	return inside.Do(&n)
}

// Assign gives an endpoint of Pair its addresses; its link comes up with them, as one of
// IPv6 follows from the hardware address. After an error the namespace is to be dropped,
// and Forget called.
func (l *Link) Assign(host, inside *netlink.Conn, e Endpoint) error {
	var h, n netlink.Batch
	n.SetMAC(e.Iface, e.MAC)
	n.SetUp(e.Iface)
	l.address(&n, e)
	if err := inside.Do(&n); err != nil {
		return err
	}
	if e.Beside {
		if err := l.answerFor(host, e); err != nil {
			return err
		}
		l.route(&h, e)
	} else {
		l.know(&h, e)
	}
	l.settle(&h, e)
	return host.Do(&h)
}

// Hairpin prepares an endpoint for reaching itself by way of a published port
// of the host. Where bridged packets pass through the host's firewall
// (br_netfilter), they are translated on the bridge and must leave by the port
// they came from. Others do without, as the bridge would then send them all of
// their own broadcasts.
func (l *Link) Hairpin(host *netlink.Conn, index int) error {
	var b netlink.Batch
	b.SetHairpin(index)
	return host.Do(&b)
}

// Forget removes what the host remembers of an endpoint whose link is gone.
func (l *Link) Forget(host *netlink.Conn, e Endpoint) error {
	var b netlink.Batch
	for _, a := range e.Addrs {
		switch {
		case !l.gateway(a.Addr()).IsValid():
		case !e.Beside:
			b.DelNeighbour(l.Index(), a.Addr())
		case a.Addr().Is6():
			b.DelProxy(l.Index(), a.Addr()) // all else the kernel has removed
		}
	}
	return host.Do(&b)
}

// MACOf is a hardware address that belongs to an address: of IPv4 Docker's way, with
// the address in it; of IPv6 one that no other address of a network has, nearly sure.
func MACOf(ip netip.Addr) net.HardwareAddr {
	if ip.Is4() {
		b := ip.As4()
		return append(net.HardwareAddr{0x02, 0x42}, b[:]...)
	}
	const local, multicast = 2, 1 // bits of the first byte
	sum := sha256.Sum256(ip.AsSlice())
	sum[0] = sum[0]&^multicast | local
	return net.HardwareAddr(sum[:6])
}
