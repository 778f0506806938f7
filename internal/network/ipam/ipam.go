// Package ipam hands out addresses: subnets to networks, and the addresses of a
// subnet to endpoints.
//
// Nothing is kept on disk. Which addresses are in use follows from the live
// endpoints, and is claimed again from their records when the engine starts.
package ipam

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"sync"
)

// ErrInUse says that an address is somebody else's.
//
//lint:ignore ST1005 Docker's text
var ErrInUse = errors.New("Address already in use")

// ErrExhausted says that a subnet has no free address.
var ErrExhausted = errors.New("no available IPv4 addresses on this network's address pools")

// Pool hands out the addresses of one IPv4 subnet, the lowest free one first.
type Pool struct {
	subnet netip.Prefix
	first  uint64 // offsets of what Take hands out
	last   uint64

	mu   sync.Mutex
	used map[uint64]uint64 // bitmap of offsets in the subnet: word by number
}

// New returns a pool without the subnet's own and its broadcast address.
func New(subnet netip.Prefix) *Pool {
	p := &Pool{subnet: subnet.Masked(), used: map[uint64]uint64{}}
	p.last = p.size() - 1
	if subnet.Bits() < 31 {
		p.first = 1
	}
	return p
}

// NewRange returns a pool that hands out the addresses of a part of the subnet
// only; others can be claimed. The part must be in the subnet.
func NewRange(subnet, part netip.Prefix) *Pool {
	p := New(subnet)
	base := binary.BigEndian.Uint32(ip4(part.Masked().Addr())) - binary.BigEndian.Uint32(ip4(p.subnet.Addr()))
	p.first = max(p.first, uint64(base))
	p.last = min(p.last, uint64(base)+1<<(32-part.Bits())-1)
	return p
}

func ip4(a netip.Addr) []byte {
	b := a.As4()
	return b[:]
}

// Subnet returns the prefix of which the pool hands out addresses.
func (p *Pool) Subnet() netip.Prefix { return p.subnet }

// size is the number of offsets up to the last that is usable: the broadcast
// address is not.
func (p *Pool) size() uint64 {
	n := uint64(1) << (32 - p.subnet.Bits())
	if p.subnet.Bits() < 31 {
		n--
	}
	return n
}

// Take returns the lowest free address and marks it used.
func (p *Pool) Take() (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for offset := p.first; offset <= p.last; {
		word := p.used[offset/64] >> (offset % 64)
		if free := uint64(bits.TrailingZeros64(^word)); free < 64-offset%64 {
			if offset += free; offset > p.last {
				break
			}
			p.set(offset)
			return p.at(offset), nil
		}
		offset = (offset/64 + 1) * 64
	}
	return netip.Addr{}, ErrExhausted
}

// Claim marks one address as used.
func (p *Pool) Claim(a netip.Addr) error {
	offset, err := p.offset(a)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isSet(offset) {
		return ErrInUse
	}
	p.set(offset)
	return nil
}

// Release gives an address back; it may be free already.
func (p *Pool) Release(a netip.Addr) {
	offset, err := p.offset(a)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used[offset/64] &^= 1 << (offset % 64); p.used[offset/64] == 0 {
		delete(p.used, offset/64)
	}
}

func (p *Pool) isSet(offset uint64) bool { return p.used[offset/64]&(1<<(offset%64)) != 0 }

func (p *Pool) set(offset uint64) { p.used[offset/64] |= 1 << (offset % 64) }

func (p *Pool) at(offset uint64) netip.Addr {
	b := ip4(p.subnet.Addr())
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(b)+uint32(offset))))
}

func (p *Pool) offset(a netip.Addr) (uint64, error) {
	if !a.Is4() || !p.subnet.Contains(a) {
		return 0, fmt.Errorf("no configured subnet contains IP address %s", a)
	}
	x, base := a.As4(), p.subnet.Addr().As4()
	n := uint64(binary.BigEndian.Uint32(x[:]) - binary.BigEndian.Uint32(base[:]))
	if n >= p.size() || n == 0 && p.subnet.Bits() < 31 {
		return 0, fmt.Errorf("IP address %s is not usable in %s", a, p.subnet)
	}
	return n, nil
}
