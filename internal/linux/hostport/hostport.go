// Package hostport reserves port numbers of the host for traffic that the
// firewall sends elsewhere.
//
// A reservation is a socket bound to the port that does not receive until Receive: it only
// makes the kernel refuse the port to everybody else.
package hostport

import (
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Reserve reserves a port for a protocol (tcp, udp or sctp). EADDRINUSE says
// that somebody has it.
func Reserve(proto string, addr netip.AddrPort) (*os.File, error) { return reserve(proto, addr, 1) }

// ReserveBoth is Reserve of a port of all addresses of both families, by one socket.
func ReserveBoth(proto string, port uint16) (*os.File, error) {
	return reserve(proto, netip.AddrPortFrom(netip.IPv6Unspecified(), port), 0)
}

// Both tells a socket of ReserveBoth from others.
func Both(f *os.File) bool {
	fd, err := number(f)
	if err != nil {
		return false
	}
	only, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY) // an error of IPv4
	return err == nil && only == 0
}

// reserve reserves; only6 is the option of that name, of sockets of IPv6.
func reserve(proto string, addr netip.AddrPort, only6 int) (_ *os.File, err error) {
	typ, number := unix.SOCK_STREAM, 0
	switch proto {
	case "tcp":
	case "udp":
		typ = unix.SOCK_DGRAM
	case "sctp":
		number = unix.IPPROTO_SCTP
	default:
		return nil, fmt.Errorf("reserve a port: unknown protocol %q", proto)
	}
	family := unix.AF_INET6
	if addr.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, number)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if family == unix.AF_INET6 {
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only6)
	}
	if proto == "tcp" {
		err = bindStream(fd, sockaddr(addr))
	} else {
		err = bindDatagram(fd, sockaddr(addr))
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), proto+" "+addr.String()), nil
}

// bindStream binds without minding connections in TIME_WAIT (of a server that
// ended a moment ago) and yet exclusively. Two sockets with SO_REUSEADDR may
// bind the same port, but only one may listen; having listened once, with the
// option then taken off, makes the kernel check every later bind in full. It
// does not go on listening: should the firewall's rules be gone for a moment,
// clients are refused rather than left in a queue that nobody serves.
func bindStream(fd int, sa unix.Sockaddr) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Bind(fd, sa); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		return os.NewSyscallError("listen", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	return os.NewSyscallError("shutdown", unix.Shutdown(fd, unix.SHUT_RDWR))
}

// bindDatagram binds and drops whatever arrives.
func bindDatagram(fd int, sa unix.Sockaddr) error {
	if err := dropAll(fd); err != nil {
		return err
	}
	return os.NewSyscallError("bind", unix.Bind(fd, sa))
}

// dropAll has a socket receive nothing.
func dropAll(fd int) error {
	drop := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop[0]})
	return os.NewSyscallError("setsockopt", err)
}

// backlog is how many connections may wait to be accepted.
const backlog = 4096

// Receive has a reservation of TCP or UDP receive: connections to accept, which do not
// delay small segments, or datagrams that tell to which address they came. It is no error
// if it does already. All who have the socket see it: it does not block any more.
func Receive(f *os.File) error {
	fd, err := number(f)
	if err != nil {
		return err
	}
	proto, addr, err := Of(f)
	if err != nil {
		return err
	}
	switch proto {
	case "tcp":
		err = listenAgain(fd)
	case "udp":
		level, option := unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
		if addr.Addr().Is4() {
			level, option = unix.IPPROTO_IP, unix.IP_PKTINFO
		}
		if err = unix.SetsockoptInt(fd, level, option, 1); err == nil {
			if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0); err == unix.ENOENT {
				err = nil
			}
		}
	default:
		return fmt.Errorf("a port of %s can only be reserved", proto)
	}
	if err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	return os.NewSyscallError("fcntl", unix.SetNonblock(fd, true))
}

// listenAgain is the second half of bindStream the other way round. Connections of before
// that are in TIME_WAIT are not minded here either.
func listenAgain(fd int) error {
	for _, o := range [][3]int{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}, {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1}, {unix.SOL_SOCKET, unix.SO_REUSEADDR, 1},
	} {
		if err := unix.SetsockoptInt(fd, o[0], o[1], o[2]); err != nil {
			return err
		}
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return err
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
}

// Refuse undoes Receive. Connections that were accepted stay.
func Refuse(f *os.File) error {
	fd, err := number(f)
	if err != nil {
		return err
	}
	proto, _, err := Of(f)
	if err != nil {
		return err
	}
	if proto != "tcp" {
		return dropAll(fd)
	}
	if err = unix.Shutdown(fd, unix.SHUT_RDWR); err == unix.ENOTCONN { // it did not listen
		err = nil
	}
	return os.NewSyscallError("shutdown", err)
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// Of returns what a socket made by Reserve reserves: it tells descriptors
// apart that came back from another process.
func Of(f *os.File) (proto string, addr netip.AddrPort, err error) {
	fd, err := number(f)
	if err != nil {
		return "", addr, err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return "", addr, os.NewSyscallError("getsockname", err)
	}
	number, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return "", addr, os.NewSyscallError("getsockopt", err)
	}
	switch number {
	case unix.IPPROTO_TCP:
		proto = "tcp"
	case unix.IPPROTO_UDP:
		proto = "udp"
	case unix.IPPROTO_SCTP:
		proto = "sctp"
	default:
		return "", addr, fmt.Errorf("socket of protocol %d reserves no port", number)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		addr = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		addr = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return proto, addr, nil
}

// Knows6 reports whether the host has ::1: IPv6 is neither missing nor turned off.
func Knows6() bool {
	f, err := Reserve("udp", netip.AddrPortFrom(netip.IPv6Loopback(), 0))
	if err != nil {
		return false
	}
	return f.Close() == nil
}

// number is that of a descriptor, valid while f is open. File.Fd would make it block.
func number(f *os.File) (n int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	err = raw.Control(func(fd uintptr) { n = int(fd) })
	return n, err
}
