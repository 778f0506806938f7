package firewall

import (
	"net/netip"
	"testing"
)

func newFirewall() *Firewall {
	return &Firewall{cfg: Config{Table: "t"}, bound: map[Binding]struct{}{}, bridges: map[int]bool{}}
}

func TestTableHoldsElementsNotRules(t *testing.T) {
	f := newFirewall()
	f.state.Networks = []Network{{Name: "br0", Link: "br0", Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64")}, Beside: []string{"v1", "v2"}}}
	count := func() (rules, elements int) {
		tab, err := f.table()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range tab.Chains {
			rules += len(c.Rules)
		}
		for _, s := range tab.Sets {
			elements += len(s.Elements)
		}
		return rules, elements
	}
	rules, elements := count()
	for i := range 100 {
		a := netip.IPv4Unspecified()
		if i%2 == 0 {
			a = netip.MustParseAddr("192.0.2.1")
		}
		f.bound[Binding{"tcp", netip.AddrPortFrom(a, uint16(i+1)), netip.MustParseAddrPort("10.0.0.2:80")}] = struct{}{}
	}
	more, all := count()
	if more != rules || all != elements+100 {
		t.Errorf("%d rules became %d, %d elements %d", rules, more, elements, all)
	}
}

// TestOverlappingSubnetsHaveOneElement: the kernel refuses a table with two.
func TestOverlappingSubnetsHaveOneElement(t *testing.T) {
	f := newFirewall()
	for _, p := range []string{"10.0.0.0/16", "10.0.1.0/24", "10.1.0.0/24"} {
		f.state.Networks = append(f.state.Networks, Network{Name: p, Link: p, Subnets: []netip.Prefix{netip.MustParsePrefix(p)}})
	}
	tab, err := f.table()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range tab.Sets {
		if s.Name == "sources" && len(s.Elements) != 4 { // beginning and end of two
			t.Errorf("%d", len(s.Elements))
		}
	}
}

func FuzzRules(f *testing.F) {
	f.Add("tcp", []byte{192, 0, 2, 1}, uint16(80), []byte{10, 0, 0, 2}, uint16(8080), "br0")
	f.Add("sctp", []byte{0, 0, 0, 0}, uint16(0), make([]byte, 16), uint16(1), "\x00")
	f.Fuzz(func(t *testing.T, proto string, from []byte, fp uint16, to []byte, tp uint16, link string) {
		a, ok1 := netip.AddrFromSlice(from)
		b, ok2 := netip.AddrFromSlice(to)
		if !ok1 || !ok2 {
			return
		}
		w := newFirewall()
		w.state.Networks = []Network{{Name: link, Link: link, Subnets: []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 8)}}}
		w.bound[Binding{proto, netip.AddrPortFrom(a, fp), netip.AddrPortFrom(b, tp)}] = struct{}{}
		_, err := w.table()
		valid := (proto == "tcp" || proto == "udp" || proto == "sctp") && a.Is4() == b.Is4()
		if (err == nil) != valid {
			t.Errorf("%s %s %s: %v", proto, a, b, err)
		}
	})
}
