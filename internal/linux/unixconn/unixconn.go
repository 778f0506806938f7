// Package unixconn works on connected Unix stream sockets by number, and passes
// descriptors over socket pairs.
package unixconn

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Check refuses what is not a connected Unix stream socket.
func Check(fd int) error {
	for _, c := range []struct {
		opt, want int
		text      string
	}{
		{unix.SO_DOMAIN, unix.AF_UNIX, "not a unix socket"},
		{unix.SO_TYPE, unix.SOCK_STREAM, "not a stream socket"},
		{unix.SO_ACCEPTCONN, 0, "a listening socket"},
	} {
		v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, c.opt)
		if err != nil {
			return os.NewSyscallError("getsockopt", err)
		}
		if v != c.want {
			return errors.New(c.text)
		}
	}
	if _, err := unix.Getpeername(fd); err != nil {
		return os.NewSyscallError("getpeername", err)
	}
	return nil
}

// SendBuffer lets the socket hold n bytes that the peer has not read; the
// system's limit for users does not count for root.
func SendBuffer(fd, n int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, n)
	if err == unix.EPERM {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, n)
	}
	return os.NewSyscallError("setsockopt", err)
}

// Send writes without waiting and without a signal if the peer is gone.
func Send(fd int, p []byte) (int, error) {
	for {
		n, err := unix.SendmsgN(fd, p, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if err == unix.EINTR {
			continue
		}
		return max(n, 0), err
	}
}

// Receive reads without waiting; 0 and no error is the end.
func Receive(fd int, p []byte) (int, error) {
	for {
		n, _, err := unix.Recvfrom(fd, p, unix.MSG_DONTWAIT)
		if err == unix.EINTR {
			continue
		}
		return max(n, 0), err
	}
}

// EndWrite tells the peer that nothing more is coming.
func EndWrite(fd int) error { return os.NewSyscallError("shutdown", unix.Shutdown(fd, unix.SHUT_WR)) }

// End ends both directions, for all duplicates of the socket. What the peer has
// sent and nobody has read is thrown away: with it in the socket, the last close
// would give the peer ECONNRESET in place of the end (net/unix/af_unix.c,
// unix_release_sock). Behind the shutdown nothing more can come.
func End(fd int) error {
	err := os.NewSyscallError("shutdown", unix.Shutdown(fd, unix.SHUT_RDWR))
	var unread [32 << 10]byte
	for {
		if n, e := Receive(fd, unread[:]); e != nil || n == 0 {
			return err
		}
	}
}

// Pair returns two connected packet sockets.
func Pair() (a, b int, err error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	return p[0], p[1], os.NewSyscallError("socketpair", err)
}

// Listen makes a stream socket at path that takes one connection. The mode is
// 0600, whatever the umask.
func Listen(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	err = unix.Fchmod(fd, 0o600) // what bind makes has the socket's mode
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	}
	if err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("listen at %s: %w", path, err)
	}
	return fd, nil
}

// Accept takes a connection that waits; it does not wait for one.
func Accept(listener int) (int, error) {
	fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	return fd, os.NewSyscallError("accept", err)
}

// ReceiveFD takes the one descriptor that a message waiting in the socket
// carries.
func ReceiveFD(sock int) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, flags, _, err := unix.Recvmsg(sock, make([]byte, 64), oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
	if err != nil {
		return -1, os.NewSyscallError("recvmsg", err)
	}
	fds, err := descriptors(oob[:n])
	if err == nil && len(fds) == 1 && flags&unix.MSG_CTRUNC == 0 {
		return fds[0], nil
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
	return -1, fmt.Errorf("recvmsg: %d descriptors instead of one", len(fds))
}

func descriptors(oob []byte) (fds []int, err error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range msgs {
		f, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue // another kind of message
		}
		fds = append(fds, f...)
	}
	return fds, nil
}

// SendFD sends one descriptor over a packet socket.
func SendFD(sock, fd int) error {
	return os.NewSyscallError("sendmsg", unix.Sendmsg(sock, []byte{0}, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL))
}
