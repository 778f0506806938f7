package ipam

import (
	"errors"
	"net/netip"
	"testing"
)

func prefixes(s ...string) (p []netip.Prefix) {
	for _, x := range s {
		p = append(p, netip.MustParsePrefix(x))
	}
	return p
}

func TestTakeGivesLowestFreeAddress(t *testing.T) {
	p := New(netip.MustParsePrefix("10.0.0.0/29"))
	if err := p.Claim(netip.MustParseAddr("10.0.0.1")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"} {
		if a, err := p.Take(); err != nil || a.String() != want {
			t.Fatalf("got %s, %v; want %s", a, err, want)
		}
	}
	if _, err := p.Take(); !errors.Is(err, ErrExhausted) {
		t.Fatalf("the broadcast address was handed out: %v", err)
	}
	p.Release(netip.MustParseAddr("10.0.0.4"))
	p.Release(netip.MustParseAddr("10.0.0.4"))
	if a, _ := p.Take(); a.String() != "10.0.0.4" {
		t.Fatal(a)
	}
}

func TestClaim(t *testing.T) {
	p := New(netip.MustParsePrefix("10.0.0.0/24"))
	for addr, ok := range map[string]bool{"10.0.0.9": true, "10.0.0.0": false, "10.0.0.255": false, "10.0.1.1": false, "fe80::1": false} {
		if err := p.Claim(netip.MustParseAddr(addr)); (err == nil) != ok {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if err := p.Claim(netip.MustParseAddr("10.0.0.9")); !errors.Is(err, ErrInUse) {
		t.Error(err)
	}
}

func TestChooseAvoidsRoutesOfTheHost(t *testing.T) {
	for _, c := range []struct {
		inUse []netip.Prefix
		want  string
	}{
		{nil, "172.17.0.0/16"},
		{prefixes("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1"), "172.17.0.0/16"},
		{prefixes("172.17.3.0/24"), "172.18.0.0/16"},
		{prefixes("172.16.0.0/13"), "172.24.0.0/16"},
		{prefixes("172.16.0.0/12", "192.168.0.0/24"), "192.168.16.0/20"},
	} {
		if s, err := Choose(DefaultRanges(), c.inUse); err != nil || s.String() != c.want {
			t.Errorf("%v: got %s, %v; want %s", c.inUse, s, err, c.want)
		}
	}
	if _, err := Choose(DefaultRanges(), prefixes("172.16.0.0/12", "192.168.0.0/16", "10.0.0.0/8")); !errors.Is(err, errNoSubnet) {
		t.Error(err)
	}
}

func TestIPv6(t *testing.T) {
	p := New(netip.MustParsePrefix("fd00::/64"))
	for _, want := range []string{"fd00::1", "fd00::2"} {
		if a, err := p.Take(); err != nil || a.String() != want {
			t.Errorf("got %s, %v; want %s", a, err, want)
		}
	}
	for addr, ok := range map[string]bool{"fd00::": false, "fd00::ffff:ffff:ffff:ffff": true, "fd00::8000:0:0:0": true, "fd00:0:0:1::1": false, "10.0.0.1": false} {
		if err := p.Claim(netip.MustParseAddr(addr)); (err == nil) != ok {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if err := p.Claim(netip.MustParseAddr("fd00::8000:0:0:0")); !errors.Is(err, ErrInUse) {
		t.Error(err)
	}
	end := NewRange(netip.MustParsePrefix("::/0"), netip.MustParsePrefix("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff80/121"))
	for range 128 {
		if _, err := end.Take(); err != nil {
			t.Fatal(err)
		}
	}
	if a, err := end.Take(); !errors.Is(err, errExhausted6) {
		t.Error(a, err)
	}
	wide := NewRange(netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("fd00:1::/48"))
	if a, err := wide.Take(); err != nil || a.String() != "fd00:1::" {
		t.Error(a, err)
	}
}

func TestUniqueLocal(t *testing.T) {
	r := UniqueLocal("one")
	first, err := Choose(r, nil)
	if err != nil || first.Bits() != 64 || !netip.MustParsePrefix("fd00::/8").Contains(first.Addr()) || first.Addr().As16()[7] != 0 {
		t.Fatal(first, err)
	}
	second, err := Choose(r, []netip.Prefix{first, netip.MustParsePrefix("::/0")})
	if err != nil || second.Addr() != lastOf(first).plus(1).addr() {
		t.Error(second, err)
	}
	if other, _ := Choose(UniqueLocal("two"), nil); other == first {
		t.Error("two engines have the same addresses")
	}
}

func TestRange(t *testing.T) {
	p := NewRange(netip.MustParsePrefix("10.0.0.0/16"), netip.MustParsePrefix("10.0.3.190/26"))
	for _, taken := range []string{"10.0.3.128", "10.0.3.130"} {
		if err := p.Claim(netip.MustParseAddr(taken)); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for {
		a, err := p.Take()
		if errors.Is(err, ErrExhausted) {
			break
		}
		got = append(got, a.String())
	}
	if len(got) != 62 || got[0] != "10.0.3.129" || got[1] != "10.0.3.131" || got[61] != "10.0.3.191" {
		t.Error(got)
	}
	if err := p.Claim(netip.MustParseAddr("10.0.255.254")); err != nil {
		t.Error("outside of the range:", err)
	}
	// A small part of a subnet of all addresses takes no memory for the rest.
	wide := NewRange(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("224.0.0.0/30"))
	if a, err := wide.Take(); err != nil || a.String() != "224.0.0.0" {
		t.Error(a, err)
	}
	for _, small := range []string{"10.0.0.0/31", "10.0.0.0/32"} {
		if a, err := New(netip.MustParsePrefix(small)).Take(); err != nil || a.String() != "10.0.0.0" {
			t.Error(small, a, err)
		}
	}
}

func TestStatus(t *testing.T) {
	for _, c := range []struct {
		subnet, part     string
		claim            []string
		inUse, available uint64
	}{
		{"172.16.0.0/16", "", []string{"172.16.0.1"}, 3, 65533},
		{"2001:db8::/96", "", []string{"2001:db8::1"}, 2, 1<<32 - 2},
		{"10.0.0.0/24", "10.0.0.128/25", []string{"10.0.0.1", "10.0.0.129"}, 4, 126},
		{"fd00::/64", "", []string{"fd00::1"}, 2, 1<<64 - 2},
		{"fd00::/8", "", []string{"fd00::1"}, 2, 1<<64 - 1},
	} {
		p := New(netip.MustParsePrefix(c.subnet))
		if c.part != "" {
			p = NewRange(p.Subnet(), netip.MustParsePrefix(c.part))
		}
		for _, a := range c.claim {
			if err := p.Claim(netip.MustParseAddr(a)); err != nil {
				t.Fatal(err)
			}
		}
		if inUse, available := p.Status(); inUse != c.inUse || available != c.available {
			t.Errorf("%s: %d in use, %d available; want %d, %d", c.subnet, inUse, available, c.inUse, c.available)
		}
	}
}

func TestChooseOfAWideRange(t *testing.T) {
	r := []Range{{netip.MustParsePrefix("fd00::/8"), 80}}
	if s, err := Choose(r, prefixes("fd00::/80")); err != nil || s.String() != "fd00::1:0:0:0/80" {
		t.Error(s, err)
	}
}
