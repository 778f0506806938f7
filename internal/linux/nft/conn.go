package nft

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Conn is a connection to the packet filter of one network namespace.
type Conn struct {
	mu   sync.Mutex
	c    *nftables.Conn
	port atomic.Uint32 // of the socket: changes of ours bear it
}

// Open connects to the packet filter of the calling thread's network namespace.
func Open() (*Conn, error) {
	c := &Conn{}
	if err := c.dial(); err != nil {
		return nil, fmt.Errorf("connect to nftables: %w", err)
	}
	return c, nil
}

// buffer bounds a transaction: a thousand networks are 17,000 messages, and the
// kernel counts a KB for the acknowledgement of each. It is memory only while it
// is full.
const buffer = 64 << 20

func (c *Conn) dial() (err error) {
	var port uint32
	c.c, err = nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(n *netlink.Conn) error {
		n.SetReadBuffer(buffer) // the acknowledgements of a transaction all wait there
		n.SetWriteBuffer(buffer)
		return portOf(n, &port)
	}))
	c.port.Store(port)
	return err
}

// portOf finds the address that the kernel gave a netlink socket.
func portOf(n *netlink.Conn, port *uint32) error {
	raw, err := n.SyscallConn()
	if err != nil {
		return err
	}
	var e error
	err = raw.Control(func(fd uintptr) {
		var sa unix.Sockaddr
		if sa, e = unix.Getsockname(int(fd)); e == nil {
			*port = sa.(*unix.SockaddrNetlink).Pid
		}
	})
	return errors.Join(err, e)
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.c.CloseLasting()
}

// flush commits what was collected. After an error the socket may hold
// acknowledgements of the failed transaction: it is replaced.
//
// Preconditions: c.mu is held.
func (c *Conn) flush() error {
	err := c.c.Flush()
	if err != nil {
		err = errors.Join(err, c.redial())
	}
	return err
}

// redial forgets what was collected and not committed.
func (c *Conn) redial() error {
	c.c.CloseLasting()
	return c.dial()
}

func handle(table string) *nftables.Table {
	return &nftables.Table{Name: table, Family: nftables.TableFamilyINet}
}

func (s *Set) handle(t *nftables.Table) *nftables.Set {
	h := &nftables.Set{Table: t, Name: s.Name, IsMap: s.isMap, KeyType: s.key, DataType: s.data, Concatenation: s.concat, Interval: s.interval}
	if !s.concat && !s.interval {
		h.KeyByteOrder = binaryutil.NativeEndian // names; tells nft how to print them
	}
	return h
}

// Apply makes the table equal its description in one transaction; other tables,
// and the rules of chains marked Keep, are left as they are. Connections that
// were translated before stay translated.
func (c *Conn) Apply(t *Table) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.apply(t, nil)
	if errors.Is(err, syscall.EEXIST) || errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EINVAL) {
		// The table is of another version, with sets of other types: replace it
		// as a whole, taking the kept rules along.
		kept, e := c.keptRules(t)
		if e != nil {
			return errors.Join(err, e)
		}
		err = c.apply(t, kept)
	}
	if err != nil {
		return fmt.Errorf("nftables table inet %s: %w", t.Name, err)
	}
	return nil
}

// apply updates the table, or, given kept rules, replaces it.
//
// Preconditions: c.mu is held.
func (c *Conn) apply(t *Table, kept []*nftables.Rule) error {
	chains, sets, err := c.others(t)
	if err != nil {
		return err
	}
	h := c.c.AddTable(handle(t.Name))
	if kept != nil {
		c.c.DelTable(h)
		c.c.AddTable(h)
		chains, sets = nil, nil
	}
	var b Batch
	for _, ch := range t.Chains { // before the rules and elements that lead to them
		b.AddChain(ch)
	}
	for _, s := range t.Sets {
		b.AddSet(s)
	}
	for _, ch := range t.Chains {
		if !ch.Keep {
			b.SetRules(ch)
		}
	}
	b.removeOthers(chains, sets)
	b.add(func(conn *nftables.Conn, h *nftables.Table) error {
		for _, r := range kept {
			conn.AddRule(&nftables.Rule{Table: h, Chain: r.Chain, Exprs: r.Exprs, UserData: r.UserData})
		}
		return nil
	})
	return c.do(h, &b)
}

// removeOthers removes chains and sets to which no rule of ours leads any more.
func (b *Batch) removeOthers(chains []*nftables.Chain, sets []*nftables.Set) {
	b.add(func(c *nftables.Conn, t *nftables.Table) error {
		for _, ch := range chains {
			c.FlushChain(ch)
		}
		for _, set := range sets { // maps lead to chains
			c.DelSet(set)
		}
		for _, ch := range chains {
			c.DelChain(ch)
		}
		return nil
	})
}

func (ch Chain) handle(t *nftables.Table) *nftables.Chain {
	n := &nftables.Chain{Table: t, Name: ch.Name}
	if ch.Hook.num != nil {
		n.Type, n.Hooknum, n.Policy = ch.Hook.kind, ch.Hook.num, new(nftables.ChainPolicyAccept)
		n.Priority = nftables.ChainPriorityRef(nftables.ChainPriority(ch.Priority))
	}
	return n
}

// others are the chains and sets that the kernel has of a table and t has not.
//
// Preconditions: c.mu is held.
func (c *Conn) others(t *Table) (chains []*nftables.Chain, sets []*nftables.Set, err error) {
	h := handle(t.Name)
	tables, err := c.c.ListTablesOfFamily(h.Family)
	if err != nil || !slices.ContainsFunc(tables, func(have *nftables.Table) bool { return have.Name == t.Name }) {
		return nil, nil, err
	}
	all, err := c.c.ListChainsOfTableFamily(h.Family)
	if err != nil {
		return nil, nil, err
	}
	for _, ch := range all {
		if ch.Table.Name == t.Name && !slices.ContainsFunc(t.Chains, func(own Chain) bool { return own.Name == ch.Name }) {
			ch.Table = h
			chains = append(chains, ch)
		}
	}
	have, err := c.c.GetSets(h)
	if err != nil {
		return nil, nil, err
	}
	for _, set := range have {
		if !set.Anonymous && !slices.ContainsFunc(t.Sets, func(own *Set) bool { return own.Name == set.Name }) {
			set.Table = h
			sets = append(sets, set)
		}
	}
	return chains, sets, nil
}

// keptRules reads the rules of the chains marked Keep.
//
// Preconditions: c.mu is held.
func (c *Conn) keptRules(t *Table) ([]*nftables.Rule, error) {
	kept := []*nftables.Rule{}
	h := handle(t.Name)
	for _, ch := range t.Chains {
		if !ch.Keep {
			continue
		}
		rules, err := c.c.GetRules(h, ch.handle(h))
		if err != nil && !errors.Is(err, syscall.ENOENT) {
			return nil, err
		}
		kept = append(kept, rules...)
	}
	return kept, nil
}

// Add adds elements to a set of a table in one transaction. Adding what is
// there already is no error; a key of a map that has another value is EEXIST.
func (c *Conn) Add(table string, s *Set, e ...Element) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b Batch
	b.Add(s, e...)
	return c.do(handle(table), &b)
}

// Delete removes elements from a set; it is no error if one is not there.
func (c *Conn) Delete(table string, s *Set, e ...Element) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := s.handle(handle(table))
	if err := c.c.SetDeleteElements(h, elements(e)); err != nil {
		return err
	}
	err := c.flush()
	if !errors.Is(err, syscall.ENOENT) || len(e) == 1 {
		return ignoreMissing(err)
	}
	// One missing element refuses the whole transaction: take them singly.
	var errs []error
	for _, one := range e {
		if err := c.c.SetDeleteElements(h, elements([]Element{one})); err != nil {
			return err
		}
		errs = append(errs, ignoreMissing(c.flush()))
	}
	return errors.Join(errs...)
}

func ignoreMissing(err error) error {
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return err
}

// DeleteTable removes a table of the family inet; it is no error if there is
// none.
func (c *Conn) DeleteTable(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := handle(name)
	c.c.AddTable(h) // so that the deletion cannot fail
	c.c.DelTable(h)
	return c.flush()
}

func familyNumber(name string) nftables.TableFamily {
	return map[string]nftables.TableFamily{"inet": nftables.TableFamilyINet, "ip": nftables.TableFamilyIPv4, "ip6": nftables.TableFamilyIPv6}[name]
}
