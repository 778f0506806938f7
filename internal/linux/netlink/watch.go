package netlink

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Watch tells of links of a namespace that disappear, or that somebody changes, and of
// bridges in it.
type Watch struct {
	f   *os.File
	own uint32
}

// NewWatch listens in the network namespace of the calling thread. Changes of queues that
// own asks for are not told; it has been used before.
func NewWatch(own *Conn) (*Watch, error) {
	port, err := own.port()
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink socket: %w", err)
	}
	// A hundred namespaces that go at once send a thousand messages of 2 KB.
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK | unix.RTMGRP_TC | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return &Watch{os.NewFile(uintptr(fd), "rtnetlink"), port}, nil
}

// Close ends the watch; a waiting Next returns os.ErrClosed.
func (w *Watch) Close() error { return w.f.Close() }

// Changes are what has happened to links since the last time, by their numbers.
type Changes struct {
	Gone     []int  // they have disappeared
	Lessened []int  // they are down now, have left their bridge, or lost an address
	Unqueued []int  // their queue was removed, or is another
	Bridges  []Link // that have come, or have changed
	Lost     bool   // reports were dropped: look at the list of links
}

// Next waits for changes. After Close it returns os.ErrClosed.
func (w *Watch) Next() (Changes, error) {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.f.Read(buf)
		if errors.Is(err, unix.ENOBUFS) {
			return Changes{Lost: true}, nil
		}
		if err != nil {
			return Changes{}, err
		}
		var c Changes
		err = eachMessage(buf[:n], func(m message) error { c.add(m, w.own); return nil })
		if err != nil {
			return Changes{Lost: true}, nil
		}
		if len(c.Gone)+len(c.Lessened)+len(c.Unqueued)+len(c.Bridges) > 0 {
			return c, nil
		}
	}
}

// add notes what a report says. In all of them the number of the link is at the same
// place.
func (c *Changes) add(m message, own uint32) {
	if len(m.body) < 8 {
		return
	}
	index := int(native.Uint32(m.body[4:]))
	switch m.typ {
	case unix.RTM_DELLINK:
		// A bridge says so of family AF_BRIDGE when a port leaves it; that link is
		// still there.
		if m.body[0] == unix.AF_BRIDGE {
			c.Lessened = append(c.Lessened, index)
		} else {
			c.Gone = append(c.Gone, index)
		}
	case unix.RTM_NEWLINK:
		if len(m.body) < unix.SizeofIfInfomsg {
			return
		}
		if native.Uint32(m.body[8:])&unix.IFF_UP == 0 {
			c.Lessened = append(c.Lessened, index)
		}
		if m.body[0] == unix.AF_UNSPEC && kindOf(m.body) == "bridge" {
			c.Bridges = append(c.Bridges, parseLink(m.body))
		}
	case unix.RTM_DELADDR:
		c.Lessened = append(c.Lessened, index)
	case unix.RTM_DELQDISC:
		if m.port != own { // who gives a link its first queue takes the kernel's from it
			c.Unqueued = append(c.Unqueued, index)
		}
	}
}
