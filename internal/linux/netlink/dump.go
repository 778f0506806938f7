package netlink

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Link is what the kernel tells about a link.
type Link struct {
	Index  int
	Name   string
	Alias  string
	Kind   string // "bridge", "veth", …; empty for hardware
	Master int
	Group  uint32
	MTU    int
	Up     bool
	MAC    net.HardwareAddr
}

// Links lists all links of the namespace.
func (c *Conn) Links() ([]Link, error) {
	var all []Link
	req := make([]byte, unix.SizeofIfInfomsg)
	err := c.dump(unix.RTM_GETLINK, req, func(m message) {
		if m.typ == unix.RTM_NEWLINK && len(m.body) >= unix.SizeofIfInfomsg {
			all = append(all, parseLink(m.body))
		}
	})
	return all, err
}

// LinkByName returns the link of a name; ok is false if there is none. It costs
// the same however many links there are.
func (c *Conn) LinkByName(name string) (l Link, ok bool, err error) {
	if len(name) >= unix.IFNAMSIZ {
		return Link{}, false, nil // the kernel has no such names
	}
	var b Batch
	b.ifinfo(0, 0, 0)
	b.attrStr(unix.IFLA_IFNAME, name)
	err = c.get(unix.RTM_GETLINK, b.buf, func(m message) {
		if m.typ == unix.RTM_NEWLINK && len(m.body) >= unix.SizeofIfInfomsg {
			l = parseLink(m.body)
			ok = l.Name == name // and no alternative name
		}
	})
	if errors.Is(err, unix.ENODEV) {
		err = nil
	}
	return l, ok && err == nil, err
}

func parseLink(body []byte) Link {
	l := Link{Index: int(native.Uint32(body[4:])), Up: native.Uint32(body[8:])&unix.IFF_UP != 0}
	attrs(body[unix.SizeofIfInfomsg:], func(t int, v []byte) {
		switch {
		case t == unix.IFLA_IFNAME:
			l.Name = str(v)
		case t == unix.IFLA_IFALIAS:
			l.Alias = str(v)
		case t == unix.IFLA_ADDRESS:
			l.MAC = append(net.HardwareAddr(nil), v...)
		case t == unix.IFLA_MASTER && len(v) >= 4:
			l.Master = int(native.Uint32(v))
		case t == unix.IFLA_GROUP && len(v) >= 4:
			l.Group = native.Uint32(v)
		case t == unix.IFLA_MTU && len(v) >= 4:
			l.MTU = int(native.Uint32(v))
		}
	})
	l.Kind = kindOf(body)
	return l
}

// kindOf is the kind of the link that a message is about.
func kindOf(body []byte) (kind string) {
	attrs(body[unix.SizeofIfInfomsg:], func(t int, v []byte) {
		if t == unix.IFLA_LINKINFO {
			attrs(v, func(t int, v []byte) {
				if t == unix.IFLA_INFO_KIND {
					kind = str(v)
				}
			})
		}
	})
	return kind
}

// str is a C string.
func str(v []byte) string {
	s, _, _ := strings.Cut(string(v), "\x00")
	return s
}

// Addrs lists the addresses of a link, IPv4 and IPv6.
func (c *Conn) Addrs(index int) ([]netip.Prefix, error) {
	var all []netip.Prefix
	req := make([]byte, unix.SizeofIfAddrmsg)
	native.PutUint32(req[4:], uint32(index)) // the kernel tells of this link only, since 5.0
	err := c.dump(unix.RTM_GETADDR, req, func(m message) {
		if m.typ != unix.RTM_NEWADDR || len(m.body) < unix.SizeofIfAddrmsg || int(native.Uint32(m.body[4:])) != index {
			return
		}
		var local, addr netip.Addr
		attrs(m.body[unix.SizeofIfAddrmsg:], func(t int, v []byte) {
			switch t {
			case unix.IFA_LOCAL:
				local, _ = netip.AddrFromSlice(v)
			case unix.IFA_ADDRESS:
				addr, _ = netip.AddrFromSlice(v)
			}
		})
		if !local.IsValid() {
			local = addr // IPv6 has no IFA_LOCAL
		}
		all = append(all, netip.PrefixFrom(local, int(m.body[1])))
	})
	return all, err
}

// Routes lists the unicast routes of all tables of a family (4 or 6).
func (c *Conn) Routes(version int) ([]Route, error) {
	req := make([]byte, unix.SizeofRtMsg)
	req[0] = unix.AF_INET
	if version == 6 {
		req[0] = unix.AF_INET6
	}
	var all []Route
	err := c.dump(unix.RTM_GETROUTE, req, func(m message) {
		if m.typ == unix.RTM_NEWROUTE && len(m.body) >= unix.SizeofRtMsg && m.body[7] == unix.RTN_UNICAST {
			all = append(all, parseRoute(m.body))
		}
	})
	return all, err
}

// RouteTo is the route that a packet of the host's to an address takes; ok is
// false if there is none. local says that the address is the host's own.
func (c *Conn) RouteTo(dst netip.Addr) (r Route, local, ok bool, err error) {
	req := make([]byte, unix.SizeofRtMsg)
	req[0], req[1] = family(dst), byte(dst.BitLen())
	b := Batch{buf: req}
	b.attr(unix.RTA_DST, dst.AsSlice())
	err = c.get(unix.RTM_GETROUTE, b.buf, func(m message) {
		if m.typ == unix.RTM_NEWROUTE && len(m.body) >= unix.SizeofRtMsg {
			r = parseRoute(m.body)
			local, ok = m.body[7] == unix.RTN_LOCAL, m.body[7] == unix.RTN_LOCAL || m.body[7] == unix.RTN_UNICAST
		}
	})
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EINVAL) {
		return Route{}, false, false, nil // none, or one that says so
	}
	return r, local, ok, err
}

func parseRoute(body []byte) Route {
	zero := netip.IPv4Unspecified()
	if body[0] == unix.AF_INET6 {
		zero = netip.IPv6Unspecified()
	}
	r := Route{Dst: netip.PrefixFrom(zero, int(body[1]))}
	attrs(body[unix.SizeofRtMsg:], func(t int, v []byte) {
		switch t {
		case unix.RTA_DST:
			if a, ok := netip.AddrFromSlice(v); ok {
				r.Dst = netip.PrefixFrom(a, int(body[1]))
			}
		case unix.RTA_GATEWAY:
			r.Gateway, _ = netip.AddrFromSlice(v)
		case unix.RTA_PREFSRC:
			r.Src, _ = netip.AddrFromSlice(v)
		case unix.RTA_OIF:
			if len(v) >= 4 {
				r.Index = int(native.Uint32(v))
			}
		}
	})
	return r
}

// Neighbours lists the permanent IPv4 and IPv6 neighbours on a link.
func (c *Conn) Neighbours(index int) ([]netip.Addr, error) {
	var all []netip.Addr
	err := c.dump(unix.RTM_GETNEIGH, make([]byte, unix.SizeofNdMsg), func(m message) {
		if m.typ != unix.RTM_NEWNEIGH || len(m.body) < unix.SizeofNdMsg || int(native.Uint32(m.body[4:])) != index ||
			native.Uint16(m.body[8:])&unix.NUD_PERMANENT == 0 {
			return
		}
		attrs(m.body[unix.SizeofNdMsg:], func(t int, v []byte) {
			if a, ok := netip.AddrFromSlice(v); ok && t == unix.NDA_DST {
				all = append(all, a)
			}
		})
	})
	return all, err
}

// dump asks for a list and calls f for each message of the answer.
func (c *Conn) dump(typ int, req []byte, f func(message)) error {
	// A list that changed while it was read is read again.
	for range 10 {
		if err := c.dumpOnce(typ, req, f); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	return os.NewSyscallError("netlink dump", unix.EINTR)
}

var errDone = errors.New("end of dump")

// get asks for one thing and calls f with the answer.
func (c *Conn) get(typ int, req []byte, f func(message)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	seq, err := c.ask(typ, 0, req)
	if err != nil {
		return err
	}
	for err == nil {
		err = c.receive(func(m message) error {
			switch {
			case m.seq != seq:
				return nil
			case m.typ == unix.NLMSG_ERROR:
				return m.errno()
			}
			f(m)
			return errDone
		})
	}
	if err == errDone {
		err = nil
	}
	return err
}

// ask sends a request and returns its number, which the answer bears.
//
// Preconditions: c.mu is held.
func (c *Conn) ask(typ, flags int, req []byte) (seq uint32, err error) {
	if c.fd < 0 {
		return 0, os.ErrClosed
	}
	c.seq++
	var b Batch
	b.u32(uint32(headerLen + len(req)))
	b.u16(uint16(typ))
	b.u16(uint16(unix.NLM_F_REQUEST | flags))
	b.u32(c.seq)
	b.u32(0)
	b.u8(req...)
	return c.seq, c.send(b.buf)
}

func (c *Conn) dumpOnce(typ int, req []byte, f func(message)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	seq, err := c.ask(typ, unix.NLM_F_DUMP, req)
	if err != nil {
		return err
	}
	var kept []message
	var interrupted bool
	for {
		err := c.receive(func(m message) error {
			if m.seq != seq {
				return nil
			}
			interrupted = interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
			switch {
			case m.typ == unix.NLMSG_DONE:
				return errDone
			case m.typ == unix.NLMSG_ERROR:
				return m.errno()
			default:
				m.body = append([]byte(nil), m.body...)
				kept = append(kept, m)
			}
			return nil
		})
		if err == errDone {
			break
		}
		if err != nil {
			return err
		}
	}
	if interrupted {
		return unix.EINTR
	}
	for _, m := range kept {
		f(m)
	}
	return nil
}
