package sock

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Stream is a connection that waits by Go's poller: of Accept, or of package net.
type Stream interface {
	io.Writer
	syscall.Conn
}

// Carrier carries what comes from one connection to another. Its buffers are lent to
// connections that have something to carry: one that is silent has none.
type Carrier struct{ buffers sync.Pool }

// carried is how much is carried at once.
const carried = 64 << 10

// NewCarrier returns one for any number of connections.
func NewCarrier() *Carrier {
	return &Carrier{buffers: sync.Pool{New: func() any { return new([carried]byte) }}}
}

// Carry returns nil at the end of what comes, or what has ended one of the connections.
func (c *Carrier) Carry(to, from Stream) error {
	raw, err := from.SyscallConn()
	if err != nil {
		return err
	}
	for {
		buf, n, err := c.read(raw)
		if err == nil && n > 0 {
			_, err = to.Write(buf[:n])
		}
		if buf != nil {
			c.buffers.Put(buf)
		}
		if err != nil || n == 0 {
			return err
		}
	}
}

// read waits for bytes, and takes a buffer when there are some; no bytes are the end.
func (c *Carrier) read(raw syscall.RawConn) (buf *[carried]byte, n int, err error) {
	rerr := raw.Read(func(fd uintptr) bool {
		if buf == nil {
			buf = c.buffers.Get().(*[carried]byte)
		}
		for n, err = unix.Read(int(fd), buf[:]); err == unix.EINTR; {
			n, err = unix.Read(int(fd), buf[:])
		}
		if err != unix.EAGAIN {
			return true
		}
		c.buffers.Put(buf)
		buf, err = nil, nil
		return false
	})
	if err := errors.Join(rerr, os.NewSyscallError("read", err)); err != nil {
		return buf, 0, err
	}
	return buf, n, nil
}

// EndWriting tells the peer of a connection that no more comes.
func EndWriting(s syscall.Conn) error {
	return control(s, func(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) })
}

// Reset has a connection end as one that was cut when it is closed.
func Reset(s syscall.Conn) error {
	return control(s, func(fd int) error {
		return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	})
}

// MayFollow lets others have a connection's own port when it has ended.
func MayFollow(s syscall.Conn) error {
	return control(s, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
}

func control(s syscall.Conn, do func(fd int) error) error {
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	var done error
	err = raw.Control(func(fd uintptr) { done = do(int(fd)) })
	return errors.Join(err, done)
}

// Connect makes a UDP socket that sends to one address and receives from it.
func Connect(to netip.AddrPort) (*os.File, error) {
	family := unix.AF_INET6
	if to.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Connect(fd, sockaddr(to)); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	return os.NewFile(uintptr(fd), "udp "+to.String()), nil
}

// ReceiveAt is Receive from a socket that tells to which of the host's addresses
// datagrams come (hostport.Receive).
func ReceiveAt(f *os.File, buf []byte) (n int, from netip.AddrPort, at netip.Addr, ok bool) {
	fd, err := number(f)
	if err != nil {
		return 0, from, at, false
	}
	var oob [64]byte
	n, oobn, _, sa, err := unix.Recvmsg(fd, buf, oob[:], unix.MSG_DONTWAIT)
	if err != nil {
		return 0, from, at, false
	}
	return n, addrPort(sa), destination(oob[:oobn]), true
}

// destination reads the control message with a datagram's destination.
func destination(oob []byte) netip.Addr {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= 20:
			return netip.AddrFrom16([16]byte(m.Data[:16]))
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= 12:
			return netip.AddrFrom4([4]byte(m.Data[4:8])) // ipi_spec_dst: an address to answer from
		}
	}
	return netip.Addr{}
}

// SendFrom is Send from one of the host's addresses; invalid leaves it to the kernel.
func SendFrom(f *os.File, b []byte, to netip.AddrPort, from netip.Addr) error {
	fd, err := number(f)
	if err != nil {
		return err
	}
	var oob []byte
	switch {
	case from.Is4():
		oob = unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: from.As4()})
	case from.Is6():
		oob = unix.PktInfo6(&unix.Inet6Pktinfo{Addr: from.As16()})
	}
	err = unix.Sendmsg(fd, b, oob, sockaddr(to), unix.MSG_DONTWAIT)
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	return os.NewSyscallError("sendmsg", err)
}
