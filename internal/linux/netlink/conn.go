package netlink

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Conn is a rtnetlink socket. It stays in the network namespace of the thread
// that opened it, and keeps that namespace alive until it is closed. It may be
// used by several goroutines.
type Conn struct {
	mu  sync.Mutex
	fd  int
	seq uint32
	buf []byte
}

// Open opens a socket in the network namespace of the calling thread.
func Open() (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink socket: %w", err)
	}
	// Without the request in each acknowledgement; dumps checked for attributes
	// that the kernel would otherwise ignore. Both are there since 4.20.
	unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	return &Conn{fd: fd}, nil
}

// Close closes the socket.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return os.ErrClosed
	}
	fd := c.fd
	c.fd = -1
	return unix.Close(fd)
}

// port is the number by which the kernel tells who has asked for a change.
func (c *Conn) port() (uint32, error) {
	a, err := unix.Getsockname(c.fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	n, _ := a.(*unix.SockaddrNetlink)
	return n.Pid, nil
}

// Error says which message of a batch failed.
type Error struct {
	Op    string
	Errno unix.Errno
}

func (e *Error) Error() string { return e.Op + ": " + e.Errno.Error() }

// Unwrap returns the error number.
func (e *Error) Unwrap() error { return e.Errno }

// Do sends a batch and waits for its acknowledgements. It returns the errors of
// all failed messages, the first one first.
func (c *Conn) Do(b *Batch) error {
	if len(b.ops) == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return os.ErrClosed
	}
	base := c.seq
	c.seq += uint32(len(b.ops)) + 1
	for p := b.buf; len(p) > 0; p = p[native.Uint32(p):] {
		native.PutUint32(p[8:], base+native.Uint32(p[8:]))
	}
	if err := c.send(b.buf); err != nil {
		return err
	}
	var errs []error
	for left := len(b.ops); left > 0; {
		err := c.receive(func(m message) error {
			i := int(m.seq - base - 1)
			if m.typ != unix.NLMSG_ERROR || i < 0 || i >= len(b.ops) {
				return nil // the answer to a request that was given up
			}
			left--
			if e := m.errno(); e != 0 && !slices.Contains(b.ops[i].ignore, e) {
				errs = append(errs, &Error{b.ops[i].what, e})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

func (c *Conn) send(p []byte) error {
	for {
		err := unix.Sendto(c.fd, p, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if err != unix.EINTR {
			return os.NewSyscallError("sendto", err)
		}
	}
}

// message is one message received.
type message struct {
	typ   uint16
	flags uint16
	seq   uint32
	port  uint32 // of the socket that has asked
	body  []byte
}

// errno returns the error number of an acknowledgement; 0 is success.
func (m message) errno() unix.Errno {
	if len(m.body) < 4 {
		return unix.EBADMSG
	}
	return unix.Errno(-int32(native.Uint32(m.body)))
}

// receive reads one datagram and calls f for each message in it.
func (c *Conn) receive(f func(message) error) error {
	if c.buf == nil {
		c.buf = make([]byte, 32<<10) // the kernel's largest dump datagram
	}
	var n int
	for {
		var err error
		n, _, err = unix.Recvfrom(c.fd, c.buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		break
	}
	return eachMessage(c.buf[:n], f)
}

// eachMessage calls f for each complete message in p.
func eachMessage(p []byte, f func(message) error) error {
	for len(p) >= headerLen {
		n := int(native.Uint32(p))
		if n < headerLen || n > len(p) {
			return unix.EBADMSG
		}
		if err := f(message{typ: native.Uint16(p[4:]), flags: native.Uint16(p[6:]), seq: native.Uint32(p[8:]), port: native.Uint32(p[12:]), body: p[headerLen:n]}); err != nil {
			return err
		}
		p = p[min((n+3)&^3, len(p)):]
	}
	return nil
}

// attrs calls f for each attribute in p, nesting flags taken off.
func attrs(p []byte, f func(typ int, v []byte)) {
	for len(p) >= 4 {
		n := int(native.Uint16(p))
		if n < 4 || n > len(p) {
			return
		}
		f(int(native.Uint16(p[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER)), p[4:n])
		p = p[min((n+3)&^3, len(p)):]
	}
}
