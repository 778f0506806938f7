// Package ipam hands out addresses: subnets to networks, and the addresses of a
// subnet to endpoints.
//
// Nothing is kept on disk. Which addresses are in use follows from the live
// endpoints, and is claimed again from their records when the engine starts.
package ipam

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"sync"
)

// ErrInUse says that an address is somebody else's.
//
//lint:ignore ST1005 Docker's text
var ErrInUse = errors.New("Address already in use")

// ErrExhausted says that a subnet of IPv4 has no free address.
var ErrExhausted = errors.New("no available IPv4 addresses on this network's address pools")

// errExhausted6 is ErrExhausted of IPv6.
var errExhausted6 = errors.New("no available IPv6 addresses on this network's address pools")

// Pool hands out the addresses of one subnet, the lowest free one first.
type Pool struct {
	subnet netip.Prefix
	lowest number // that can be claimed, and the last
	end    number
	first  number // that Take hands out, and the last
	last   number

	mu   sync.Mutex
	used map[number]uint64 // bitmap of addresses: word by number of its first bit
}

// New returns a pool without the subnet's own address, which of IPv6 is that of any
// router (RFC 4291, section 2.6.1), and without the broadcast address of IPv4.
func New(subnet netip.Prefix) *Pool {
	subnet = subnet.Masked()
	p := &Pool{subnet: subnet, used: map[number]uint64{}, lowest: numberOf(subnet.Addr()), end: lastOf(subnet)}
	if subnet.Bits() < subnet.Addr().BitLen()-1 {
		p.lowest = p.lowest.plus(1)
		if subnet.Addr().Is4() {
			p.end = p.end.minusOne()
		}
	}
	p.first, p.last = p.lowest, p.end
	return p
}

// NewRange returns a pool that hands out the addresses of a part of the subnet
// only; others can be claimed. The part must be in the subnet.
func NewRange(subnet, part netip.Prefix) *Pool {
	p := New(subnet)
	if first := numberOf(part.Masked().Addr()); p.first.less(first) {
		p.first = first
	}
	if last := lastOf(part); last.less(p.last) {
		p.last = last
	}
	return p
}

// Subnet returns the prefix of which the pool hands out addresses.
func (p *Pool) Subnet() netip.Prefix { return p.subnet }

// Status says how many of the subnet's addresses are in use or nobody's to use, and how
// many Take can hand out. More than fit are the largest number.
func (p *Pool) Status() (inUse, available uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var taken, ofRange uint64
	for at, bitmap := range p.used {
		for ; bitmap != 0; bitmap &= bitmap - 1 {
			n := at.plus(uint64(bits.TrailingZeros64(bitmap)))
			taken++
			if !n.less(p.first) && !p.last.less(n) {
				ofRange++
			}
		}
	}
	reserved := p.lowest.from(numberOf(p.subnet.Addr())) + lastOf(p.subnet).from(p.end)
	if available = p.last.from(p.first); available < math.MaxUint64 {
		available += 1 - ofRange
	}
	return taken + reserved, available
}

// Take returns the lowest free address and marks it used.
func (p *Pool) Take() (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := p.first; !p.last.less(n); {
		at, bit := n.word()
		if free := uint64(bits.TrailingZeros64(^(p.used[at] >> bit))); free < 64-bit {
			if n = n.plus(free); p.last.less(n) {
				break
			}
			p.set(n)
			return p.addr(n), nil
		}
		next := at.plus(64)
		if next.less(at) { // behind the last address that there is
			break
		}
		n = next
	}
	if p.subnet.Addr().Is4() {
		return netip.Addr{}, ErrExhausted
	}
	return netip.Addr{}, errExhausted6
}

// Claim marks one address as used.
func (p *Pool) Claim(a netip.Addr) error {
	n, err := p.number(a)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at, bit := n.word()
	if p.used[at]&(1<<bit) != 0 {
		return ErrInUse
	}
	p.set(n)
	return nil
}

// Release gives an address back; it may be free already.
func (p *Pool) Release(a netip.Addr) {
	n, err := p.number(a)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at, bit := n.word()
	if p.used[at] &^= 1 << bit; p.used[at] == 0 {
		delete(p.used, at)
	}
}

func (p *Pool) set(n number) {
	at, bit := n.word()
	p.used[at] |= 1 << bit
}

func (p *Pool) addr(n number) netip.Addr {
	if p.subnet.Addr().Is4() {
		return n.addr().Unmap()
	}
	return n.addr()
}

func (p *Pool) number(a netip.Addr) (number, error) {
	if !p.subnet.Contains(a) {
		return number{}, fmt.Errorf("no configured subnet contains IP address %s", a)
	}
	n := numberOf(a)
	if n.less(p.lowest) || p.end.less(n) {
		return number{}, fmt.Errorf("IP address %s is not usable in %s", a, p.subnet)
	}
	return n, nil
}
