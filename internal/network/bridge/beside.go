package bridge

import (
	"errors"
	"net/netip"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/linux/sysctl"
)

// MaxPorts is the number of endpoints that get a port of the bridge. The kernel
// refuses the 1,024th; the administrator may want a few.
const MaxPorts = 1000

// connectBeside makes an endpoint beside the bridge: a route for its one
// address leads to the host's end of the pair, and the container sends
// everything to the gateway, whose hardware address is the same there. It has
// an address of the same subnet and reaches, and is reached by, the same
// others; broadcasts end at the host.
func (l *Link) connectBeside(host, inside *netlink.Conn, ns int, e Endpoint) error {
	if err := l.answerFor(host, e); err != nil {
		return err
	}
	var h, n netlink.Batch
	l.pair(&h, ns, e)
	if err := host.Do(&h); err != nil {
		return err
	}
	if err := l.routeIPv6("net/ipv6/conf/" + e.Name); err != nil {
		return err
	}
	if err := l.routeTo(host, e); err != nil {
		return err
	}
	n.SetUp(netlink.Loopback)
	n.SetUp(e.Iface)
	l.addressBeside(&n, e)
	if err := inside.Do(&n); err != nil {
		return err
	}
	var c netlink.Batch
	l.settle(&c, e)
	return host.Do(&c)
}

// Routes are those by which the host reaches an endpoint beside the bridge.
func (l *Link) Routes(e Endpoint) (all []netlink.Route) {
	for _, a := range e.Addrs {
		all = append(all, netlink.Route{Dst: alone(a.Addr()), Src: l.gateway(a.Addr()), Index: e.Index})
	}
	return all
}

// route leads the host to an endpoint beside the bridge.
func (l *Link) route(h *netlink.Batch, e Endpoint) {
	for _, r := range l.Routes(e) {
		h.AddRoute(r)
		h.AddNeighbour(e.Index, r.Dst.Addr(), e.MAC)
	}
}

// addressBeside is address of an endpoint beside the bridge.
func (l *Link) addressBeside(n *netlink.Batch, e Endpoint) {
	for _, a := range e.Addrs {
		n.AddAddr(e.Iface, netlink.Addr{Prefix: a.Prefix, NoPrefixRoute: true})
	}
	for _, a := range e.Addrs {
		gateway := l.gateway(a.Addr())
		n.AddNeighbour(e.Iface, gateway, l.MAC)
		n.AddRoute(netlink.Route{Dst: alone(gateway), Index: e.Iface})
		n.AddRoute(netlink.Route{Dst: a.Masked(), Gateway: gateway, Src: a.Addr(), Index: e.Iface})
		if a.Exit {
			n.AddRoute(DefaultRoute(a.Gateway, e.Iface))
		}
	}
}

// routeIPv6 prepares the host's end of a pair beside the bridge for what the container
// sends, which is no router there. Without addresses of IPv6 nothing of that gets through
// the firewall, but while others have emptied it. To turn IPv6 off there is only a parameter,
// and whoever writes it spins while others change links, which on a full network they do
// always; that about routers is written at once.
func (l *Link) routeIPv6(dir string) error {
	err := sysctl.Write(dir+"/accept_ra", "0")
	switch {
	case errors.Is(err, syscall.ENOENT) && !l.ipv6():
		return nil // the kernel has no IPv6
	case err != nil || !l.ipv6():
		return err
	}
	_, err = sysctl.Set(dir+"/disable_ipv6", "0")
	return err
}

// routeTo tells the host where an endpoint beside the bridge is.
func (l *Link) routeTo(host *netlink.Conn, e Endpoint) error {
	var b netlink.Batch
	l.route(&b, e)
	return host.Do(&b)
}

// ReconnectBeside is Reconnect for an endpoint beside the bridge.
func (l *Link) ReconnectBeside(host *netlink.Conn, e Endpoint) error {
	if err := l.answerFor(host, e); err != nil {
		return err
	}
	var b netlink.Batch
	b.SetUp(e.Index)
	if err := host.Do(&b); err != nil {
		return err
	}
	return l.routeTo(host, e)
}

// alone is the prefix of one address.
func alone(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// answerFor makes the host answer, on the bridge, when a container asks
// for the hardware address of one beside it; at once, not after the random delay
// that is meant for networks with several such routers. Connect does it for each
// such endpoint. For addresses of IPv6 the kernel has to be told each.
func (l *Link) answerFor(host *netlink.Conn, e Endpoint) error {
	if err := l.answerAtAll(); err != nil {
		return err
	}
	var b netlink.Batch
	for _, a := range e.Addrs {
		if a.Addr().Is6() {
			b.AddProxy(l.Index(), a.Addr())
		}
	}
	return host.Do(&b)
}

// answerAtAll sets the bridge's parameters for it, once.
func (l *Link) answerAtAll() error {
	index := l.index.Load()
	if l.answers.Load() == index {
		return nil
	}
	for _, g := range l.Gateways {
		family, what := "ipv4", "proxy_arp"
		if g.Addr().Is6() {
			family, what = "ipv6", "proxy_ndp"
		}
		if _, err := sysctl.Set("net/"+family+"/conf/"+l.Name+"/"+what, "1"); err != nil {
			return err
		}
		if _, err := sysctl.Set("net/"+family+"/neigh/"+l.Name+"/proxy_delay", "0"); err != nil {
			return err
		}
	}
	l.answers.Store(index)
	return nil
}
