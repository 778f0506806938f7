package ipam

import (
	"crypto/sha256"
	"errors"
	"net/netip"
)

// Range is a piece of address space that is cut into subnets of one size.
type Range struct {
	Base netip.Prefix
	Size int // prefix length of each subnet
}

// DefaultRanges is where networks without a subnet of their own get one:
// Docker's ranges in Docker's order, which are 31 networks, and then small ones
// of a range that hosts use seldom.
func DefaultRanges() []Range {
	return []Range{
		{netip.MustParsePrefix("172.17.0.0/16"), 16},
		{netip.MustParsePrefix("172.18.0.0/16"), 16},
		{netip.MustParsePrefix("172.19.0.0/16"), 16},
		{netip.MustParsePrefix("172.20.0.0/14"), 16},
		{netip.MustParsePrefix("172.24.0.0/14"), 16},
		{netip.MustParsePrefix("172.28.0.0/14"), 16},
		{netip.MustParsePrefix("192.168.0.0/16"), 20},
		{netip.MustParsePrefix("10.192.0.0/10"), 24},
	}
}

// UniqueLocal is where IPv6 subnets come from that nobody has named, as with Docker:
// the /64 of one prefix of unique local addresses (RFC 4193), whose 40 bits that are to
// be random follow from what makes an engine different from others.
func UniqueLocal(engine string) []Range {
	sum := sha256.Sum256([]byte(engine))
	var a [16]byte
	a[0] = 0xfd
	copy(a[1:], sum[3:8])
	return []Range{{netip.PrefixFrom(netip.AddrFrom16(a), 48), 64}}
}

// most is the power of two of the subnets of a range that are tried: more than are ever
// in use.
const most = 31

// vpnBits is the longest prefix that is taken for a default route in disguise:
// VPNs route 0.0.0.0/1 and 128.0.0.0/1, which says nothing about what is in use.
const vpnBits = 7

// errNoSubnet says that every subnet overlaps with a route of the host.
var errNoSubnet = errors.New("all predefined address pools have been fully subnetted")

// Choose returns the first subnet of the ranges that overlaps with none of the
// prefixes in use.
func Choose(ranges []Range, inUse []netip.Prefix) (netip.Prefix, error) {
	for _, r := range ranges {
		taken, wide := within(r, inUse)
		for i := range 1 << min(r.Size-r.Base.Bits(), most) {
			s := nth(r, uint64(i))
			if !taken[s] && !Overlaps(s, wide) {
				return s, nil
			}
		}
	}
	return netip.Prefix{}, errNoSubnet
}

// within sorts prefixes in use by whether they lie in one subnet of a range, of which
// there may be hundreds, or are wider.
func within(r Range, inUse []netip.Prefix) (taken map[netip.Prefix]bool, wide []netip.Prefix) {
	taken = map[netip.Prefix]bool{}
	for _, p := range inUse {
		if p.Bits() < r.Size {
			wide = append(wide, p)
		} else if s, err := p.Addr().Prefix(r.Size); err == nil && p.Bits() > vpnBits {
			taken[s] = true
		}
	}
	return taken, wide
}

// Overlaps reports whether s has addresses in common with a prefix in use.
func Overlaps(s netip.Prefix, inUse []netip.Prefix) bool {
	for _, p := range inUse {
		if p.Bits() > vpnBits && p.Overlaps(s) {
			return true
		}
	}
	return false
}

// nth returns the i-th subnet of a range.
func nth(r Range, i uint64) netip.Prefix {
	base := r.Base.Masked().Addr()
	a := numberOf(base).and(shift(i, base.BitLen()-r.Size)).addr()
	if base.Is4() {
		a = a.Unmap()
	}
	return netip.PrefixFrom(a, r.Size)
}

// First returns the first host address of a subnet: its gateway.
func First(s netip.Prefix) netip.Addr { return s.Masked().Addr().Next() }
