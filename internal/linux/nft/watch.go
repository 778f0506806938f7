package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Watch tells of changes that others make to a table, or to any.
type Watch struct {
	f      *os.File
	table  string // empty: any
	except string // a chain whose rules are anybody's
	conn   *Conn
}

// NewWatch listens for changes of a table of the family inet, in the network
// namespace of the calling thread; those made through c, and those of the rules
// of one chain, are not reported. Without the name of a table it listens for changes
// of all tables, of all families.
func (c *Conn) NewWatch(table, except string) (*Watch, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open netfilter socket: %w", err)
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return &Watch{os.NewFile(uintptr(fd), "nftables"), table, except, c}, nil
}

// Close ends the watch and a waiting Next.
func (w *Watch) Close() error { return w.f.Close() }

// Next waits until somebody else has changed the table, or may have: reports
// that were lost count as changes.
func (w *Watch) Next() error {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.f.Read(buf)
		if errors.Is(err, unix.ENOBUFS) {
			return nil
		}
		if err != nil {
			return err
		}
		if w.foreign(buf[:n]) {
			return nil
		}
	}
}

// Drain forgets what has been reported and not been read: whoever looks at the whole
// next sees it. A flush of many chains is many reports.
func (w *Watch) Drain() error {
	raw, err := w.f.SyscallConn()
	if err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	return raw.Read(func(fd uintptr) bool {
		for {
			if _, err := unix.Read(int(fd), buf); err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOBUFS) {
				return true // EAGAIN: there is no more
			}
		}
	})
}

// foreign reports whether a datagram tells of somebody else's change.
func (w *Watch) foreign(p []byte) bool {
	for len(p) >= unix.SizeofNlMsghdr {
		n := int(binary.NativeEndian.Uint32(p))
		if n < unix.SizeofNlMsghdr || n > len(p) {
			return true
		}
		if port := binary.NativeEndian.Uint32(p[12:]); port != w.conn.port.Load() && w.concerns(binary.NativeEndian.Uint16(p[4:]), p[unix.SizeofNlMsghdr:n]) {
			return true
		}
		p = p[min((n+3)&^3, len(p)):]
	}
	return false
}

// concerns reports whether a report is about the table. The first attribute of
// reports of tables, chains, rules, sets and elements names it; the second, of
// rules, the chain.
func (w *Watch) concerns(typ uint16, body []byte) bool {
	const family, header = 0, 4 // struct nfgenmsg
	if typ>>8 != unix.NFNL_SUBSYS_NFTABLES || len(body) < header || w.table != "" && body[family] != unix.NFPROTO_INET {
		return false
	}
	typ &= 0xff
	if w.table == "" {
		return typ != unix.NFT_MSG_NEWGEN
	}
	name := map[uint16]string{}
	for p := body[header:]; len(p) >= 4; {
		n := int(binary.NativeEndian.Uint16(p))
		if n < 4 || n > len(p) {
			break
		}
		if t := binary.NativeEndian.Uint16(p[2:]) &^ unix.NLA_F_NESTED; t <= unix.NFTA_RULE_CHAIN {
			name[t], _, _ = strings.Cut(string(p[4:n]), "\x00")
		}
		p = p[min((n+3)&^3, len(p)):]
	}
	rule := typ == unix.NFT_MSG_NEWRULE || typ == unix.NFT_MSG_DELRULE
	return typ != unix.NFT_MSG_NEWGEN && name[unix.NFTA_RULE_TABLE] == w.table &&
		!(rule && w.except != "" && name[unix.NFTA_RULE_CHAIN] == w.except)
}
