package ruleset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Legacy and Legacy6 are the families of tables of iptables' and ip6tables' own engine,
// which is older than nftables and beside it. Their rules are read as well; a rule's
// handle is its number, as iptables-legacy -L --line-numbers shows it.
const (
	Legacy  = "iptables-legacy"
	Legacy6 = "ip6tables-legacy"
)

// engine is what is different for the two versions of IP: for machines of 64 bits, by
// linux/netfilter_ipv4/ip_tables.h and linux/netfilter_ipv6/ip6_tables.h.
type engine struct {
	family        string
	names         string // the file that lists tables
	domain, level int    // of the socket by which tables are read
	entryLen      int    // of an entry without its matches
	targetAt      int    // in an entry: the place of its target, and then that of the next entry
	addrLen       int
	protoAt       int // in an entry: number of two bytes; the flags follow
	flagsAt       int // in an entry: flags, and behind them those that invert
	srcAt, dstAt  int // in an IP header
}

var engines = [...]engine{
	{Legacy, "/proc/thread-self/net/ip_tables_names", unix.AF_INET, unix.SOL_IP, 112, 88, 4, 80, 82, 12, 16},
	{Legacy6, "/proc/thread-self/net/ip6_tables_names", unix.AF_INET6, unix.SOL_IPV6, 168, 140, 16, 128, 131, 8, 24},
}

// legacy reads the tables of the older engine that were ever used.
func legacy() (all []*Chain, err error) {
	for i := range engines {
		e := &engines[i]
		b, err := os.ReadFile(e.names)
		if errors.Is(err, os.ErrNotExist) {
			continue // the kernel is without
		}
		if err != nil {
			return nil, err
		}
		for _, name := range strings.Fields(string(b)) {
			list, err := e.table(name)
			if err != nil {
				return nil, fmt.Errorf("table %s of %s: %w", name, e.family, err)
			}
			all = append(all, list...)
		}
	}
	return all, nil
}

// The hooks in the order of their numbers, and sizes that both versions share.
const (
	hooks        = 5
	nameLen      = 32
	infoLen      = nameLen + 4 + 4*hooks + 4*hooks + 4 + 4
	entriesHead  = 40
	matchHead    = 32
	getInfo      = 64 // IPT_SO_GET_INFO
	getEntries   = 65 // IPT_SO_GET_ENTRIES
	maxTableSize = 64 << 20
)

var legacyHooks = [hooks]string{"prerouting", "input", "forward", "output", "postrouting"}

// table reads one table.
func (e *engine) table(name string) ([]*Chain, error) {
	fd, err := unix.Socket(e.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	info := make([]byte, infoLen)
	copy(info, name)
	if err := e.getsockopt(fd, getInfo, info); err != nil {
		return nil, err
	}
	t := legacyReader{engine: e, name: name, valid: native(info[nameLen:])}
	for h := range hooks {
		t.first[h], t.policy[h] = int(native(info[nameLen+4+4*h:])), int(native(info[nameLen+4+4*hooks+4*h:]))
	}
	size := native(info[infoLen-4:])
	if size > maxTableSize {
		return nil, fmt.Errorf("a table of %d bytes", size)
	}
	b := make([]byte, entriesHead+int(size))
	copy(b, name)
	binary.NativeEndian.PutUint32(b[nameLen:], size)
	if err := e.getsockopt(fd, getEntries, b); errors.Is(err, unix.EAGAIN) {
		return nil, errChanged
	} else if err != nil {
		return nil, err
	}
	t.b = b[entriesHead:]
	return t.chains()
}

func native(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }

func (e *engine) getsockopt(fd, option int, b []byte) error {
	n := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(e.level), uintptr(option), uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return os.NewSyscallError("getsockopt", errno)
	}
	return nil
}

// legacyReader turns entries into chains. An entry's place is what others jump to.
type legacyReader struct {
	*engine
	name          string
	valid         uint32 // bits of hooks
	first, policy [hooks]int
	b             []byte
	names         map[int]string // of the chains that begin at a place
}

// each calls f for each entry.
func (t *legacyReader) each(f func(at int, entry []byte) error) error {
	for at := 0; at < len(t.b); {
		rest := t.b[at:]
		if len(rest) < t.entryLen {
			return errors.New("an entry is cut off")
		}
		target, next := int(binary.NativeEndian.Uint16(rest[t.targetAt:])), int(binary.NativeEndian.Uint16(rest[t.targetAt+2:]))
		if next < t.entryLen+matchHead || next > len(rest) || target < t.entryLen || target > next-matchHead {
			return errors.New("an entry with impossible lengths")
		}
		if err := f(at, rest[:next]); err != nil {
			return err
		}
		at += next
	}
	return nil
}

// target is an entry's target: its name, revision and data.
func (e *engine) target(entry []byte) (name string, revision int, data []byte) {
	t := entry[binary.NativeEndian.Uint16(entry[e.targetAt:]):]
	return cstring(t[2:31]), int(t[31]), t[matchHead:]
}

// chains makes the chains with a hook of the table, and those of the user, which begin
// with an entry that bears their name.
func (t *legacyReader) chains() ([]*Chain, error) {
	t.names = map[int]string{}
	err := t.each(func(at int, entry []byte) error {
		if name, _, data := t.target(entry); name == "ERROR" {
			t.names[at+len(entry)] = cstring(data)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var all []*Chain
	var c *Chain
	err = t.each(func(at int, entry []byte) error {
		for h, name := range legacyHooks {
			if t.valid&(1<<h) != 0 && t.first[h] == at {
				c = t.hooked(h, name)
				all = append(all, c)
			}
		}
		if name, ok := t.names[at]; ok {
			c = &Chain{Table: t.table(), Chain: name}
			all = append(all, c)
		}
		return t.add(c, at, entry)
	})
	return all, err
}

func (t *legacyReader) table() Table { return Table{t.family, t.name} }

func (t *legacyReader) hooked(h int, hook string) *Chain {
	c := &Chain{Table: t.table(), Chain: strings.ToUpper(hook), Hook: hook, Kind: "filter"}
	c.Priority = map[string]int{"raw": -300, "mangle": -150, "nat": -100, "security": 50}[t.name]
	if t.name == "nat" {
		c.Kind = "nat"
		if hook == "postrouting" || hook == "input" {
			c.Priority = 100
		}
	}
	return c
}

// add adds an entry to a chain, as a rule or, at its end, as the policy.
func (t *legacyReader) add(c *Chain, at int, entry []byte) error {
	name, revision, data := t.target(entry)
	if name == "ERROR" {
		return nil
	}
	if c == nil {
		return errors.New("an entry of no chain")
	}
	if name == "" && len(data) < 4 {
		return errors.New("a verdict is cut off")
	}
	for h := range hooks {
		if t.valid&(1<<h) != 0 && t.policy[h] == at && c.Hook == legacyHooks[h] {
			c.Drops = name == "" && int32(native(data)) == -1
			return nil
		}
	}
	r := Rule{Handle: uint64(len(c.Rules) + 1), Exprs: t.matches(entry)}
	if err := t.extensions(entry, &r); err != nil {
		return err
	}
	if name != "" {
		r.Exprs = append(r.Exprs, XTTarget{name, revision, data})
	} else if v := t.verdict(int32(native(data)), at+len(entry), entry[t.flagsAt]); v != nil {
		r.Exprs = append(r.Exprs, *v)
	}
	c.Rules = append(c.Rules, r)
	return nil
}

// verdict is what a standard target says; nil if the next rule follows.
func (t *legacyReader) verdict(code int32, next int, flags byte) *Verdict {
	isGoto := byte(2) // of IPv6 another
	if t.family == Legacy6 {
		isGoto = 4
	}
	switch {
	case code == -1:
		return &Verdict{Kind: "drop"}
	case code == -2:
		return &Verdict{Kind: "accept"}
	case code == -5:
		return &Verdict{Kind: "return"}
	case code < 0:
		return &Verdict{Kind: fmt.Sprintf("verdict %d", code)}
	case int(code) == next:
		return nil
	case flags&isGoto != 0:
		return &Verdict{Kind: "goto", Chain: t.names[int(code)]}
	}
	return &Verdict{Kind: "jump", Chain: t.names[int(code)]}
}

// extensions are the matches of an entry.
func (t *legacyReader) extensions(entry []byte, r *Rule) error {
	end := int(binary.NativeEndian.Uint16(entry[t.targetAt:]))
	for at := t.entryLen; at < end; {
		m := entry[at:end]
		if len(m) < matchHead {
			return errors.New("a match is cut off")
		}
		n := int(binary.NativeEndian.Uint16(m))
		if n < matchHead || n > len(m) {
			return errors.New("a match with an impossible length")
		}
		x := XTMatch{cstring(m[2:31]), int(m[31]), m[matchHead:n]}
		if x.Name == "comment" {
			r.Comment = cstring(x.Info)
		}
		r.Exprs = append(r.Exprs, x)
		at += n
	}
	return nil
}

// matches says the fixed part of an entry, struct ipt_ip or ip6t_ip6, in nftables'
// terms: addresses and their masks, names of links and their masks, and the protocol.
func (g *engine) matches(e []byte) (list []Expr) {
	const viaIn, viaOut, srcIP, dstIP, fragment, proto, to = 1, 2, 8, 16, 0x20, 0x40, Register(16)
	flags, not := e[g.flagsAt], e[g.flagsAt+1]
	op := func(bit byte) string {
		if not&bit != 0 {
			return "!="
		}
		return "=="
	}
	n := g.addrLen
	addr := func(offset int, addr, mask []byte, bit byte) {
		if len(bytes.Trim(mask, "\x00")) > 0 || not&bit != 0 {
			list = append(list, Payload{"network", offset, n, to}, Bitwise{to, to, mask, make([]byte, n)}, Cmp{op(bit), to, addr})
		}
	}
	addr(g.srcAt, e[:n], e[2*n:3*n], srcIP)
	addr(g.dstAt, e[n:2*n], e[3*n:4*n], dstIP)
	link := func(key string, name, mask []byte, bit byte) {
		if n := len(bytes.TrimRight(mask, "\x00")); n > 0 {
			list = append(list, Meta{key, to}, Cmp{op(bit), to, name[:n]})
		}
	}
	names := e[4*n:]
	link("iifname", names[:16], names[32:48], viaIn)
	link("oifname", names[16:32], names[48:64], viaOut)
	if p := binary.NativeEndian.Uint16(e[g.protoAt:]); p != 0 {
		list = append(list, Meta{"l4proto", to}, Cmp{op(proto), to, []byte{byte(p)}})
	}
	if g.family == Legacy && flags&1 != 0 { // a fragment but the first, or none
		differs := map[string]string{"==": "!=", "!=": "=="}[op(fragment)]
		list = append(list, Payload{"network", 6, 2, to}, Bitwise{to, to, []byte{0x1f, 0xff}, []byte{0, 0}}, Cmp{differs, to, []byte{0, 0}})
	}
	return list
}
