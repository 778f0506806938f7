package firewall

import (
	"net/netip"

	"github.com/tare-engine/tare/internal/linux/nft"
)

// Link is a way from one container to a port of another of a network whose containers do
// not reach each other (ICC). Both are of IPv4.
type Link struct {
	Proto string // tcp, udp, sctp
	From  netip.Addr
	To    netip.AddrPort
}

// AddLinks opens ways.
func (f *Firewall) AddLinks(links ...Link) error {
	return f.changeLinks(links, f.conn.Add, func(l Link) { f.linked[l] = struct{}{} })
}

// RemoveLinks closes them again; connections that were made stay.
func (f *Firewall) RemoveLinks(links ...Link) error {
	return f.changeLinks(links, f.conn.Delete, func(l Link) { delete(f.linked, l) })
}

// changeLinks brings links into their set or out of it, as change does with bindings.
func (f *Firewall) changeLinks(links []Link, do func(string, *nft.Set, ...nft.Element) error, book func(Link)) error {
	s := newSets()
	if err := s.link(links); err != nil || len(links) == 0 {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range links {
		book(l)
	}
	if !f.applied {
		return nil
	}
	if do(f.cfg.Table, s.linked, s.linked.Elements...) == nil {
		return nil
	}
	return f.apply()
}

// link adds the elements of links to their set.
func (s sets) link(links []Link) error {
	for _, l := range links {
		e, err := nft.WayElement(l.Proto, l.From, l.To)
		if err != nil {
			return err
		}
		s.linked.Elements = append(s.linked.Elements, e)
	}
	return nil
}
