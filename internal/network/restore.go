package network

import (
	"errors"
	"net"
	"slices"
	"syscall"

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
	for e := range s.every() {
		if !e.gone && slices.Contains(indexes, e.Index) {
			touched = append(touched, e)
		}
	}
	s.mu.Unlock()
	for _, e := range touched {
		s.restorePort(e)
	}
}

func (s *Service) restoreBridge(n *Network) {
	sound, err := n.link.Sound(s.host)
	if sound {
		return
	}
	if err == nil {
		err = n.link.Restore(s.host)
	}
	if err == nil {
		err = s.reconnectAll(n) // what the host knew of its neighbours there is lost too
	}
	s.tell(err, "bridge was changed by another program", "link", n.link.Name)
}

func (s *Service) restorePort(e *Endpoint) {
	l, ok, err := s.host.LinkByName(e.Link)
	if err == nil && (!ok || l.Up && (e.Routed || l.Master == e.network.link.Index())) {
		return
	}
	if err == nil {
		err = s.reconnect(e)
	}
	if !errors.Is(err, syscall.ENODEV) { // it goes, with its container
		s.tell(err, "link of a container was changed by another program", "link", e.Link, "container", e.ContainerID)
	}
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
		errs = append(errs, s.reconnect(e))
	}
	return errors.Join(errs...)
}

// reconnect makes an endpoint's link a port of the bridge again, or the bridge
// answer for one beside it.
func (s *Service) reconnect(e *Endpoint) error {
	on := bridge.Endpoint{Index: e.Index, Addrs: e.linkAddrs(), MAC: net.HardwareAddr(e.MAC)}
	if e.Routed {
		return e.network.link.ReconnectRouted(s.host, on)
	}
	err := e.network.link.Reconnect(s.host, on)
	if err == nil && len(s.portsOf(e)) > 0 {
		err = e.network.link.Hairpin(s.host, e.Index)
	}
	return err
}
