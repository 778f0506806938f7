package ruleset

import (
	"encoding/binary"
	"testing"
)

// entry makes an entry of iptables' own engine with a standard target.
func entry(verdict int32, matches ...byte) []byte {
	e := make([]byte, entryLen)
	e = append(e, matches...)
	binary.NativeEndian.PutUint16(e[88:], uint16(len(e)))
	t := make([]byte, matchHead+8)
	binary.NativeEndian.PutUint16(t, uint16(len(t)))
	binary.NativeEndian.PutUint32(t[matchHead:], uint32(verdict))
	e = append(e, t...)
	binary.NativeEndian.PutUint16(e[90:], uint16(len(e)))
	return e
}

func TestLegacyChain(t *testing.T) {
	one := entry(0) // a jump to the beginning, which is no chain's
	r := legacyReader{name: "filter", valid: 1 << 2, b: append(append(entry(-1), one...), entry(-2)...)}
	r.policy[2] = 2 * len(one)
	chains, err := r.chains()
	if err != nil || len(chains) != 1 {
		t.Fatal(chains, err)
	}
	c := chains[0]
	if c.String() != "iptables-legacy filter FORWARD" || c.Hook != "forward" || c.Drops || len(c.Rules) != 2 || c.Rules[0].Exprs[0] != (Verdict{Kind: "drop"}) || c.Rules[1].Handle != 2 {
		t.Errorf("%+v", c)
	}
}

// FuzzLegacy: a table of whatever bytes is read or refused.
func FuzzLegacy(f *testing.F) {
	f.Add(append(entry(-1), entry(-2)...), 2, 0, 152)
	f.Add(entry(-5, make([]byte, 40)...), 0, 0, 0)
	f.Fuzz(func(t *testing.T, b []byte, hook, first, policy int) {
		r := legacyReader{name: "nat", valid: 1 << (uint(hook) % hooks), b: b}
		r.first[uint(hook)%hooks], r.policy[uint(hook)%hooks] = first, policy
		r.chains()
	})
}

// FuzzDecode: so is an answer of netlink of whatever bytes.
func FuzzDecode(f *testing.F) {
	f.Add("cmp", []byte{8, 0, 1, 0, 0, 0, 0, 8})
	f.Add("immediate", []byte{20, 0, 2, 128, 16, 0, 2, 128, 8, 0, 1, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		decode(name, parse(b))
		element(parse(b))
		fields(parse(b))
		devices(parse(b))
		comment(b)
	})
}
