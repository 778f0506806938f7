package ruleset

import (
	"encoding/binary"
	"testing"
)

// entry makes an entry of an engine with a standard target.
func (g *engine) entry(verdict int32, matches ...byte) []byte {
	e := make([]byte, g.entryLen)
	e = append(e, matches...)
	binary.NativeEndian.PutUint16(e[g.targetAt:], uint16(len(e)))
	t := make([]byte, matchHead+8)
	binary.NativeEndian.PutUint16(t, uint16(len(t)))
	binary.NativeEndian.PutUint32(t[matchHead:], uint32(verdict))
	e = append(e, t...)
	binary.NativeEndian.PutUint16(e[g.targetAt+2:], uint16(len(e)))
	return e
}

func TestLegacyChain(t *testing.T) {
	for i := range engines {
		g := &engines[i]
		one := g.entry(0) // a jump to the beginning, which is no chain's
		r := legacyReader{engine: g, name: "filter", valid: 1 << 2, b: append(append(g.entry(-1), one...), g.entry(-2)...)}
		r.policy[2] = 2 * len(one)
		chains, err := r.chains()
		if err != nil || len(chains) != 1 {
			t.Fatal(chains, err)
		}
		c := chains[0]
		if c.String() != g.family+" filter FORWARD" || c.Hook != "forward" || c.Drops || len(c.Rules) != 2 || c.Rules[0].Exprs[0] != (Verdict{Kind: "drop"}) || c.Rules[1].Handle != 2 {
			t.Errorf("%+v", c)
		}
	}
}

// FuzzLegacy: a table of whatever bytes is read or refused.
func FuzzLegacy(f *testing.F) {
	four, six := &engines[0], &engines[1]
	f.Add(append(four.entry(-1), four.entry(-2)...), 2, 0, 152, false)
	f.Add(four.entry(-5, make([]byte, 40)...), 0, 0, 0, false)
	f.Add(append(six.entry(-1), six.entry(-2)...), 2, 0, 208, true)
	f.Fuzz(func(t *testing.T, b []byte, hook, first, policy int, isSix bool) {
		r := legacyReader{engine: four, name: "nat", valid: 1 << (uint(hook) % hooks), b: b}
		if isSix {
			r.engine = six
		}
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
