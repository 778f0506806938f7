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

// Legacy is the family of tables of iptables' own engine, which is older than nftables
// and beside it. Their rules are read as well; a rule's handle is its number, as
// iptables-legacy -L --line-numbers shows it.
const Legacy = "iptables-legacy"

// legacy reads the tables of iptables' own engine that were ever used.
func legacy() ([]*Chain, error) {
	b, err := os.ReadFile("/proc/thread-self/net/ip_tables_names")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // the kernel is without
	}
	if err != nil {
		return nil, err
	}
	var all []*Chain
	for _, name := range strings.Fields(string(b)) {
		list, err := legacyTable(name)
		if err != nil {
			return nil, fmt.Errorf("table %s of iptables-legacy: %w", name, err)
		}
		all = append(all, list...)
	}
	return all, nil
}

// The hooks in the order of their numbers, and the sizes of linux/netfilter_ipv4/ip_tables.h
// for machines of 64 bits.
const (
	hooks        = 5
	nameLen      = 32
	infoLen      = nameLen + 4 + 4*hooks + 4*hooks + 4 + 4
	entriesHead  = 40
	entryLen     = 112
	matchHead    = 32
	getInfo      = 64 // IPT_SO_GET_INFO
	getEntries   = 65 // IPT_SO_GET_ENTRIES
	maxTableSize = 64 << 20
)

var legacyHooks = [hooks]string{"prerouting", "input", "forward", "output", "postrouting"}

// legacyTable reads one table.
func legacyTable(name string) ([]*Chain, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	info := make([]byte, infoLen)
	copy(info, name)
	if err := getsockopt(fd, getInfo, info); err != nil {
		return nil, err
	}
	t := legacyReader{name: name, valid: native(info[nameLen:])}
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
	if err := getsockopt(fd, getEntries, b); errors.Is(err, unix.EAGAIN) {
		return nil, errChanged
	} else if err != nil {
		return nil, err
	}
	t.b = b[entriesHead:]
	return t.chains()
}

func native(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }

func getsockopt(fd, option int, b []byte) error {
	n := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_IP, uintptr(option), uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return os.NewSyscallError("getsockopt", errno)
	}
	return nil
}

// legacyReader turns entries into chains. An entry's place is what others jump to.
type legacyReader struct {
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
		if len(rest) < entryLen {
			return errors.New("an entry is cut off")
		}
		target, next := int(binary.NativeEndian.Uint16(rest[88:])), int(binary.NativeEndian.Uint16(rest[90:]))
		if next < entryLen+matchHead || next > len(rest) || target < entryLen || target > next-matchHead {
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
func target(entry []byte) (name string, revision int, data []byte) {
	t := entry[binary.NativeEndian.Uint16(entry[88:]):]
	return cstring(t[2:31]), int(t[31]), t[matchHead:]
}

// chains makes the chains with a hook of the table, and those of the user, which begin
// with an entry that bears their name.
func (t *legacyReader) chains() ([]*Chain, error) {
	t.names = map[int]string{}
	err := t.each(func(at int, entry []byte) error {
		if name, _, data := target(entry); name == "ERROR" {
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

func (t *legacyReader) table() Table { return Table{Legacy, t.name} }

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
	name, revision, data := target(entry)
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
	r := Rule{Handle: uint64(len(c.Rules) + 1), Exprs: legacyMatches(entry)}
	if err := t.extensions(entry, &r); err != nil {
		return err
	}
	if name != "" {
		r.Exprs = append(r.Exprs, XTTarget{name, revision, data})
	} else if v := t.verdict(int32(native(data)), at+len(entry), entry[82]); v != nil {
		r.Exprs = append(r.Exprs, *v)
	}
	c.Rules = append(c.Rules, r)
	return nil
}

// verdict is what a standard target says; nil if the next rule follows.
func (t *legacyReader) verdict(code int32, next int, flags byte) *Verdict {
	const isGoto = 2
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
	end := int(binary.NativeEndian.Uint16(entry[88:]))
	for at := entryLen; at < end; {
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

// legacyMatches says the fixed part of an entry, struct ipt_ip, in nftables' terms.
func legacyMatches(e []byte) (list []Expr) {
	const viaIn, viaOut, srcIP, dstIP, fragment, proto, to = 1, 2, 8, 16, 0x20, 0x40, Register(16)
	flags, not := e[82], e[83]
	op := func(bit byte) string {
		if not&bit != 0 {
			return "!="
		}
		return "=="
	}
	addr := func(offset int, addr, mask []byte, bit byte) {
		if len(bytes.Trim(mask, "\x00")) > 0 || not&bit != 0 {
			list = append(list, Payload{"network", offset, 4, to}, Bitwise{to, to, mask, make([]byte, 4)}, Cmp{op(bit), to, addr})
		}
	}
	addr(12, e[0:4], e[8:12], srcIP)
	addr(16, e[4:8], e[12:16], dstIP)
	link := func(key string, name, mask []byte, bit byte) {
		if n := len(bytes.TrimRight(mask, "\x00")); n > 0 {
			list = append(list, Meta{key, to}, Cmp{op(bit), to, name[:n]})
		}
	}
	link("iifname", e[16:32], e[48:64], viaIn)
	link("oifname", e[32:48], e[64:80], viaOut)
	if p := binary.NativeEndian.Uint16(e[80:]); p != 0 {
		list = append(list, Meta{"l4proto", to}, Cmp{op(proto), to, []byte{byte(p)}})
	}
	if flags&1 != 0 { // a fragment but the first, or none
		differs := map[string]string{"==": "!=", "!=": "=="}[op(fragment)]
		list = append(list, Payload{"network", 6, 2, to}, Bitwise{to, to, []byte{0x1f, 0xff}, []byte{0, 0}}, Cmp{differs, to, []byte{0, 0}})
	}
	return list
}
