package firewall

import (
	"fmt"
	"slices"

	"github.com/tare-engine/tare/internal/linux/nft"
)

// AddNetwork protects the containers of one network more.
func (f *Firewall) AddNetwork(n Network) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.setNetworks(append(slices.Clone(f.state.Networks), n), added(n, newSets()))
}

// RemoveNetwork takes a network back that has no containers any more; it may not
// be there.
func (f *Firewall) RemoveNetwork(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := f.at(name)
	if at < 0 {
		return nil
	}
	return f.setNetworks(slices.Delete(slices.Clone(f.state.Networks), at, at+1), removed(f.state.Networks[at], newSets()))
}

// at is the place of a network in the state; -1 if it is not there.
//
// Preconditions: f.mu is held.
func (f *Firewall) at(name string) int {
	return slices.IndexFunc(f.state.Networks, func(n Network) bool { return n.Name == name })
}

// added is what a network adds to the table: nothing of it grows with the others.
func added(n Network, s sets) *nft.Batch {
	var b nft.Batch
	b.AddSet(nft.LinkSet(linkSet(n)))
	for _, c := range chainsOf(n) {
		b.AddChain(c)
		b.SetRules(c)
	}
	for _, m := range membersOf(n, s) {
		b.Add(m.set, m.element)
	}
	return &b
}

// removed takes it out again.
func removed(n Network, s sets) *nft.Batch {
	var b nft.Batch
	for _, m := range membersOf(n, s) {
		b.Delete(m.set, m.element)
	}
	for _, c := range chainsOf(n) {
		b.DeleteChain(c.Name)
	}
	b.DeleteSet(linkSet(n))
	return &b
}

// setNetworks makes the change that leads to other networks. If the table is not
// what it should be (somebody may have flushed it a moment ago) it is written anew;
// if that cannot be done either, it expresses the networks that were.
//
// Preconditions: f.mu is held.
func (f *Firewall) setNetworks(list []Network, change *nft.Batch) error {
	was := f.state.Networks
	f.state.Networks = list
	if !f.applied {
		return nil
	}
	if err := f.do(change); err != nil {
		f.state.Networks = was
		return err
	}
	f.reintegrate()
	return nil
}

// do makes a change that the state has already, or else writes the table anew.
//
// Preconditions: f.mu is held, and the table has been applied.
func (f *Firewall) do(change *nft.Batch) error {
	if f.conn.Do(f.cfg.Table, change) == nil {
		return nil
	}
	return f.apply()
}

// AddBeside lets a network's containers have a link beside the bridge.
func (f *Firewall) AddBeside(network, link string) error {
	return f.changeBeside(network, link, (*nft.Batch).Add, func(n *Network) { n.Beside = append(n.Beside, link) })
}

// RemoveBeside takes such a link back.
func (f *Firewall) RemoveBeside(network, link string) error {
	return f.changeBeside(network, link, (*nft.Batch).Delete, func(n *Network) {
		n.Beside = slices.DeleteFunc(n.Beside, func(s string) bool { return s == link })
	})
}

func (f *Firewall) changeBeside(network, link string, do func(*nft.Batch, *nft.Set, ...nft.Element), book func(*Network)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := f.at(network)
	if at < 0 {
		return fmt.Errorf("firewall: no network %s", network)
	}
	n := &f.state.Networks[at]
	book(n)
	if !f.applied {
		return nil
	}
	var b nft.Batch
	for _, m := range linkMembers(*n, link, newSets()) {
		do(&b, m.set, m.element)
	}
	if err := f.do(&b); err != nil {
		return err
	}
	f.reintegrate()
	return nil
}
