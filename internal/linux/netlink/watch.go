package netlink

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Watch tells of links that disappear from a namespace, and of bridges in it.
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

// Changes is what a watch has seen.
type Changes struct {
	Gone    []int  // indexes of links that have disappeared
	Bridges []Link // that have come, or have changed
	// Lost says that messages were dropped: the caller must look at the list of links.
	Lost bool
}

// Next waits for changes.
func (w *Watch) Next() (c Changes, err error) {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.f.Read(buf)
		if err != nil {
			if errors.Is(err, unix.ENOBUFS) {
				return Changes{Lost: true}, nil
			}
			return c, err
		}
		err = eachMessage(buf[:n], func(m message) error {
			// A bridge says RTM_DELLINK of family AF_BRIDGE when a port leaves
			// it; that link is still there.
			if len(m.body) < unix.SizeofIfInfomsg || m.body[0] != unix.AF_UNSPEC {
				return nil
			}
			switch m.typ {
			case unix.RTM_DELLINK:
				c.Gone = append(c.Gone, int(native.Uint32(m.body[4:])))
			case unix.RTM_NEWLINK:
				if kindOf(m.body) == "bridge" {
					c.Bridges = append(c.Bridges, parseLink(m.body))
				}
			}
			return nil
		})
		if err != nil {
			return Changes{Lost: true}, nil
		}
		if len(c.Gone)+len(c.Bridges) > 0 {
			return c, nil
		}
	}
}
