package network

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/network/bridge"
)

// bridgeGone makes a network's bridge anew if it is the link that disappeared:
// somebody deleted it. Its containers are connected again.
func (s *Service) bridgeGone(index int) {
	for _, n := range s.all() {
		if n.link == nil || n.link.Index() != index || s.destroyed.Load() {
			continue
		}
		err := n.link.Restore(s.host)
		if err == nil {
			err = s.reconnectAll(n)
		}
		s.tell(err, "bridge was deleted by another program", "link", n.link.Name)
	}
}

// lessened puts right what somebody has taken from links of these numbers: a bridge that
// is down or has lost an address, an endpoint's that is down or has left its bridge.
func (s *Service) lessened(indexes []int) {
	if len(indexes) == 0 || s.destroyed.Load() {
		return
	}
	for _, n := range s.all() {
		if n.link != nil && slices.Contains(indexes, n.link.Index()) {
			s.restoreBridge(n)
		}
	}
	var touched []*Endpoint
	s.mu.Lock()
	for _, i := range indexes {
		if e := s.links[i]; e != nil && !e.gone {
			touched = append(touched, e)
		}
	}
	s.mu.Unlock()
	for _, e := range touched {
		s.restorePort(e)
	}
}

// restoreBridge tries it again if somebody changes more meanwhile.
func (s *Service) restoreBridge(n *Network) {
	const attempts = 3
	var err error
	for i := range attempts {
		var sound bool
		if sound, err = n.link.Sound(s.host); sound && i == 0 {
			return
		}
		if err == nil {
			err = n.link.Restore(s.host)
		}
		if err == nil {
			err = s.reconnectAll(n) // what the host knew of its neighbours there is lost too
		}
		if err == nil {
			break
		}
	}
	s.tell(err, "bridge was changed by another program", "link", n.link.Name)
}

func (s *Service) restorePort(e *Endpoint) {
	l, ok, err := s.host.LinkByName(e.Link)
	if err == nil && (!ok || l.Up && (e.Beside || l.Master == e.network.link.Index())) {
		return
	}
	of := e.network.link.Index()
	if err == nil {
		err = s.reconnect(e)
	}
	if err != nil && (s.vanished(e.Link, err) || s.replaced(e.network, of)) {
		return // with the container; or bridgeGone sees to it
	}
	s.tell(err, "link of a container was changed by another program", "link", e.Link, "container", e.ContainerID)
}

// replaced says that a network's bridge is not there any more, or another one is.
func (s *Service) replaced(n *Network, index int) bool {
	l, there, err := s.host.LinkByName(n.link.Name)
	return err == nil && (!there || l.Index != index)
}

// tell logs that what another program did is undone, or could not be.
func (s *Service) tell(err error, what string, about ...any) {
	if err != nil {
		s.log.Error(what+" and could not be restored", append(about, "err", err)...)
		return
	}
	s.log.Warn(what+"; restored", about...)
}

func (s *Service) reconnectAll(n *Network) error {
	var live []*Endpoint
	s.mu.Lock()
	for e := range s.every() {
		if e.network == n && !e.gone && e.Index != 0 {
			live = append(live, e)
		}
	}
	s.mu.Unlock()
	var errs []error
	for _, e := range live {
		if err := s.reconnect(e); !s.vanished(e.Link, err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// vanished says of an error of what was done with a link that the link has gone meanwhile,
// as those of containers do when they end.
func (s *Service) vanished(link string, err error) bool {
	if !errors.Is(err, syscall.ENODEV) {
		return false
	}
	_, there, err := s.host.LinkByName(link)
	return err == nil && !there
}

// reconnect makes an endpoint's link a port of the bridge again, or the bridge
// answer for one beside it.
func (s *Service) reconnect(e *Endpoint) error {
	on := bridge.Endpoint{Index: e.Index, Addrs: e.linkAddrs(), MAC: net.HardwareAddr(e.MAC)}
	if e.Beside {
		return e.network.link.ReconnectBeside(s.host, on)
	}
	err := e.network.link.Reconnect(s.host, on)
	if err == nil {
		err = s.hairpin(e, s.portsOf(e))
	}
	return err
}

// lostRoute is a route to a network's subnet, which the kernel had made with the bridge's
// address, or to a container beside the bridge, and somebody has removed.
type lostRoute struct {
	netlink.Route
	of   *Network
	link string // name of Index
}

// lostRoutes finds them. Nobody watches routes: a router has many, of which some change
// all the time.
func (s *Service) lostRoutes() (lost []lostRoute, err error) {
	type key struct {
		index int
		dst   netip.Prefix
	}
	for _, f := range families {
		routes, err := s.host.Routes(int(f))
		if err != nil {
			return nil, err
		}
		have := make(map[key]bool, len(routes))
		for _, r := range routes {
			have[key{r.Index, r.Dst}] = true
		}
		for _, n := range s.all() {
			if n.link == nil || !n.rec.gateway(f).IsValid() {
				continue
			}
			g := *n.rec.gateway(f)
			if r := (netlink.Route{Dst: g.Masked(), Src: g.Addr(), Index: n.link.Index()}); !have[key{r.Index, r.Dst}] {
				lost = append(lost, lostRoute{r, n, n.link.Name})
			}
		}
		for _, e := range s.beside() {
			for _, r := range e.network.link.Routes(bridge.Endpoint{Index: e.Index, Addrs: e.linkAddrs()}) {
				if familyOf(r.Dst.Addr()) == f && !have[key{r.Index, r.Dst}] {
					lost = append(lost, lostRoute{r, e.network, e.Link})
				}
			}
		}
	}
	return lost, nil
}

// beside are the endpoints that the host has a route to.
func (t *table) beside() (all []*Endpoint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := range t.every() {
		if e.Beside && e.Index != 0 && !e.gone {
			all = append(all, e)
		}
	}
	return all
}

// restoreRoutes puts back what was removed while no engine was there.
func (s *Service) restoreRoutes() error {
	lost, err := s.lostRoutes()
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range lost {
		var b netlink.Batch
		b.AddRoute(l.Route)
		if err := s.host.Do(&b); !s.vanished(l.link, err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// missing are the endpoints whose links somebody has deleted while their containers run.
func (t *table) missing() (all []*Endpoint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := range t.every() {
		if e.gone && time.Since(e.since) > grace {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b *Endpoint) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.NetworkName, b.NetworkName))
	})
	return all
}

// tellMissing logs once of each of those that is new, and reports whether there may be
// more: a link that is gone may be the first that is heard of its container's end.
func (s *Service) tellMissing() (more bool) {
	missing := s.missing()
	s.mu.Lock()
	missing = slices.DeleteFunc(missing, func(e *Endpoint) bool { return e.told })
	for _, e := range missing {
		e.told = true
	}
	for e := range s.every() {
		more = more || e.gone && !e.told
	}
	s.mu.Unlock()
	for _, e := range missing {
		s.log.Warn("link of a container was deleted by another program; it has a new one when it is connected again", "link", e.Link, "container", e.ContainerID, "network", e.NetworkName)
	}
	return more
}
