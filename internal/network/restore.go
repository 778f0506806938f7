package network

import (
	"errors"
	"net"

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
		if err != nil {
			s.log.Error("bridge was deleted and could not be restored", "link", n.link.Name, "err", err)
			continue
		}
		s.log.Warn("bridge was deleted by another program; restored", "link", n.link.Name)
	}
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
		return e.network.link.AnswerForRouted(s.host, on)
	}
	err := e.network.link.Reconnect(s.host, on)
	if err == nil {
		err = s.hairpin(e, s.portsOf(e))
	}
	return err
}
