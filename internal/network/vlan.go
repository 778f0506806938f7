package network

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/network/vlan"
)

// The options of Docker's drivers macvlan and ipvlan, which clients know.
const (
	optionParent      = "parent"
	optionMacvlanMode = "macvlan_mode"
	optionIpvlanMode  = "ipvlan_mode"
	optionIpvlanFlag  = "ipvlan_flag"
)

// mark begins the names of endpoints' links: of the host's ends, and of those without one
// until they are finished.
const mark = "tv"

// marked is what such a name looks like.
var marked = regexp.MustCompile("^" + mark + "[0-9a-f]{12}$")

// onParent says that the links of a driver's containers hang on one of the host's.
func onParent(driver string) bool { return driver == vlan.Macvlan || driver == vlan.Ipvlan }

// vlanSettings reads the options of a network of such a driver. Those of others are kept
// and mean nothing, as with Docker.
func vlanSettings(driver, id string, options map[string]string) (settings, error) {
	o := vlan.Options{Kind: driver, Parent: options[optionParent]}
	s := settings{prefix: defaultPrefix, vlan: &o}
	switch driver {
	case vlan.Macvlan:
		o.Mode, o.Own = options[optionMacvlanMode], "dm-"+ident.Short(id)
	case vlan.Ipvlan:
		o.Mode, o.Flag, o.Own = options[optionIpvlanMode], options[optionIpvlanFlag], "di-"+ident.Short(id)
	}
	if text, ok := options[optionMTU]; ok {
		var err error
		if o.MTU, err = strconv.Atoi(text); err != nil || o.MTU < 0 || o.MTU > 65535 {
			return s, errdefs.New(errdefs.InvalidArgument, "invalid MTU number: %s", text)
		}
	}
	if prefix, ok := options[optionIfaces]; ok {
		if err := checkPrefix(prefix); err != nil {
			return s, errdefs.New(errdefs.InvalidArgument, "failed to parse %s value: %s (%w)", optionIfaces, prefix, err)
		}
		s.prefix = prefix
	}
	return s, errdefs.As(errdefs.InvalidArgument, o.Check())
}

// hang finds or makes the parent of a network. If there is none, containers look for it.
func (s *Service) hang(n *Network) error {
	o := *n.settings.vlan
	o.Alias = s.cfg.alias()
	n.parent = vlan.New(o, s.nextIndex)
	return n.parent.Ensure(s.host)
}

// parentAddrs are the addresses that the host has on a network's parent: on the wire, no
// container can have them too. Who has the parent for itself can.
func (s *Service) parentAddrs(n *Network) (own []netip.Addr, err error) {
	if n.parent == nil || n.settings.vlan.Passthru() {
		return nil, nil
	}
	l, ok, err := s.host.LinkByName(n.settings.vlan.Name())
	if err != nil || !ok {
		return nil, err
	}
	prefixes, err := s.host.Addrs(l.Index)
	for _, p := range prefixes {
		own = append(own, p.Addr())
	}
	return own, err
}

// nextIndex is a number for a link to be made at the host, which another one may have.
func (s *Service) nextIndex() int { return int(s.index.Add(1) & (1<<30 - 1)) }

// clash refuses a network whose parent another one has: links of two kinds, and of two
// modes of ipvlan, do not hang on one, and passthru is for one container.
func (n *Network) clash(other *Network) error {
	a, b := n.settings.vlan, other.settings.vlan
	if a == nil || b == nil || a.Name() != b.Name() {
		return nil
	}
	of := ident.Short(other.rec.ID)
	switch {
	case a.Kind != b.Kind || a.Kind == vlan.Ipvlan:
		return errdefs.New(errdefs.Forbidden, "network %s is already using parent interface %s", b.Own, b.Name())
	case a.Passthru():
		return errdefs.New(errdefs.Forbidden, "cannot use mode passthru, macvlan network %s is already using parent interface %s", of, b.Name())
	case b.Passthru():
		return errdefs.New(errdefs.Forbidden, "macvlan network %s is already using parent interface %s in mode passthru", of, b.Name())
	}
	return nil
}

// unhang removes a network's parent if the engine has made it, and no other network
// hangs on it.
func (s *Service) unhang(n *Network) error {
	for _, other := range s.all() {
		if other != n && other.settings.vlan != nil && other.settings.vlan.Name() == n.settings.vlan.Name() {
			return nil
		}
	}
	return n.parent.Remove(s.host)
}

// hangs is an endpoint in the words of package vlan.
func (s *Service) hangs(e *Endpoint) vlan.Endpoint {
	v := vlan.Endpoint{Name: e.IfaceName, Index: e.Iface, Alias: s.cfg.alias() + ":" + e.ContainerID, Mark: mark + ident.Short(e.EndpointID), MAC: net.HardwareAddr(e.MAC)}
	for _, f := range families {
		if ip := *e.ip(f); ip.IsValid() {
			v.Addrs = append(v.Addrs, ip)
		}
		if *e.exit(f) {
			v.Exits = append(v.Exits, e.defaultRoute(f))
		}
	}
	return v
}

// connectChild makes the link of an endpoint that hangs on a parent.
func (s *Service) connectChild(e *Endpoint, ns *os.File, inside *netlink.Conn) error {
	if e.network.parent.Passthru() && s.hasOther(e) {
		return errdefs.New(errdefs.Conflict, "failed to create the macvlan port: invalid argument: in mode passthru one container has the parent interface %s for itself", e.network.parent.Name())
	}
	if err := netns.Do(ns, vlan.Announce); err != nil {
		return err
	}
	on := s.hangs(e)
	on.Addrs = append(on.Addrs, e.linkLocals()...)
	on.Before = func() error { return setSysctls(e, ns) }
	at, err := e.network.parent.Connect(s.host, inside, ns, on)
	if at != nil {
		e.Netns, e.Iface = &at.Netns, at.Index
	}
	return err
}

// hasOther says that there is another endpoint in the network of one that is being made.
func (t *table) hasOther(e *Endpoint) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for other := range t.every() {
		if other.network == e.network && other.ContainerID != e.ContainerID {
			return true
		}
	}
	return false
}

// removeStrays removes the links in a container's namespace, of ours, of which there is
// no record: the engine was killed while it connected the container.
func (s *Service) removeStrays(containerID string, ns *os.File) error {
	inside, err := socketIn(ns)
	if err != nil {
		return err
	}
	defer inside.Close()
	links, err := inside.Links()
	if err != nil {
		return err
	}
	known := map[int]bool{}
	for _, e := range s.Endpoints(containerID) {
		known[e.Iface] = true
	}
	var b netlink.Batch
	for _, l := range links {
		ours := l.Alias == s.cfg.alias()+":"+containerID || l.Alias == "" && marked.MatchString(l.Name)
		if onParent(l.Kind) && ours && !known[l.Index] {
			b.DelLink(l.Index)
			s.log.Warn("a link of a network that the container is not in was left over; removed", "container", ident.Short(containerID), "link", l.Name)
		}
	}
	if err := inside.Do(&b); err != nil {
		return fmt.Errorf("container %s: %w", ident.Short(containerID), err)
	}
	return nil
}
