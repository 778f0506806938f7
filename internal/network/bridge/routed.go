package bridge

import (
	"net/netip"

	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/linux/sysctl"
)

// MaxPorts is the number of endpoints that get a port of the bridge. The kernel
// refuses the 1,024th; the administrator may want a few.
const MaxPorts = 1000

// connectRouted makes an endpoint beside the bridge: a route for its one
// address leads to the host's end of the pair, and the container sends
// everything to the gateway, whose hardware address is the same there. It has
// an address of the same subnet and reaches, and is reached by, the same
// others; broadcasts end at the host.
func (l *Link) connectRouted(host, inside *netlink.Conn, ns int, e Endpoint) error {
	if err := l.AnswerForRouted(); err != nil {
		return err
	}
	gateway, one := l.Gateway.Addr(), netip.PrefixFrom(e.IP.Addr(), 32)
	v := e.veth(l, ns)
	v.Master, v.MAC = 0, l.MAC
	var h, n netlink.Batch
	h.AddVeth(v)
	h.SetAlias(e.Index, e.Alias)
	h.SetNoLinkLocal(e.Index)
	h.AddRoute(netlink.Route{Dst: one, Src: gateway, Index: e.Index})
	h.AddNeighbour(e.Index, e.IP.Addr(), e.MAC)
	if err := host.Do(&h); err != nil {
		return err
	}
	if err := sysctl.Write("net/ipv4/conf/"+e.Name+"/route_localnet", "1"); err != nil {
		return err
	}
	n.SetUp(loIndex)
	n.AddAddr(e.Iface, netlink.Addr{Prefix: e.IP, NoPrefixRoute: true})
	n.SetUp(e.Iface)
	n.AddNeighbour(e.Iface, gateway, l.MAC)
	n.AddRoute(netlink.Route{Dst: netip.PrefixFrom(gateway, 32), Index: e.Iface})
	n.AddRoute(netlink.Route{Dst: e.IP.Masked(), Gateway: gateway, Src: e.IP.Addr(), Index: e.Iface})
	if e.Exit {
		n.AddRoute(l.DefaultRoute(e.Iface))
	}
	if err := inside.Do(&n); err != nil {
		return err
	}
	var c netlink.Batch
	c.Settle(e.Index)
	return host.Do(&c)
}

// AnswerForRouted makes the host answer, on the bridge, when a container asks
// for the hardware address of a routed one; at once, not after the random delay
// that is meant for networks with several such routers. Connect does it for each
// routed endpoint.
func (l *Link) AnswerForRouted() error {
	if _, err := sysctl.Set("net/ipv4/conf/"+l.Name+"/proxy_arp", "1"); err != nil {
		return err
	}
	_, err := sysctl.Set("net/ipv4/neigh/"+l.Name+"/proxy_delay", "0")
	return err
}
