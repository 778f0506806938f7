package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Replace makes a table of chains and rules, without sets, in the calling thread's
// network namespace, in the place of one of its name. It is for namespaces that
// nobody else programs: one message there and one back, on a thread that blocks, where
// Open and Apply would ask what there is.
func Replace(t *Table) error {
	if len(t.Sets) > 0 {
		return errors.New("nftables: a table with sets")
	}
	err := transactTable(t, (*nftables.Conn).CreateTable)
	if errors.Is(err, syscall.EEXIST) {
		err = transactTable(t, replaceTable)
	}
	if err != nil {
		return fmt.Errorf("nftables table inet %s: %w", t.Name, err)
	}
	return nil
}

// replaceTable makes a table in the place of one of its name. The kernel waits some
// milliseconds with what is deleted until no packet is on its way in it.
func replaceTable(c *nftables.Conn, h *nftables.Table) *nftables.Table {
	c.AddTable(h) // so that there is one to be deleted
	c.DelTable(h)
	return c.AddTable(h)
}

// transactTable makes a table in one transaction.
func transactTable(t *Table, begin func(*nftables.Conn, *nftables.Table) *nftables.Table) error {
	messages, err := program(t, begin)
	if err != nil {
		return err
	}
	return transact(messages)
}

// errWritten ends the library's flush once its messages are known.
var errWritten = errors.New("written")

// program is the transaction that makes a table. Only its last message asks for an
// answer; what fails is told all the same.
func program(t *Table, begin func(*nftables.Conn, *nftables.Table) *nftables.Table) (messages []netlink.Message, err error) {
	c, err := nftables.New(nftables.WithTestDial(func(m []netlink.Message) ([]netlink.Message, error) {
		messages = append(messages, m...)
		return nil, errWritten
	}))
	if err != nil {
		return nil, err
	}
	h := begin(c, handle(t.Name))
	for _, ch := range t.Chains {
		chain := c.AddChain(ch.handle(h))
		for _, r := range ch.Rules {
			rule := &nftables.Rule{Table: h, Chain: chain}
			for _, s := range r {
				rule.Exprs = append(rule.Exprs, s...)
			}
			c.AddRule(rule)
		}
	}
	if err := c.Flush(); !errors.Is(err, errWritten) {
		return nil, errors.Join(err, errors.New("nothing was written"))
	}
	last := -1
	for i := range messages {
		if messages[i].Header.Flags&netlink.Acknowledge != 0 {
			messages[i].Header.Flags &^= netlink.Acknowledge | netlink.Echo
			last = i
		}
		messages[i].Header.Sequence = uint32(i + 1)
	}
	if last < 0 {
		return nil, errors.New("nothing to be acknowledged")
	}
	messages[last].Header.Flags |= netlink.Acknowledge
	return messages, nil
}

// transact sends messages and waits for the answer.
func transact(messages []netlink.Message) error {
	var b []byte
	for _, m := range messages {
		raw, err := m.MarshalBinary()
		if err != nil {
			return err
		}
		b = append(b, raw...)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	buf := make([]byte, 16<<10)
	n, _, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return os.NewSyscallError("recvfrom", err)
	}
	if n < unix.NLMSG_HDRLEN+4 || binary.NativeEndian.Uint16(buf[4:]) != unix.NLMSG_ERROR {
		return fmt.Errorf("an answer of %d bytes that is none", n)
	}
	if errno := -int32(binary.NativeEndian.Uint32(buf[unix.NLMSG_HDRLEN:])); errno != 0 {
		return fmt.Errorf("message %d of %d: %w", binary.NativeEndian.Uint32(buf[8:]), len(messages), syscall.Errno(errno))
	}
	return nil
}
