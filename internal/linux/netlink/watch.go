package netlink

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Watch tells of links that disappear from a namespace.
type Watch struct {
	f *os.File
}

// NewWatch listens in the network namespace of the calling thread.
func NewWatch() (*Watch, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink socket: %w", err)
	}
	// A hundred namespaces that go at once send a thousand messages of 2 KB.
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return &Watch{os.NewFile(uintptr(fd), "rtnetlink")}, nil
}

// Close ends the watch; a waiting Next returns os.ErrClosed.
func (w *Watch) Close() error { return w.f.Close() }

// Next waits for links to disappear and returns their indexes. lost says that
// messages were dropped: the caller must look at the list of links.
func (w *Watch) Next() (gone []int, lost bool, err error) {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.f.Read(buf)
		if err != nil {
			if errors.Is(err, unix.ENOBUFS) {
				return nil, true, nil
			}
			return nil, false, err
		}
		err = eachMessage(buf[:n], func(m message) error {
			// A bridge says RTM_DELLINK of family AF_BRIDGE when a port leaves
			// it; that link is still there.
			if m.typ == unix.RTM_DELLINK && len(m.body) >= unix.SizeofIfInfomsg && m.body[0] == unix.AF_UNSPEC {
				gone = append(gone, int(native.Uint32(m.body[4:])))
			}
			return nil
		})
		if err != nil {
			return nil, true, nil
		}
		if len(gone) > 0 {
			return gone, false, nil
		}
	}
}
