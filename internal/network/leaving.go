package network

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/tare-engine/tare/internal/network/bridge"
)

// leaving frees the addresses of endpoints that were released or disconnected.
//
// The kernel removes a link some time after the last user of its namespace has
// gone, and says so. Until then the address may still answer, so it is nobody
// else's. A namespace that somebody keeps alive (a process that joined it, a
// debugger) does not keep the address for ever: after a grace time the link is
// taken off the bridge and deleted, here in the background, where the tens of
// milliseconds that takes hold up nobody who waits.
type leaving struct {
	s    *Service
	kick chan struct{}

	mu   sync.Mutex         // taken after the table's
	wait map[int]*departure // by index of the link
	of   map[*Network]int   // how many of them are ports of the network's bridge
}

type departure struct {
	e     *Endpoint
	since time.Time
	gone  bool          // the link; the address is being freed
	freed chan struct{} // closed when the address is
}

const (
	grace    = 3 * time.Second // for the kernel to remove a link by itself
	tick     = time.Second
	perRound = 4 // links deleted in one go
)

func newLeaving(s *Service) *leaving {
	return &leaving{s: s, kick: make(chan struct{}, 1), wait: map[int]*departure{}, of: map[*Network]int{}}
}

// add takes over the address of an endpoint that is no longer in the table: its
// namespace has been dropped, or its link is about to be deleted.
// The kernel tells nobody here of links without an end at the host: they are deleted now.
func (l *leaving) add(e *Endpoint) {
	if e.Netns != nil {
		if err := l.s.deleteLink(e); err != nil {
			l.s.log.Warn("delete link", "container", e.ContainerID, "network", e.NetworkName, "err", err)
		}
		l.free(e)
		return
	}
	l.s.mu.Lock()
	gone := e.gone || e.Index == 0
	if !gone {
		l.mu.Lock()
		l.wait[e.Index] = &departure{e: e, since: time.Now(), freed: make(chan struct{})}
		if !e.Beside {
			l.of[e.network]++
		}
		l.mu.Unlock()
	}
	l.s.mu.Unlock()
	if gone {
		l.free(e)
		return
	}
	l.look()
}

// look has late look at what is there.
func (l *leaving) look() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// ports counts the ports of a network's bridge, those that come and go too.
func (l *leaving) ports(n *Network) (count int) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, booked := range l.s.booked {
		if booked.network == n {
			count++
		}
	}
	return count + l.s.ported[n] + l.of[n]
}

// free gives the address back. The link is gone.
func (l *leaving) free(e *Endpoint) {
	err := l.s.forgetLimits(e)
	l.s.mu.Lock()
	removed := e.network.removed
	l.s.mu.Unlock()
	if e.Index != 0 && !removed {
		if e.Beside {
			err = errors.Join(err, l.s.wall.RemoveBeside(e.network.link.Name, e.Link))
		}
		err = errors.Join(err, e.network.link.Forget(l.s.host, bridge.Endpoint{Addrs: e.linkAddrs(), Beside: e.Beside}))
	}
	if err != nil {
		l.s.log.Warn("endpoint released", "addresses", e.addrs(), "err", err)
	}
	e.network.giveBack(e.addrs())
}

// staying leaves out links that are about to disappear.
func (l *leaving) staying(links []int) []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(links, func(i int) bool { return l.wait[i] != nil })
}

// linkGone notes that an endpoint's link has disappeared; it may be no endpoint's.
func (l *leaving) linkGone(index int) {
	l.s.mu.Lock()
	l.mu.Lock()
	d := l.wait[index]
	first, unexpected := d != nil && !d.gone, false
	if first {
		d.gone = true
	}
	l.mu.Unlock()
	if e := l.s.links[index]; d == nil && e != nil {
		e.gone, e.since = true, time.Now()
		unexpected = true
	}
	l.s.mu.Unlock()
	if first {
		l.free(d.e)
		l.mu.Lock()
		l.remove(d)
		l.mu.Unlock()
		close(d.freed)
	}
	if unexpected {
		l.look()
	}
}

// remove takes out what has left.
//
// Preconditions: l.mu is held.
func (l *leaving) remove(d *departure) {
	delete(l.wait, d.e.Index)
	if n := d.e.network; !d.e.Beside {
		if l.of[n]--; l.of[n] == 0 {
			delete(l.of, n)
		}
	}
}

// late deletes links that the kernel did not remove within the grace time, and tells of
// those that are gone for longer without their container. It sleeps while nothing leaves.
func (l *leaving) late(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.kick:
		}
		for l.round() {
			select {
			case <-ctx.Done():
				return
			case <-time.After(tick):
			}
		}
	}
}

// round does what is due, and reports whether more may be soon.
func (l *leaving) round() bool {
	waiting := l.sweep()
	return l.s.tellMissing() || waiting
}

// next is the address of a network that has been leaving for longest, if there is one.
func (l *leaving) next(n *Network, f family) (ip netip.Addr, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var first *departure
	for _, d := range l.wait {
		if d.e.network == n && d.e.ip(f).IsValid() && (first == nil || d.since.Before(first.since)) {
			first = d
		}
	}
	if first == nil {
		return netip.Addr{}, false
	}
	return first.e.ip(f).Addr(), true
}

// hasten frees an address now if it is leaving, and reports whether it was and is free. It
// waits for the kernel to delete the link, some tens of milliseconds.
func (l *leaving) hasten(n *Network, ip netip.Addr) bool {
	l.mu.Lock()
	var found *departure
	for _, d := range l.wait {
		if d.e.network == n && slices.Contains(d.e.addrs(), ip) {
			found = d
		}
	}
	l.mu.Unlock()
	if found == nil || !l.drop(found) {
		return false
	}
	<-found.freed
	return true
}

// drop deletes the link of an endpoint that is leaving, also when the kernel has
// removed it unseen.
func (l *leaving) drop(d *departure) bool {
	if err := l.s.deleteLink(d.e); err != nil {
		l.s.log.Warn("delete link", "link", d.e.Link, "err", err)
		return false
	}
	l.linkGone(d.e.Index)
	return true
}

// sweep deletes some overdue links and reports whether any are waiting.
func (l *leaving) sweep() bool {
	var overdue []*departure
	l.mu.Lock()
	waiting := len(l.wait) > 0
	for _, d := range l.wait {
		if !d.gone && time.Since(d.since) > grace && len(overdue) < perRound {
			overdue = append(overdue, d)
		}
	}
	l.mu.Unlock()
	for _, d := range overdue {
		l.drop(d)
	}
	return waiting
}
