// Package firewall keeps the engine's one nftables table.
//
// The table is made as a whole in one transaction and holds sets and maps, so
// that a container or a published port is an element, not a rule. A network is a
// few chains of its own and the elements that lead to them, which come and go in
// one transaction as well, whatever else there is. Packets meet the table at these
// places:
//
//	prerouting, raw   packets to 127.0.0.0/8 from outside are dropped: the
//	                  bridges let such addresses through (route_localnet); and
//	                  what containers beside a bridge send by a protocol that
//	                  their network has not. Those between containers of one
//	                  network are not tracked as connections
//	prerouting, nat   a published port of the host becomes the container's;
//	output, nat       the same for clients on the host itself
//	forward           tare-user, the administrator's chain, comes first; then
//	                  only answers, published ports and containers of the same
//	                  network reach a container, or what its network's gateway
//	                  opens
//	postrouting       containers go out with the host's address; clients on
//	                  loopback and containers that use a published port of their
//	                  own network get the bridge's, so that answers come back
//	                  the same way; all others keep their address
//
// Other tables are never touched, unless Config.Integrate asks for it: then a chain
// that drops forwarded packets of containers gets rules, at its beginning, that accept
// them. What somebody does to this one is undone
// within two seconds, except in tare-user.
package firewall

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/tare-engine/tare/internal/linux/nft"
)

// Config names the table.
type Config struct {
	Table string // "tare", or with the engine's id
	Group uint32 // link group of the links of all engines (bridge.Group)
	// Integrate has other programs' chains that drop what containers send or receive
	// accept it.
	Integrate bool
	// Outside names a link to the world by a version of IP, by which others' rules are
	// tried; empty if there is none.
	Outside func(Family) string
	Log     *slog.Logger
}

// Network is a network whose containers the firewall protects.
type Network struct {
	Name    string // for the names of its chain
	Link    string
	Subnets []netip.Prefix // of one family each
	ICC     bool           // its containers reach each other
	// Masquerade has its containers go out with the host's address.
	Masquerade bool
	// Sources are the addresses that they go out with then; that of the link if there is
	// none of the family.
	Sources map[Family]netip.Addr
	// Gateways are the host's addresses in the network, which its containers see of each
	// other by way of published ports; those of the link there if there is none.
	Gateways map[Family]netip.Addr
	// Internal cuts its containers off from everything but each other and the
	// host.
	Internal bool
	// Unprotected are the families by which others than the engine's containers reach
	// every port of its containers.
	Unprotected map[Family]bool
	// Routed are the families by which others reach opened ports at the containers' own
	// addresses, with which these go out.
	Routed map[Family]bool
	// Trusted are links by which packets to opened ports come as well.
	Trusted []string
	// Beside are links of the network's containers that are no bridge ports. If the
	// network has no subnet of IPv6, nothing of that comes in there.
	Beside []string
}

// Family is a version of the Internet protocol: 4 or 6.
type Family = nft.Family

// Binding is a published port, or one that is opened.
type Binding struct {
	Proto string         // tcp, udp, sctp
	From  netip.AddrPort // of the host; the unspecified address is all; zero: To is opened
	To    netip.AddrPort // of the container
}

// State is what the table is to express.
type State struct {
	Networks []Network
	Bindings []Binding
	// Guard drops forwarded packets of the families that are no container's:
	// forwarding was off before the engine turned it on. What stays on a bridge of
	// somebody else's (AddBridge) is not forwarded.
	Guard map[Family]bool
}

// Firewall owns the table.
type Firewall struct {
	cfg   Config
	conn  *nft.Conn
	watch *nft.Watch
	every *nft.Watch // of all tables; nil without Integrate

	mu      sync.Mutex
	state   State                // without bindings
	bound   map[Binding]struct{} // what the maps hold
	linked  map[Way]struct{}
	bridges map[int]bool // of others, by index
	applied bool
}

// Open connects to the packet filter; the table is left as it is.
func Open(cfg Config) (*Firewall, error) {
	conn, err := nft.Open()
	if err != nil {
		return nil, err
	}
	watch, err := conn.NewWatch(cfg.Table, userChain)
	if err != nil {
		conn.Close()
		return nil, err
	}
	f := &Firewall{cfg: cfg, conn: conn, watch: watch, bound: map[Binding]struct{}{}, linked: map[Way]struct{}{}, bridges: map[int]bool{}}
	if cfg.Integrate {
		if f.every, err = conn.NewWatch("", ""); err != nil {
			watch.Close()
			conn.Close()
			return nil, err
		}
	}
	return f, nil
}

// Close disconnects. The rules stay.
func (f *Firewall) Close() error {
	_ = f.watch.Close() // Watch, if it was called, has closed it, and WatchOthers the other
	if f.every != nil {
		_ = f.every.Close()
	}
	return f.conn.Close()
}

// Destroy removes the table.
func (f *Firewall) Destroy() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.applied = false
	f.state = State{}
	return errors.Join(f.integrate(), f.conn.DeleteTable(f.cfg.Table))
}

// Apply makes the table express a state, in one transaction.
func (f *Firewall) Apply(s State) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	bound := map[Binding]struct{}{}
	for _, b := range s.Bindings {
		bound[b] = struct{}{}
	}
	f.state, f.bound = s, bound
	f.applied = true
	if err := f.apply(); err != nil {
		return err
	}
	f.tryIntegrate()
	return nil
}

// apply writes the table anew.
//
// Preconditions: f.mu is held.
func (f *Firewall) apply() error {
	t, err := f.table()
	if err != nil {
		return err
	}
	return f.conn.Apply(t)
}

// Guard drops forwarded packets of a family that are no container's from now on.
func (f *Firewall) Guard(family Family) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	guard := maps.Clone(f.state.Guard)
	if guard == nil {
		guard = map[Family]bool{}
	}
	guard[family] = true
	f.state.Guard = guard
	if !f.applied {
		return nil
	}
	return f.apply()
}

// AddBridge tells of a bridge that is no engine's: where the filter sees what stays on
// bridges (br_netfilter), the guard lets that pass. It may be known already.
func (f *Firewall) AddBridge(index int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bridges[index] {
		return nil
	}
	f.bridges[index] = true
	return f.changeBridge(index, (*nft.Batch).Add)
}

// RemoveBridge tells that it is gone; it may not have been known.
func (f *Firewall) RemoveBridge(index int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.bridges[index] {
		return nil
	}
	delete(f.bridges, index)
	return f.changeBridge(index, (*nft.Batch).Delete)
}

// Bridges are those that are known.
func (f *Firewall) Bridges() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Keys(f.bridges))
}

// changeBridge brings a bridge into the set, or out of it.
//
// Preconditions: f.mu is held.
func (f *Firewall) changeBridge(index int, do func(*nft.Batch, *nft.Set, ...nft.Element)) error {
	if !f.applied {
		return nil
	}
	var b nft.Batch
	do(&b, newSets().bridges, nft.LinkPair(index, index))
	return f.do(&b)
}

// Add publishes ports.
func (f *Firewall) Add(bindings ...Binding) error {
	return f.change(bindings, func(set *nft.Set, e []nft.Element) error { return f.conn.Add(f.cfg.Table, set, e...) },
		func(b Binding) { f.bound[b] = struct{}{} })
}

// Remove takes published ports back; they may be gone.
func (f *Firewall) Remove(bindings ...Binding) error {
	return f.change(bindings, func(set *nft.Set, e []nft.Element) error { return f.conn.Delete(f.cfg.Table, set, e...) },
		func(b Binding) { delete(f.bound, b) })
}

// change brings bindings into the maps or out of them, and books that. What
// cannot be changed in place (the table may have been flushed a moment ago) is
// written anew as a whole.
func (f *Firewall) change(bindings []Binding, do func(*nft.Set, []nft.Element) error, book func(Binding)) error {
	s := newSets()
	if err := s.bind(bindings); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range bindings {
		book(b)
	}
	var err error
	for _, set := range s.published() {
		if err == nil && len(set.Elements) > 0 {
			err = do(set, set.Elements)
		}
	}
	if err != nil && f.applied {
		err = f.apply()
	}
	return err
}

// bind adds the elements of bindings to the maps.
func (s sets) bind(bindings []Binding) error {
	for _, b := range bindings {
		if !b.From.IsValid() {
			if err := s.unlock(b); err != nil {
				return err
			}
			continue
		}
		f := nft.FamilyOf(b.From.Addr())
		if f != nft.FamilyOf(b.To.Addr()) {
			return fmt.Errorf("firewall: publish %s at %s: not of one family", b.To, b.From)
		}
		set, e, err := s.addrPorts[f], nft.Element{}, error(nil)
		if b.From.Addr().IsUnspecified() {
			set = s.ports[f]
			e, err = nft.PortElement(b.Proto, b.From.Port(), b.To)
		} else {
			e, err = nft.AddrPortElement(b.Proto, b.From, b.To)
		}
		if err != nil {
			return err
		}
		set.Elements = append(set.Elements, e)
	}
	return nil
}

// unlock adds the element of an opened port.
func (s sets) unlock(b Binding) error {
	set := s.open[nft.FamilyOf(b.To.Addr())]
	e, err := nft.AddrPortMember(b.Proto, b.To)
	set.Elements = append(set.Elements, e)
	return err
}
