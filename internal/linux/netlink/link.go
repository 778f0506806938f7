package netlink

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// From the kernel's headers.
const (
	vethInfoPeer  = 1  // VETH_INFO_PEER
	genModeNone   = 1  // IN6_ADDR_GEN_MODE_NONE
	inetConf      = 1  // IFLA_INET_CONF
	routeLocalnet = 26 // IPV4_DEVCONF_ROUTE_LOCALNET
)

// Loopback is the index of lo in each namespace.
const Loopback = 1

// Veth describes a pair of links. The caller chooses both indexes, so that the
// messages after it in a batch can name them; EEXIST says that one is in use.
type Veth struct {
	Name      string
	Index     int
	MAC       net.HardwareAddr // nil: random
	Master    int              // index of a bridge; 0: none
	Group     uint32
	MTU       int // of both ends; 0: the kernel's default
	PeerName  string
	PeerIndex int
	PeerMAC   net.HardwareAddr
	PeerNS    int // descriptor of the network namespace in which the peer is made
}

// AddVeth makes a pair. Its own end is up; the peer is not, because the kernel
// refuses to set it up in the same message (ENOTCONN).
func (b *Batch) AddVeth(v Veth) {
	b.begin(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, "add veth %s", v.Name)
	b.ifinfo(v.Index, unix.IFF_UP, unix.IFF_UP)
	b.attrStr(unix.IFLA_IFNAME, v.Name)
	b.linkAttrs(v.MAC, v.MTU, v.Group)
	if v.Master > 0 {
		b.attr32(unix.IFLA_MASTER, uint32(v.Master))
	}
	b.nest(unix.IFLA_LINKINFO)
	b.attrStr(unix.IFLA_INFO_KIND, "veth")
	b.nest(unix.IFLA_INFO_DATA)
	b.nest(vethInfoPeer)
	b.ifinfo(v.PeerIndex, 0, 0)
	b.attrStr(unix.IFLA_IFNAME, v.PeerName)
	b.linkAttrs(v.PeerMAC, v.MTU, 0)
	b.attr32(unix.IFLA_NET_NS_FD, uint32(v.PeerNS))
	b.endNest()
	b.endNest()
	b.endNest()
	b.end()
}

func (b *Batch) linkAttrs(mac net.HardwareAddr, mtu int, group uint32) {
	if mac != nil {
		b.attr(unix.IFLA_ADDRESS, mac)
	}
	if mtu > 0 {
		b.attr32(unix.IFLA_MTU, uint32(mtu))
	}
	if group != 0 {
		b.attr32(unix.IFLA_GROUP, group)
	}
}

// AddBridge makes a bridge that is up. With a MAC of its own it keeps it when
// ports come and go; without, it takes the lowest of its ports.
func (b *Batch) AddBridge(name string, mac net.HardwareAddr, mtu int, group uint32) {
	b.begin(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, "add bridge %s", name)
	b.ifinfo(0, unix.IFF_UP, unix.IFF_UP)
	b.attrStr(unix.IFLA_IFNAME, name)
	b.linkAttrs(mac, mtu, group)
	b.nest(unix.IFLA_LINKINFO)
	b.attrStr(unix.IFLA_INFO_KIND, "bridge")
	b.endNest()
	b.end()
}

// SetUp takes a link up.
func (b *Batch) SetUp(index int) {
	b.begin(unix.RTM_NEWLINK, 0, "set link %d up", index)
	b.ifinfo(index, unix.IFF_UP, unix.IFF_UP)
	b.end()
}

// MoveLink sends a link into another network namespace, where it is called
// name. It must be down.
func (b *Batch) MoveLink(index int, ns *os.File, name string) {
	b.begin(unix.RTM_NEWLINK, 0, "move link %d", index)
	b.ifinfo(index, 0, 0)
	b.attr32(unix.IFLA_NET_NS_FD, uint32(ns.Fd()))
	b.attrStr(unix.IFLA_IFNAME, name)
	b.end()
}

// SetName gives a link that is down another name.
func (b *Batch) SetName(index int, name string) {
	b.begin(unix.RTM_NEWLINK, 0, "rename link %d to %s", index, name)
	b.ifinfo(index, 0, 0)
	b.attrStr(unix.IFLA_IFNAME, name)
	b.end()
}

// SetAlias names the owner of a link. The kernel does not take the alias when
// it makes a link, only afterwards.
func (b *Batch) SetAlias(index int, alias string) {
	b.begin(unix.RTM_NEWLINK, 0, "set alias of link %d", index)
	b.ifinfo(index, 0, 0)
	b.attr(unix.IFLA_IFALIAS, []byte(alias))
	b.end()
}

// SetMAC gives a link another hardware address.
func (b *Batch) SetMAC(index int, mac net.HardwareAddr) {
	b.begin(unix.RTM_NEWLINK, 0, "set hardware address of link %d", index)
	b.ifinfo(index, 0, 0)
	b.attr(unix.IFLA_ADDRESS, mac)
	b.end()
}

// SetNoLinkLocal keeps the kernel from giving a link an IPv6 address of its own
// accord.
func (b *Batch) SetNoLinkLocal(index int) {
	b.begin(unix.RTM_NEWLINK, 0, "set address generation of link %d", index)
	b.ifinfo(index, 0, 0)
	b.nest(unix.IFLA_AF_SPEC)
	b.nest(unix.AF_INET6)
	b.attr(unix.IFLA_INET6_ADDR_GEN_MODE, []byte{genModeNone})
	b.endNest()
	b.endNest()
	b.end()
	b.ignore(unix.EAFNOSUPPORT) // no IPv6, and so no address
}

// SetRouteLocalnet has the kernel take packets of 127.0.0.0/8 on a link for ones that
// can be routed.
func (b *Batch) SetRouteLocalnet(index int) {
	b.begin(unix.RTM_NEWLINK, 0, "set route_localnet of link %d", index)
	b.ifinfo(index, 0, 0)
	b.nest(unix.IFLA_AF_SPEC)
	b.nest(unix.AF_INET)
	b.nest(inetConf)
	b.attr32(routeLocalnet, 1)
	b.endNest()
	b.endNest()
	b.endNest()
	b.end()
}

// SetGroup puts a link into a group, a number that firewall rules can match.
func (b *Batch) SetGroup(index int, group uint32) {
	b.begin(unix.RTM_NEWLINK, 0, "set group of link %d", index)
	b.ifinfo(index, 0, 0)
	b.attr32(unix.IFLA_GROUP, group)
	b.end()
}

// Settle makes the kernel act at once on the carrier of a link having come up.
// It does so in the background otherwise, behind whatever else changes the
// network: until then the link drops packets, and its bridge too. Before Linux
// 6.13 this has no effect.
func (b *Batch) Settle(index int) {
	b.begin(unix.RTM_GETLINK, 0, "look at link %d", index) // the kernel's rtnl_getlink synchronizes
	b.ifinfo(index, 0, 0)
	b.end()
}

// SetHairpin lets a bridge send frames back out of the port they came from.
func (b *Batch) SetHairpin(port int) {
	b.portFlag(port, unix.IFLA_BRPORT_MODE, "set hairpin mode of link %d")
}

// SetIsolated keeps a bridge's isolated ports from reaching each other.
func (b *Batch) SetIsolated(port int) {
	b.portFlag(port, unix.IFLA_BRPORT_ISOLATED, "isolate link %d")
}

// portFlag turns an option of a bridge port on.
func (b *Batch) portFlag(port, flag int, what string) {
	b.begin(unix.RTM_NEWLINK, 0, what, port)
	b.ifinfo(port, 0, 0)
	b.nest(unix.IFLA_LINKINFO)
	b.attrStr(unix.IFLA_INFO_SLAVE_KIND, "bridge")
	b.nest(unix.IFLA_INFO_SLAVE_DATA)
	b.attr(flag, []byte{1})
	b.endNest()
	b.endNest()
	b.end()
}

// SetMaster makes a link a port of a bridge.
func (b *Batch) SetMaster(index, bridge int) {
	b.begin(unix.RTM_NEWLINK, 0, "set master of link %d", index)
	b.ifinfo(index, 0, 0)
	b.attr32(unix.IFLA_MASTER, uint32(bridge))
	b.end()
}

// DelLink removes a link; it is no error if there is none. This holds the lock
// of all network configuration for 10 to 40 ms: never where somebody waits.
func (b *Batch) DelLink(index int) {
	b.begin(unix.RTM_DELLINK, 0, "delete link %d", index)
	b.ifinfo(index, 0, 0)
	b.end()
	b.ignore(unix.ENODEV)
}

// SetDown takes a link down.
func (b *Batch) SetDown(index int) {
	b.begin(unix.RTM_NEWLINK, 0, "set link %d down", index)
	b.ifinfo(index, 0, unix.IFF_UP)
	b.end()
}
