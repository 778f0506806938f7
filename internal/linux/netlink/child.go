package netlink

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// From the kernel's headers.
const (
	vlanID      = 1 // IFLA_VLAN_ID
	macvlanMode = 1 // IFLA_MACVLAN_MODE
	ipvlanMode  = 1 // IFLA_IPVLAN_MODE
	ipvlanFlags = 2 // IFLA_IPVLAN_FLAGS

	nsid   = 1 // NETNSA_NSID
	nsidFD = 3 // NETNSA_FD
)

// Numbers of the modes of macvlan and ipvlan links, by their names. Macvlan links have no flags.
var (
	MacvlanModes = map[string]uint32{"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
	IpvlanModes  = map[string]uint32{"l2": 0, "l3": 1, "l3s": 2}
	IpvlanFlags  = map[string]uint32{"bridge": 0, "private": 1, "vepa": 2}
)

// Child describes a link of the kind macvlan or ipvlan, which sends and receives by another
// one, its parent.
type Child struct {
	Kind        string // macvlan, ipvlan
	Name        string
	Mode, Flags uint32
	MAC         net.HardwareAddr // nil: random, or with ipvlan the parent's
	MTU         int              // 0: the parent's
	Parent      int              // index of the parent in the socket's namespace
	NS          int              // descriptor of the network namespace in which the link is made
}

// AddChild makes a link, which is down; the kernel chooses its index. Older kernels look
// in the socket's namespace too whether the name and the index are free, and so there is
// none to choose. (A request from inside, with the parent elsewhere, has the same trouble:
// before Linux 6.14 the link is made beside its parent first.)
func (b *Batch) AddChild(c Child) {
	b.begin(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, "add %s %s", c.Kind, c.Name)
	b.ifinfo(0, 0, 0)
	b.attrStr(unix.IFLA_IFNAME, c.Name)
	b.linkAttrs(c.MAC, c.MTU, 0)
	b.attr32(unix.IFLA_LINK, uint32(c.Parent))
	b.attr32(unix.IFLA_NET_NS_FD, uint32(c.NS))
	b.nest(unix.IFLA_LINKINFO)
	b.attrStr(unix.IFLA_INFO_KIND, c.Kind)
	b.nest(unix.IFLA_INFO_DATA)
	if c.Kind == "macvlan" {
		b.attr32(macvlanMode, c.Mode)
	} else {
		b.attr(ipvlanMode, native.AppendUint16(nil, uint16(c.Mode)))
		b.attr(ipvlanFlags, native.AppendUint16(nil, uint16(c.Flags)))
	}
	b.endNest()
	b.endNest()
	b.end()
}

// AddVLAN makes a link for the frames of a parent that bear the number of a VLAN. It is up.
func (b *Batch) AddVLAN(name string, index, parent, id int) {
	b.begin(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, "add vlan %s", name)
	b.ifinfo(index, unix.IFF_UP, unix.IFF_UP)
	b.attrStr(unix.IFLA_IFNAME, name)
	b.attr32(unix.IFLA_LINK, uint32(parent))
	b.nest(unix.IFLA_LINKINFO)
	b.attrStr(unix.IFLA_INFO_KIND, "vlan")
	b.nest(unix.IFLA_INFO_DATA)
	b.attr(vlanID, native.AppendUint16(nil, uint16(id)))
	b.endNest()
	b.endNest()
	b.end()
}

// AddSink makes a link of a kind that loses whatever is sent by it: dummy, or ifb. It is up. mtu 0 is
// the kernel's.
func (b *Batch) AddSink(kind, name string, index, mtu int) {
	b.begin(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, "add %s %s", kind, name)
	b.ifinfo(index, unix.IFF_UP, unix.IFF_UP)
	b.attrStr(unix.IFLA_IFNAME, name)
	if mtu != 0 {
		b.attr32(unix.IFLA_MTU, uint32(mtu))
	}
	b.nest(unix.IFLA_LINKINFO)
	b.attrStr(unix.IFLA_INFO_KIND, kind)
	b.endNest()
	b.end()
}

// HasKind reports whether the kernel has links of a kind that have parents (macvlan,
// ipvlan, vlan). It asks for one without a parent, which the kernel does not make.
func (c *Conn) HasKind(kind string) (bool, error) {
	var b Batch
	b.begin(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, "ask for %s", kind)
	b.ifinfo(0, 0, 0)
	b.nest(unix.IFLA_LINKINFO)
	b.attrStr(unix.IFLA_INFO_KIND, kind)
	b.endNest()
	b.end()
	switch err := c.Do(&b); {
	case err == nil:
		return false, fmt.Errorf("ask for %s: the kernel made a link without a parent", kind)
	case errors.Is(err, unix.EOPNOTSUPP):
		return false, nil
	case errors.Is(err, unix.EINVAL):
		return true, nil
	default:
		return false, err
	}
}

// NSID returns the number that the socket's namespace has for another one, and gives it
// one if need be. It is good as long as that namespace lives, which it does not keep
// alive; then others may get it.
func (c *Conn) NSID(ns *os.File) (int, error) {
	id, err := c.nsid(ns)
	if err != nil || id >= 0 {
		return id, err
	}
	var b Batch
	b.begin(unix.RTM_NEWNSID, 0, "number a network namespace")
	b.rtgen()
	b.attr32(nsidFD, uint32(ns.Fd()))
	b.attr32(nsid, ^uint32(0)) // any
	b.end()
	b.ignore(unix.EEXIST)
	if err := c.Do(&b); err != nil {
		return -1, err
	}
	return c.nsid(ns)
}

// nsid is the number of a namespace; -1 if it has none.
func (c *Conn) nsid(ns *os.File) (int, error) {
	var b Batch
	b.rtgen()
	b.attr32(nsidFD, uint32(ns.Fd()))
	id := -1
	err := c.get(unix.RTM_GETNSID, b.buf, func(m message) {
		if len(m.body) >= rtgenLen {
			attrs(m.body[rtgenLen:], func(t int, v []byte) {
				if t == nsid && len(v) >= 4 {
					id = int(int32(native.Uint32(v)))
				}
			})
		}
	})
	return id, err
}

// rtgenLen is the length of struct rtgenmsg, aligned.
const rtgenLen = 4

func (b *Batch) rtgen() { b.u8(unix.AF_UNSPEC, 0, 0, 0) }

// LinkIn returns the link of an index in the namespace of a number; ok is false if there
// is none, or no such namespace.
func (c *Conn) LinkIn(ns, index int) (l Link, ok bool, err error) {
	var b Batch
	b.ifinfo(index, 0, 0)
	b.attr32(unix.IFLA_TARGET_NETNSID, uint32(ns))
	err = c.get(unix.RTM_GETLINK, b.buf, func(m message) {
		if m.typ == unix.RTM_NEWLINK && len(m.body) >= unix.SizeofIfInfomsg {
			l, ok = parseLink(m.body), true
		}
	})
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) {
		err = nil
	}
	return l, ok && err == nil, err
}

// DelLinkIn removes the link of an index in the namespace of a number; it is no error
// if there is none.
func (b *Batch) DelLinkIn(ns, index int) {
	b.begin(unix.RTM_DELLINK, 0, "delete link %d of network namespace %d", index, ns)
	b.ifinfo(index, 0, 0)
	b.attr32(unix.IFLA_TARGET_NETNSID, uint32(ns))
	b.end()
	b.ignore(unix.ENODEV, unix.EINVAL)
}
