package network

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/tare-engine/tare/internal/ident"
)

// names are the endpoints of user networks by the names under which others of
// their network find them. The table's lock guards it.
type names map[string]map[string][]*Endpoint // by network's id, then by name in lower case

// Names returns the names that an endpoint has in its network, as with Docker: the
// container's, the ones asked for, its short id, its hostname.
func (e *Endpoint) Names() []string {
	if e.network.predefined() {
		return nil
	}
	all := append([]string{e.Name}, e.Aliases...)
	all = append(all, ident.Short(e.ContainerID), e.Hostname)
	var list []string
	for _, name := range all {
		if name != "" && !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list
}

// add has an endpoint found, unless its container does not exist yet.
func (n names) add(e *Endpoint) {
	if e.ahead {
		return
	}
	for _, name := range e.Names() {
		of := n[e.NetworkID]
		if of == nil {
			of = map[string][]*Endpoint{}
			n[e.NetworkID] = of
		}
		name = strings.ToLower(name)
		of[name] = append(slices.Clone(of[name]), e)
	}
}

func (n names) drop(e *Endpoint) {
	if e.ahead {
		return
	}
	of := n[e.NetworkID]
	for _, name := range e.Names() {
		name = strings.ToLower(name)
		list := slices.DeleteFunc(slices.Clone(of[name]), func(other *Endpoint) bool { return other == e })
		if of[name] = list; len(list) == 0 {
			delete(of, name)
		}
	}
	if len(of) == 0 {
		delete(n, e.NetworkID)
	}
}

// lookup finds the endpoints of a name in one network.
func (n names) lookup(networkID, name string) []*Endpoint { return n[networkID][strings.ToLower(name)] }

// Addresses returns those of a name, in lower case, as a container sees it: names of
// its links first, then those of its networks, the way out first, then NAME.NETWORK.
func (t *table) Addresses(containerID, name string) (addrs []netip.Addr, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	own := slices.Clone(t.endpoints[containerID])
	slices.SortStableFunc(own, func(a, b *Endpoint) int { return order(b) - order(a) })
	found := t.called(own, name)
	for _, e := range own {
		if len(found) == 0 {
			found = t.names.lookup(e.NetworkID, name)
		}
	}
	for _, e := range own {
		if short, ok := strings.CutSuffix(name, "."+strings.ToLower(e.NetworkName)); ok && len(found) == 0 {
			found = t.names.lookup(e.NetworkID, short)
		}
	}
	for _, e := range found {
		addrs = append(addrs, e.addrs()...)
	}
	return addrs, len(found) > 0
}

func order(e *Endpoint) int {
	if e.Exit || e.Exit6 {
		return 1
	}
	return 0
}

// called finds what the container itself calls another one.
//
// Preconditions: t.mu is held.
func (t *table) called(own []*Endpoint, name string) []*Endpoint {
	for _, e := range own {
		for _, link := range e.Links {
			target, alias := SplitLink(link)
			if strings.ToLower(alias) != name {
				continue
			}
			if found := t.names.lookup(e.NetworkID, target); len(found) > 0 {
				return found
			}
			for _, other := range t.endpoints[target] {
				if other.NetworkID == e.NetworkID {
					return []*Endpoint{other}
				}
			}
		}
	}
	return nil
}

// SplitLink reads CONTAINER:ALIAS; without an alias it is the container's name.
func SplitLink(s string) (target, alias string) {
	target, alias, ok := strings.Cut(s, ":")
	target = strings.TrimPrefix(target, "/")
	if !ok {
		alias = target
	}
	return target, alias[strings.LastIndexByte(alias, '/')+1:]
}

// ofContainer returns the addresses of a container by its name, or by NAME.NETWORK the
// one that it has there.
func (t *table) ofContainer(name string) (addrs []netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := range t.every() {
		own := strings.ToLower(e.Name)
		if !e.ahead && (own == name || own+"."+strings.ToLower(e.NetworkName) == name) {
			addrs = append(addrs, e.addrs()...)
		}
	}
	return addrs
}

// hostOf returns the endpoint of a network that has an address, of a container that
// exists.
//
// Preconditions: t.mu is held.
func (t *table) hostOf(networkID string, addr netip.Addr) *Endpoint {
	if e := t.hosts[spot{networkID, addr}]; e != nil && !e.ahead {
		return e
	}
	return nil
}
