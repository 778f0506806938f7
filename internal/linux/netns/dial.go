package netns

import (
	"context"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// DialTCP connects from inside ns. Only the making of the socket needs a thread
// there: a connection that is not answered holds none. The caller keeps ns.
func DialTCP(ctx context.Context, ns *os.File, to netip.AddrPort) (net.Conn, error) {
	var fd int
	err := Do(ns, func() (err error) {
		fd, err = unix.Socket(family(to), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "tcp "+to.String())
	defer f.Close()
	if err := connect(ctx, f, to); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

// DialUDP makes a socket inside ns that hears to only. The caller keeps ns.
func DialUDP(ns *os.File, to netip.AddrPort) (net.Conn, error) {
	var fd int
	err := Do(ns, func() (err error) {
		if fd, err = unix.Socket(family(to), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
			return os.NewSyscallError("socket", err)
		}
		if err = unix.Connect(fd, address(to)); err != nil {
			unix.Close(fd)
		}
		return os.NewSyscallError("connect", err)
	})
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "udp "+to.String())
	defer f.Close()
	return net.FileConn(f)
}

// connect waits until f is connected, has been refused, or ctx ends.
func connect(ctx context.Context, f *os.File, to netip.AddrPort) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	asked := false
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		if !asked {
			asked = true
			failed = unix.Connect(int(fd), address(to))
			return failed != unix.EINPROGRESS
		}
		n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if failed = err; err == nil && n != 0 {
			failed = unix.Errno(n)
		}
		return true
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		err = failed
	}
	return os.NewSyscallError("connect", err)
}

func family(a netip.AddrPort) int {
	if a.Addr().Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func address(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}
