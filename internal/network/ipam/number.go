package ipam

import (
	"encoding/binary"
	"math"
	"net/netip"
)

// number is an address as a number of 128 bits; one of IPv4 is mapped into IPv6.
type number struct{ high, low uint64 }

func numberOf(a netip.Addr) number {
	b := a.As16()
	return number{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (n number) addr() netip.Addr {
	b := binary.BigEndian.AppendUint64(nil, n.high)
	return netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(b, n.low)))
}

func (n number) less(m number) bool { return n.high < m.high || n.high == m.high && n.low < m.low }

// plus wraps around behind the last number.
func (n number) plus(k uint64) number {
	sum := number{n.high, n.low + k}
	if sum.low < n.low {
		sum.high++
	}
	return sum
}

func (n number) minusOne() number {
	if n.low == 0 {
		n.high--
	}
	n.low--
	return n
}

// word is the number of the first bit of a word of a bitmap, and the bit in it.
func (n number) word() (first number, bit uint64) {
	return number{n.high, n.low &^ 63}, n.low & 63
}

// shift is k times two to the power of by.
func shift(k uint64, by int) number {
	switch {
	case by >= 128:
		return number{}
	case by >= 64:
		return number{high: k << (by - 64)}
	}
	return number{high: k >> (64 - by), low: k << by}
}

// and adds another number.
func (n number) and(m number) number {
	sum := n.plus(m.low)
	sum.high += m.high
	return sum
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) number {
	n, size := numberOf(p.Masked().Addr()), p.Addr().BitLen()-p.Bits()
	if size == 128 {
		return number{^uint64(0), ^uint64(0)}
	}
	return n.and(shift(1, size)).minusOne()
}

// from is the distance from a lower number; one that does not fit is the largest that does.
func (n number) from(m number) uint64 {
	if n.high-m.high > 1 || n.high > m.high && n.low >= m.low {
		return math.MaxUint64
	}
	return n.low - m.low
}
