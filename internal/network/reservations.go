package network

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/hostport"
	"github.com/tare-engine/tare/internal/linux/sysctl"
)

// reservations are the host's ports that containers have. Each is a socket that
// keeps other programs off.
type reservations struct {
	mu      sync.Mutex
	held    map[hostPort]reservation
	numbers map[number][]netip.Addr      // the addresses of held
	of      map[string]map[hostPort]bool // those of held by container
	last    map[string]uint16            // chosen last, by protocol
}

// number is a port of all addresses.
type number struct {
	proto string
	port  uint16
}

type hostPort struct {
	proto string
	addr  netip.AddrPort
}

type reservation struct {
	container string
	file      *os.File
	both      bool // the file is that of the same port of the other family as well
	parked    bool // not published now, and kept for the container
	again     bool // was parked before
}

func newReservations() *reservations {
	return &reservations{held: map[hostPort]reservation{}, numbers: map[number][]netip.Addr{}, of: map[string]map[hostPort]bool{}, last: map[string]uint16{}}
}

func (p Port) key() hostPort { return hostPort{p.Proto, netip.AddrPortFrom(p.HostIP, p.Host)} }

// take reserves a port, or one of a range, or any, the same on all the addresses.
func (r *reservations) take(container string, p Port, at []netip.Addr) ([]Port, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.Host == 0 {
		return r.takeAny(container, p, at)
	}
	var first error
	for end := max(p.Host, p.HostEnd); ; p.Host++ {
		got, err := r.takeAll(container, p, at)
		if err == nil {
			return got, nil
		}
		if first == nil {
			first = err
		}
		if p.Host == end {
			return nil, first
		}
	}
}

// takeAll reserves exactly one port on all the addresses, or on none.
//
// Preconditions: r.mu is held.
func (r *reservations) takeAll(container string, p Port, at []netip.Addr) (got []Port, err error) {
	p.HostEnd = 0
	both := slices.Contains(at, unspecified(v4)) && slices.Contains(at, unspecified(v6))
	for _, p.HostIP = range at {
		if err := r.takeOne(container, p, both); err != nil {
			for _, p := range got {
				err = errors.Join(err, r.untake(p))
			}
			return nil, err
		}
		got = append(got, p)
	}
	return got, nil
}

// takeOne reserves exactly one port; with both the same of the other family is to come, by
// the same socket.
//
// Preconditions: r.mu is held.
func (r *reservations) takeOne(container string, p Port, both bool) error {
	if h, ok := r.held[p.key()]; ok && h.container == container && h.parked {
		h.parked, h.again = false, true
		r.held[p.key()] = h
		return nil
	}
	if r.taken(p) {
		return fmt.Errorf("Bind for %s failed: %w", p.key().addr, errAllocated)
	}
	other, held := r.held[p.key().other()]
	switch {
	case held && other.container == container && other.both && p.HostIP.IsUnspecified():
		r.hold(p.key(), reservation{container: container, file: other.file, both: true})
		return nil
	case held:
		both = false
	}
	reserve := func() (*os.File, error) { return hostport.Reserve(p.Proto, p.key().addr) }
	if both {
		reserve = func() (*os.File, error) { return hostport.ReserveBoth(p.Proto, p.Host) }
	}
	f, err := reserve()
	if err != nil {
		return bindError(p, err)
	}
	r.hold(p.key(), reservation{container: container, file: f, both: both})
	return nil
}

// other is the same port of all addresses of the other family.
func (k hostPort) other() hostPort {
	return hostPort{k.proto, netip.AddrPortFrom(unspecified(opposite(familyOf(k.addr.Addr()))), k.addr.Port())}
}

// closeUnheld closes the socket of a reservation that is gone, unless it is of another too.
//
// Preconditions: r.mu is held.
func (r *reservations) closeUnheld(k hostPort, h reservation) error {
	if h.file == nil || h.both && r.held[k.other()].file == h.file {
		return nil
	}
	return h.file.Close()
}

// hold books a port.
//
// Preconditions: r.mu is held.
func (r *reservations) hold(k hostPort, h reservation) {
	if _, ok := r.held[k]; !ok {
		n := number{k.proto, k.addr.Port()}
		r.numbers[n] = append(r.numbers[n], k.addr.Addr())
	}
	r.unlist(k)
	if r.of[h.container] == nil {
		r.of[h.container] = map[hostPort]bool{}
	}
	r.of[h.container][k] = true
	r.held[k] = h
}

// unhold undoes hold.
//
// Preconditions: r.mu is held.
func (r *reservations) unhold(k hostPort) {
	n := number{k.proto, k.addr.Port()}
	rest := slices.DeleteFunc(r.numbers[n], func(a netip.Addr) bool { return a == k.addr.Addr() })
	if r.numbers[n] = rest; len(rest) == 0 {
		delete(r.numbers, n)
	}
	r.unlist(k)
	delete(r.held, k)
}

// unlist takes a port out of the list of the container that has it.
//
// Preconditions: r.mu is held.
func (r *reservations) unlist(k hostPort) {
	container := r.held[k].container
	delete(r.of[container], k)
	if len(r.of[container]) == 0 {
		delete(r.of, container)
	}
}

// errAllocated says that a container has the port.
var errAllocated = errors.New("port is already allocated")

// taken reports whether a container has the port on an address that overlaps:
// the unspecified address is all of its family.
func (r *reservations) taken(p Port) bool {
	return slices.ContainsFunc(r.numbers[number{p.Proto, p.Host}], func(a netip.Addr) bool {
		return a.Is4() == p.HostIP.Is4() && (a == p.HostIP || a.IsUnspecified() || p.HostIP.IsUnspecified())
	})
}

// takeAny reserves the next free port of the kernel's range for clients, as
// Docker does.
//
// Preconditions: r.mu is held.
func (r *reservations) takeAny(container string, p Port, at []netip.Addr) ([]Port, error) {
	begin, end := clientPorts()
	p.Host = r.last[p.Proto]
	for range int(end) - int(begin) + 1 {
		p.Host++
		if p.Host < begin || p.Host > end {
			p.Host = begin
		}
		got, err := r.takeAll(container, p, at)
		if err == nil {
			r.last[p.Proto] = p.Host
			return got, nil
		}
		if !errors.Is(err, errAllocated) && !errors.Is(err, syscall.EADDRINUSE) {
			return nil, err // no other port will do either
		}
	}
	return nil, errors.New("all ports are allocated")
}

// clientPorts is the range from which the kernel chooses ports for clients.
func clientPorts() (begin, end uint16) {
	s, err := sysctl.Read("net/ipv4/ip_local_port_range")
	if err == nil {
		if _, err = fmt.Sscan(strings.TrimSpace(s), &begin, &end); err == nil && begin <= end {
			return begin, end
		}
	}
	return 49153, 65535 // what IANA leaves for it, and Docker's fall-back
}

// adopt books a port that a container has already, with the socket that was
// kept for it, or else with a new one. The port is booked even if another
// program has it meanwhile: packets reach the container all the same.
func (r *reservations) adopt(container string, p Port, kept *os.File) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var err error
	if kept == nil {
		if kept, err = hostport.Reserve(p.Proto, p.key().addr); err != nil {
			err = bindError(p, err)
		}
	}
	r.hold(p.key(), reservation{container: container, file: kept, both: kept != nil && hostport.Both(kept)})
	return err
}

// closeUnused closes a socket that was kept for a port which nobody has, unless it is that
// of the other family's.
func (r *reservations) closeUnused(k hostPort, f *os.File) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held[k.other()].file != f {
		f.Close()
	}
}

// giveBack undoes take: what had been parked is again.
func (r *reservations) giveBack(p Port) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.untake(p)
}

// untake is giveBack.
//
// Preconditions: r.mu is held.
func (r *reservations) untake(p Port) error {
	if h := r.held[p.key()]; h.again {
		h.parked = true
		r.held[p.key()] = h
		return nil
	}
	return r.drop(p)
}

// drop gives a port back; it may be free.
//
// Preconditions: r.mu is held.
func (r *reservations) drop(p Port) error {
	h, ok := r.held[p.key()]
	r.unhold(p.key())
	if !ok {
		return nil
	}
	return r.closeUnheld(p.key(), h)
}

// park keeps a port for its container while it is not published.
func (r *reservations) park(p Port) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h, ok := r.held[p.key()]; ok {
		h.parked = true
		r.held[p.key()] = h
	}
}

// releaseAll gives all ports of a container back.
func (r *reservations) releaseAll(container string) error {
	return r.releaseIf(container, func(reservation) bool { return true })
}

// releaseParked gives those back that are not published.
func (r *reservations) releaseParked(container string) error {
	return r.releaseIf(container, func(h reservation) bool { return h.parked })
}

func (r *reservations) releaseIf(container string, match func(reservation) bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for k := range r.of[container] {
		h := r.held[k]
		if !match(h) {
			continue
		}
		r.unhold(k)
		errs = append(errs, r.closeUnheld(k, h))
	}
	return errors.Join(errs...)
}

// socket is that of a reserved port; nil if there is none.
func (r *reservations) socket(p Port) *os.File {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held[p.key()].file
}

func (r *reservations) files(container string) []*os.File {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*os.File
	for k := range r.of[container] {
		h := r.held[k]
		twice := h.both && k.addr.Addr().Is4() && r.held[k.other()].file == h.file
		if h.file != nil && !twice {
			all = append(all, h.file)
		}
	}
	return all
}

func (r *reservations) close() error {
	r.mu.Lock()
	containers := slices.Collect(maps.Keys(r.of))
	r.mu.Unlock()
	var errs []error
	for _, container := range containers {
		errs = append(errs, r.releaseAll(container))
	}
	return errors.Join(errs...)
}

// bindError is what Docker says of a port that the kernel refused. SCTP is something
// that kernels may be without.
func bindError(p Port, err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		err = no
	}
	err = fmt.Errorf("failed to bind host port %s/%s: %w", p.key().addr, p.Proto, err)
	if no == syscall.EPROTONOSUPPORT || no == syscall.ESOCKTNOSUPPORT {
		return errdefs.New(errdefs.NotImplemented, "%w: this kernel has no %s", err, strings.ToUpper(p.Proto))
	}
	return err
}
