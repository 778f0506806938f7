package network

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/network/bridge"
	"github.com/tare-engine/tare/internal/network/limit"
)

// CheckLimits refuses limits that this kernel does not have: it tries them in a network
// namespace of its own. InvalidArgument names the option and what is missing.
func (s *Service) CheckLimits(l api.NetworkLimits) error {
	if l == (api.NetworkLimits{}) {
		return nil
	}
	ns, inside, err := s.newNS(false)
	if err != nil {
		return err
	}
	_, err = limit.Set(inside, limit.Link{Name: "lo", Index: netlink.Loopback, Alias: s.cfg.alias(), Group: bridge.Group}, l)
	return errors.Join(refusal(err), inside.Close(), ns.Close())
}

// refusal makes what the kernel lacks the client's mistake.
func refusal(err error) error {
	if _, ok := errors.AsType[*limit.MissingError](err); ok {
		return errdefs.As(errdefs.InvalidArgument, err)
	}
	return err
}

// Limit gives the endpoints of a container limits, at once those that have a link. On
// error they may have part of them: give them those that they had.
func (s *Service) Limit(containerID string, l api.NetworkLimits) error {
	var errs []error
	for _, e := range s.Endpoints(containerID) {
		if err := limitable(e.network, l); err != nil {
			return err
		}
		s.mu.Lock()
		e.Limits = l
		s.mu.Unlock()
		errs = append(errs, s.limit(e))
	}
	return errors.Join(errs...)
}

// limitable refuses limits in a network whose links have no end on the host.
func limitable(n *Network, l api.NetworkLimits) error {
	if l == (api.NetworkLimits{}) || n.rec.Driver == "bridge" {
		return nil
	}
	return errdefs.New(errdefs.InvalidArgument, "network %s: the options %snet-* are for bridge networks, and this one's driver is %s", n.rec.Name, api.ExtensionPrefix, n.rec.Driver)
}

// limitNew is limit for an endpoint whose link has just been made: it has none to take
// back.
func (s *Service) limitNew(e *Endpoint) error {
	if e.Limits == (api.NetworkLimits{}) {
		return nil
	}
	return s.limit(e)
}

// limit has the kernel do what an endpoint's record says.
func (s *Service) limit(e *Endpoint) error {
	if e.Index == 0 {
		return nil
	}
	s.limits.mu.Lock()
	defer s.limits.mu.Unlock()
	s.mu.Lock()
	to := e.Limits
	s.mu.Unlock()
	before := e.second
	s.limits.forget(e) // who hears that the second link is gone is not to make it again
	second, err := limit.Set(s.host, limit.Link{
		Name: e.Link, Index: e.Index, Alias: s.cfg.alias() + ":" + e.ContainerID, Group: bridge.Group, MTU: e.network.link.MTU,
	}, to)
	failpoint.Hit("network/limited")
	if err != nil {
		s.limits.note(e, cmp.Or(second, before))
		return fmt.Errorf("network %s: %w", e.NetworkName, refusal(err))
	}
	if to != (api.NetworkLimits{}) {
		s.limits.note(e, second)
	}
	return nil
}

// limits are the endpoints that have some.
type limits struct {
	mu    sync.Mutex        // held while limits of endpoints change; taken before the table's
	links map[int]*Endpoint // by the numbers of both links
}

// Preconditions of note and forget: l.mu is held.

func (l *limits) note(e *Endpoint, second int) {
	e.second = second
	l.links[e.Index] = e
	if second != 0 {
		l.links[second] = e
	}
}

func (l *limits) forget(e *Endpoint) {
	delete(l.links, e.Index)
	delete(l.links, e.second)
	e.second = 0
}

// lost are the endpoints of links whose queue, or which themselves, are gone, and of
// second links that are down.
func (l *limits) lost(links, down []int) (all []*Endpoint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n, i := range slices.Concat(links, down) {
		e := l.links[i]
		if e != nil && !slices.Contains(all, e) && (n < len(links) || e.second == i) {
			all = append(all, e)
		}
	}
	return all
}

// forgetLimits removes what has limited an endpoint whose link is gone. The queues of the
// link have gone with it.
func (s *Service) forgetLimits(e *Endpoint) error {
	s.limits.mu.Lock()
	defer s.limits.mu.Unlock()
	second := e.second
	s.limits.forget(e)
	if second == 0 {
		return nil
	}
	return limit.Forget(s.host, e.Link)
}

// adoptLimits puts the limits of an endpoint right that outlived an engine, whose links
// are among those given.
func (s *Service) adoptLimits(e *Endpoint, links map[int]netlink.Link) error {
	if e.gone || e.Limits == (api.NetworkLimits{}) {
		return nil
	}
	err := s.limit(e)
	delete(links, e.second)
	return err
}

// limitsGone gives endpoints their limits again, from whose links, or those by which
// their packets go, somebody has taken them.
func (s *Service) limitsGone(links, down []int) {
	for _, e := range s.limits.lost(links, down) {
		s.mu.Lock()
		gone := e.gone
		s.mu.Unlock()
		if gone {
			continue
		}
		if err := s.limit(e); !errors.Is(err, syscall.ENODEV) { // its link goes too
			s.tell(err, "limits of a container were removed by another program", "link", e.Link, "container", e.ContainerID)
		}
	}
}
