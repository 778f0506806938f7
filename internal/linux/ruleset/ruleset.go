// Package ruleset reads what is in force of the packet filter, of all programs:
// nftables, of which iptables is a front end today, and the engine that iptables had
// before.
//
//	rules, err := ruleset.Read()          // of the calling thread's network namespace
//	for _, c := range rules.Chains { … }
//
// Rules are lists of typed expressions. What this package has no type for is an
// Unknown, never left out.
package ruleset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Ruleset is one state of the packet filter.
type Ruleset struct {
	Chains []*Chain
	Sets   []*Set
}

// Table names a table.
type Table struct {
	Family string // ip, ip6, inet, arp, bridge, netdev; or Legacy
	Name   string
}

func (t Table) String() string { return t.Family + " " + t.Name }

// Chain is a list of rules.
type Chain struct {
	Table
	Chain string
	// Hook is where packets come into the chain: prerouting, input, forward, output,
	// postrouting, ingress, egress; empty if only rules lead there.
	Hook     string
	Kind     string // filter, nat, route; of chains with a hook
	Priority int
	Devices  []string // of ingress and egress
	Drops    bool     // the policy
	Rules    []Rule
}

func (c *Chain) String() string { return c.Table.String() + " " + c.Chain }

// Rule is a list of expressions that are executed in order until one does not
// match or gives a verdict.
type Rule struct {
	Handle  uint64
	Comment string
	Exprs   []Expr
}

// Set is a set, or a map.
type Set struct {
	Table
	Set       string
	Anonymous bool // of one rule
	Map       bool
	Interval  bool
	KeyLen    int
	Fields    []int // lengths of the parts of concatenated intervals, each rounded up to a register of four; else nil
	Elements  []Element
}

// Element is a member of a set. Those of intervals of one part are in pairs: where
// one begins, and, with End, where it has ended. Those of concatenations have KeyEnd.
type Element struct {
	Key, KeyEnd []byte
	End         bool
	Data        []byte
	Verdict     *Verdict // of maps of verdicts
	CatchAll    bool     // without a key: what no other element matches
}

// Chain finds a chain; nil if there is none.
func (r *Ruleset) Chain(t Table, name string) *Chain {
	for _, c := range r.Chains {
		if c.Table == t && c.Chain == name {
			return c
		}
	}
	return nil
}

// Set finds a set; nil if there is none.
func (r *Ruleset) Set(t Table, name string) *Set {
	for _, s := range r.Sets {
		if s.Table == t && s.Set == name {
			return s
		}
	}
	return nil
}

// Read reads all tables, but of those that are named no rules and no elements. It
// reads again if something changes meanwhile.
func Read(without ...Table) (*Ruleset, error) {
	const attempts = 5
	for i := 1; ; i++ {
		r, err := readOnce(without)
		if err == nil || i == attempts || !errors.Is(err, errChanged) {
			return r, err
		}
	}
}

var errChanged = errors.New("the packet filter's rules change all the time")

func readOnce(without []Table) (*Ruleset, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("read nftables: %w", err)
	}
	defer c.Close()
	r := reader{conn: c, without: without}
	before := r.generation()
	r.tables()
	r.chains()
	r.rules()
	r.sets()
	switch after := r.generation(); {
	case errors.Is(r.err, unix.ENOENT), errors.Is(r.err, unix.EINTR), r.err == nil && before != after:
		return nil, errChanged
	case r.err != nil:
		return nil, fmt.Errorf("read nftables: %w", r.err)
	}
	old, err := legacy()
	if err != nil {
		return nil, err
	}
	r.all.Chains = append(r.all.Chains, old...)
	return &r.all, nil
}

// reader keeps the first error; after it nothing is read.
type reader struct {
	conn    *netlink.Conn
	err     error
	all     Ruleset
	without []Table
	dormant map[Table]bool // tables whose chains are not in force
}

// ask sends one request and calls f for each message of the answer.
func (r *reader) ask(typ int, flags netlink.HeaderFlags, family byte, attrs []netlink.Attribute, f func(family string, a *attributes)) {
	if r.err != nil {
		return
	}
	data, err := netlink.MarshalAttributes(attrs)
	if err != nil {
		r.err = err
		return
	}
	answer, err := r.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | typ), Flags: netlink.Request | flags},
		Data:   append([]byte{family, 0, 0, 0}, data...),
	})
	if err != nil {
		r.err = err
		return
	}
	for _, m := range answer {
		if len(m.Data) < 4 {
			continue
		}
		a := parse(m.Data[4:])
		f(familyName(m.Data[0]), a)
		if a.err != nil && r.err == nil {
			r.err = a.err
		}
	}
}

func (r *reader) generation() (id uint32) {
	r.ask(unix.NFT_MSG_GETGEN, 0, unix.AF_UNSPEC, nil, func(_ string, a *attributes) { id = a.u32(unix.NFTA_GEN_ID) })
	return id
}

func (r *reader) tables() {
	const dormant = 1 // NFT_TABLE_F_DORMANT
	r.dormant = map[Table]bool{}
	r.ask(unix.NFT_MSG_GETTABLE, netlink.Dump, unix.AF_UNSPEC, nil, func(family string, a *attributes) {
		r.dormant[Table{family, a.str(unix.NFTA_TABLE_NAME)}] = a.u32(unix.NFTA_TABLE_FLAGS)&dormant != 0
	})
}

func (r *reader) chains() {
	r.ask(unix.NFT_MSG_GETCHAIN, netlink.Dump, unix.AF_UNSPEC, nil, func(family string, a *attributes) {
		c := &Chain{Table: Table{family, a.str(unix.NFTA_CHAIN_TABLE)}, Chain: a.str(unix.NFTA_CHAIN_NAME)}
		if h := a.nested(unix.NFTA_CHAIN_HOOK); h != nil && !r.dormant[c.Table] {
			c.Hook = hookName(family, h.u32(unix.NFTA_HOOK_HOOKNUM))
			c.Priority = int(int32(h.u32(unix.NFTA_HOOK_PRIORITY)))
			c.Kind = a.str(unix.NFTA_CHAIN_TYPE)
			c.Drops = a.has(unix.NFTA_CHAIN_POLICY) && a.u32(unix.NFTA_CHAIN_POLICY) == 0 // NF_DROP
			c.Devices = devices(h)
		}
		r.all.Chains = append(r.all.Chains, c)
	})
}

// devices are the links of a hook of the family netdev.
func devices(h *attributes) []string {
	const nftaHookDevs = 4 // NFTA_HOOK_DEVS
	if list := h.nested(nftaHookDevs); list != nil {
		var all []string
		for _, v := range list.list {
			all = append(all, cstring(v.data))
		}
		return all
	}
	if h.has(unix.NFTA_HOOK_DEV) {
		return []string{h.str(unix.NFTA_HOOK_DEV)}
	}
	return nil
}

func (r *reader) rules() {
	var c *Chain // rules of a chain come one after the other
	r.ask(unix.NFT_MSG_GETRULE, netlink.Dump, unix.AF_UNSPEC, nil, func(family string, a *attributes) {
		table, name := Table{family, a.str(unix.NFTA_RULE_TABLE)}, a.str(unix.NFTA_RULE_CHAIN)
		if slices.Contains(r.without, table) {
			return
		}
		if c == nil || c.Table != table || c.Chain != name {
			if c = r.all.Chain(table, name); c == nil {
				return // it came meanwhile
			}
		}
		rule := Rule{Handle: a.u64(unix.NFTA_RULE_HANDLE), Comment: comment(a.bytes(unix.NFTA_RULE_USERDATA))}
		if list := a.nested(unix.NFTA_RULE_EXPRESSIONS); list != nil {
			for _, v := range list.list {
				e := parse(v.data)
				x := decode(e.str(unix.NFTA_EXPR_NAME), e.nested(unix.NFTA_EXPR_DATA))
				if m, ok := x.(XTMatch); ok && m.Name == "comment" { // as iptables may write it
					rule.Comment = cstring(m.Info)
				}
				rule.Exprs = append(rule.Exprs, x)
			}
		}
		c.Rules = append(c.Rules, rule)
	})
}

// comment finds the comment in what nft and others attach to a rule.
func comment(p []byte) string {
	const typeComment = 0
	for len(p) >= 2 && len(p) >= 2+int(p[1]) {
		if p[0] == typeComment {
			return cstring(p[2 : 2+int(p[1])])
		}
		p = p[2+int(p[1]):]
	}
	return ""
}

func (r *reader) sets() {
	r.ask(unix.NFT_MSG_GETSET, netlink.Dump, unix.AF_UNSPEC, nil, func(family string, a *attributes) {
		flags := a.u32(unix.NFTA_SET_FLAGS)
		r.all.Sets = append(r.all.Sets, &Set{
			Table: Table{family, a.str(unix.NFTA_SET_TABLE)}, Set: a.str(unix.NFTA_SET_NAME), Anonymous: flags&unix.NFT_SET_ANONYMOUS != 0,
			Map: flags&unix.NFT_SET_MAP != 0, Interval: flags&unix.NFT_SET_INTERVAL != 0, KeyLen: int(a.u32(unix.NFTA_SET_KEY_LEN)), Fields: fields(a.nested(unix.NFTA_SET_DESC)),
		})
	})
	for _, s := range r.all.Sets {
		if slices.Contains(r.without, s.Table) {
			continue
		}
		r.ask(unix.NFT_MSG_GETSETELEM, netlink.Dump, familyNumber(s.Family), []netlink.Attribute{
			{Type: unix.NFTA_SET_ELEM_LIST_TABLE, Data: append([]byte(s.Name), 0)},
			{Type: unix.NFTA_SET_ELEM_LIST_SET, Data: append([]byte(s.Set), 0)},
		}, func(_ string, a *attributes) {
			if list := a.nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS); list != nil {
				for _, v := range list.list {
					s.Elements = append(s.Elements, element(parse(v.data)))
				}
			}
		})
	}
}

// fields are the lengths of a concatenation's parts, in whole registers.
func fields(desc *attributes) (all []int) {
	const nftaSetDescConcat, nftaSetFieldLen = 2, 1
	if desc == nil {
		return nil
	}
	if list := desc.nested(nftaSetDescConcat); list != nil {
		for _, v := range list.list {
			all = append(all, (int(parse(v.data).u32(nftaSetFieldLen))+3)&^3)
		}
	}
	return all
}

func element(a *attributes) Element {
	const nftaSetElemKeyEnd, intervalEnd, catchAll = 10, 1, 2
	e := Element{Key: value(a.nested(unix.NFTA_SET_ELEM_KEY)), KeyEnd: value(a.nested(nftaSetElemKeyEnd))}
	flags := a.u32(unix.NFTA_SET_ELEM_FLAGS)
	e.End, e.CatchAll = flags&intervalEnd != 0, flags&catchAll != 0
	if d := a.nested(unix.NFTA_SET_ELEM_DATA); d != nil {
		if d.has(unix.NFTA_DATA_VERDICT) {
			e.Verdict = verdict(d.nested(unix.NFTA_DATA_VERDICT))
		} else {
			e.Data = value(d)
		}
	}
	return e
}

func value(d *attributes) []byte {
	if d == nil {
		return nil
	}
	return d.bytes(unix.NFTA_DATA_VALUE)
}

var families = map[byte]string{
	unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6", unix.NFPROTO_ARP: "arp", unix.NFPROTO_BRIDGE: "bridge", unix.NFPROTO_NETDEV: "netdev",
}

func familyName(n byte) string {
	if s, ok := families[n]; ok {
		return s
	}
	return fmt.Sprintf("family %d", n)
}

func familyNumber(name string) byte {
	for n, s := range families {
		if s == name {
			return n
		}
	}
	return unix.AF_UNSPEC
}

func hookName(family string, n uint32) string {
	names := []string{"prerouting", "input", "forward", "output", "postrouting", "ingress"}
	if family == "netdev" {
		names = []string{"ingress", "egress"}
	}
	if family == "arp" {
		names = []string{"input", "output", "forward"}
	}
	if int(n) < len(names) {
		return names[n]
	}
	return fmt.Sprintf("hook %d", n)
}

// attributes are those of one message or nest.
type attributes struct {
	list []attribute
	err  error
}

type attribute struct {
	typ  uint16
	data []byte
}

func parse(p []byte) *attributes {
	a := &attributes{}
	for len(p) >= 4 {
		n := int(binary.NativeEndian.Uint16(p))
		if n < 4 || n > len(p) {
			a.err = fmt.Errorf("an attribute of %d bytes in %d", n, len(p))
			break
		}
		a.list = append(a.list, attribute{binary.NativeEndian.Uint16(p[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER), p[4:n]})
		p = p[min((n+3)&^3, len(p)):]
	}
	return a
}

func (a *attributes) find(typ uint16) ([]byte, bool) {
	if a == nil {
		return nil, false
	}
	for _, v := range a.list {
		if v.typ == typ {
			return v.data, true
		}
	}
	return nil, false
}

func (a *attributes) has(typ uint16) bool { _, ok := a.find(typ); return ok }

func (a *attributes) bytes(typ uint16) []byte { b, _ := a.find(typ); return b }

func (a *attributes) str(typ uint16) string { return cstring(a.bytes(typ)) }

func (a *attributes) u32(typ uint16) uint32 {
	if b := a.bytes(typ); len(b) >= 4 {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (a *attributes) u64(typ uint16) uint64 {
	if b := a.bytes(typ); len(b) >= 8 {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (a *attributes) nested(typ uint16) *attributes {
	b, ok := a.find(typ)
	if !ok {
		return nil
	}
	return parse(b)
}

func cstring(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}
