// Package sock uses internet sockets without Go's poller: who waits for thousands of
// them with one epoll (package epoll) reads, writes and accepts here. Nothing blocks, but
// for Carry.
package sock

import (
	"errors"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// backlog is how many connections may wait to be accepted.
const backlog = 64

// Bind makes a socket for tcp, which listens, or udp, with an IPv4 address of the
// calling thread's namespace; port 0 is one that the kernel chooses.
func Bind(proto string, addr netip.AddrPort) (*os.File, error) {
	kind := unix.SOCK_DGRAM
	if proto == "tcp" {
		kind = unix.SOCK_STREAM
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if proto == "tcp" { // connections of the last who had the port may still be ending
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("setsockopt", err)
	}
	if err = unix.Bind(fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}); err == nil && proto == "tcp" {
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return os.NewFile(uintptr(fd), proto+" "+addr.String()), nil
}

// Own is the address of a socket.
func Own(f *os.File) (netip.AddrPort, error) { return address(f, "getsockname", unix.Getsockname) }

// Peer is the address at the other end of a connection.
func Peer(f *os.File) (netip.AddrPort, error) { return address(f, "getpeername", unix.Getpeername) }

func address(f *os.File, call string, ask func(int) (unix.Sockaddr, error)) (netip.AddrPort, error) {
	fd, err := number(f)
	if err != nil {
		return netip.AddrPort{}, err
	}
	sa, err := ask(fd)
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError(call, err)
	}
	return addrPort(sa), nil
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		a := netip.AddrFrom16(sa.Addr)
		if sa.ZoneId != 0 {
			a = a.WithZone(strconv.Itoa(int(sa.ZoneId)))
		}
		return netip.AddrPortFrom(a, uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// sockaddr undoes addrPort.
func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	zone, _ := strconv.ParseUint(a.Addr().Zone(), 10, 32)
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16(), ZoneId: uint32(zone)}
}

// Unblock returns a socket's number, once nothing blocks that is done with it or a
// duplicate. The number is valid while f is open.
func Unblock(f *os.File) (int, error) {
	fd, err := number(f)
	if err != nil {
		return -1, err
	}
	return fd, os.NewSyscallError("fcntl", unix.SetNonblock(fd, true))
}

// Receive takes a datagram, cut to the buffer; ok is false if there is none. Of a
// connected socket it passes over what says that nobody listened.
func Receive(f *os.File, buf []byte) (n int, from netip.AddrPort, ok bool) {
	fd, err := number(f)
	if err != nil {
		return 0, from, false
	}
	n, sa, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
	for errors.Is(err, unix.ECONNREFUSED) {
		n, sa, err = unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
	}
	if err != nil {
		return 0, from, false
	}
	return n, addrPort(sa), true
}

// Send sends a datagram; one that does not fit at once is lost.
func Send(f *os.File, b []byte, to netip.AddrPort) error {
	fd, err := number(f)
	if err != nil {
		return err
	}
	err = unix.Sendto(fd, b, unix.MSG_DONTWAIT, sockaddr(to))
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	return os.NewSyscallError("sendto", err)
}

// Accept takes a connection, for Go's poller; nil if none waits.
func Accept(f *os.File) *os.File {
	fd, err := number(f)
	if err != nil {
		return nil
	}
	n, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(n), "connection")
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
