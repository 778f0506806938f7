package firewall

import (
	"net/netip"

	"github.com/tare-engine/tare/internal/linux/nft"
)

// Way leads from one container to a port of another of a network whose containers do
// not reach each other (ICC). Both are of IPv4.
type Way struct {
	Proto string // tcp, udp, sctp
	From  netip.Addr
	To    netip.AddrPort
}

// AddWays opens ways.
func (f *Firewall) AddWays(ways ...Way) error {
	return f.changeWays(ways, f.conn.Add, func(w Way) { f.linked[w] = struct{}{} })
}

// RemoveWays closes them again; connections that were made stay.
func (f *Firewall) RemoveWays(ways ...Way) error {
	return f.changeWays(ways, f.conn.Delete, func(w Way) { delete(f.linked, w) })
}

// changeWays brings ways into their set or out of it, as change does with bindings.
func (f *Firewall) changeWays(ways []Way, do func(string, *nft.Set, ...nft.Element) error, book func(Way)) error {
	s := newSets()
	if err := s.link(ways); err != nil || len(ways) == 0 {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range ways {
		book(w)
	}
	if !f.applied {
		return nil
	}
	if do(f.cfg.Table, s.linked, s.linked.Elements...) == nil {
		return nil
	}
	return f.apply()
}

// link adds the elements of ways to their set.
func (s sets) link(ways []Way) error {
	for _, w := range ways {
		e, err := nft.WayElement(w.Proto, w.From, w.To)
		if err != nil {
			return err
		}
		s.linked.Elements = append(s.linked.Elements, e)
	}
	return nil
}
