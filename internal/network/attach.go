package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/network/bridge"
	"github.com/tare-engine/tare/internal/network/ipam"
	"github.com/tare-engine/tare/internal/network/vlan"
	"github.com/tare-engine/tare/internal/undo"
)

// Attach makes an endpoint with a new network namespace. For the host network
// there is no namespace; for none it has a loopback only.
func (s *Service) Attach(ctx context.Context, r Request) (_ *Endpoint, err error) {
	e, err := s.begin(ctx, r, true)
	if err != nil {
		return nil, err
	}
	defer func() { s.enroll(e, err) }()
	failpoint.Hit("start/network-booked")
	switch n := e.network; {
	case n.linked():
		err = s.connect(e, r)
	case n.rec.Driver == "null" && !r.Later:
		e.NetNS, err = s.Isolated()
	}
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", e.NetworkName, err)
	}
	failpoint.Hit("start/network-attached")
	s.changed(e, true)
	return e, nil
}

// begin books an endpoint, the first of its container or one more. The caller enrolls
// it, whatever comes of it.
func (s *Service) begin(ctx context.Context, r Request, first bool) (*Endpoint, error) {
	if err := errors.Join(ctx.Err(), s.Check(r)); err != nil {
		return nil, err
	}
	n, err := s.find(r.Network)
	if err != nil {
		return nil, err
	}
	e := &Endpoint{network: n, NetworkName: n.rec.Name, ahead: r.ahead, Record: Record{
		ContainerID: r.ContainerID, Name: r.Name, NetworkID: n.rec.ID, EndpointID: ident.New(), MAC: MAC(r.MAC), Priority: r.Priority,
		Hostname: r.Hostname, Aliases: r.Aliases, Links: r.Links, LinkLocal: r.LinkLocal, Sysctls: r.Sysctls, Limits: r.Limits}}
	return e, s.book(e, first)
}

// Isolated makes a namespace with nothing but loopback, which is the caller's.
func (s *Service) Isolated() (*os.File, error) {
	ns, inside, err := s.newNS(false)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(isolate(inside), inside.Close()); err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	return ns, nil
}

// Isolate makes a new namespace, which stays the caller's, one with nothing but loopback.
func Isolate(ns *os.File) error {
	inside, err := socketIn(ns)
	if err != nil {
		return err
	}
	return errors.Join(isolate(inside), inside.Close())
}

func isolate(inside *netlink.Conn) error {
	var b netlink.Batch
	b.SetUp(netlink.Loopback)
	return inside.Do(&b)
}

// newNS makes a namespace, whose links to come know IPv6 or not, and opens a socket in
// it. Loopback has ::1 all the same, as in Docker.
func (s *Service) newNS(ipv6 bool) (ns *os.File, inside *netlink.Conn, err error) {
	ns, err = s.maker.New(func() error {
		if err := bridge.Default(s.parameters, ipv6); err != nil {
			return err
		}
		var err error
		inside, err = netlink.Open()
		return err
	})
	return ns, inside, err
}

// connect gives the endpoint an address and makes its link in a new namespace,
// unless that is to be later.
func (s *Service) connect(e *Endpoint, r Request) (err error) {
	var u undo.Stack
	defer u.Run(&err)
	if err := s.place(e, r); err != nil {
		return err
	}
	u.Add(func() error { s.leaving.add(e); return nil })
	e.Exit, e.Exit6 = e.leadsOut(v4), e.leadsOut(v6)
	if r.Later {
		return nil
	}
	ns, inside, err := s.newNS(e.network.rec.has(v6))
	if err != nil {
		return err
	}
	u.Add(ns.Close)
	failpoint.Hit("start/network-namespace")
	err = s.connectLink(e, ns, inside)
	if err == nil && e.ahead {
		e.NetNS, e.inside = ns, inside
		return nil
	}
	if err := errors.Join(err, inside.Close()); err != nil {
		return err
	}
	if err := s.limitNew(e); err != nil {
		return err
	}
	e.NetNS = ns
	return nil
}

// place gives the endpoint its addresses, unless it is ahead, and a link that is not made
// yet. The caller gives the addresses back by leaving.add.
func (s *Service) place(e *Endpoint, r Request) (err error) {
	n := e.network
	var ordinal int
	e.Iface, ordinal = s.freeIface(e.ContainerID)
	e.asked = r.IfaceName != ""
	if e.IfaceName, err = s.ifaceName(e.ContainerID, r.IfaceName, n.settings.prefix, ordinal); err != nil {
		return err
	}
	if !e.ahead {
		if err := s.takeIPs(e, r); err != nil {
			return err
		}
	}
	if n.link == nil {
		return nil
	}
	e.Beside = n.gated() && (n.apart() || s.leaving.ports(n) > s.maxPorts) // its own is counted, as it is booked
	e.Link = mark + ident.Short(e.EndpointID)
	return nil
}

// takeIPs gives the endpoint its addresses: those that are asked for, or any.
func (s *Service) takeIPs(e *Endpoint, r Request) error {
	n := e.network
	for _, f := range families {
		if !n.rec.has(f) {
			continue
		}
		ip, err := s.takeIP(n, f, r.ip(f))
		if err != nil {
			n.giveBack(e.addrs())
			return err
		}
		within, _ := n.segmentOf(ip)
		*e.ip(f), *e.gateway(f) = netip.PrefixFrom(ip, within.Subnet().Bits()), n.exit(ip)
	}
	if e.MAC == nil && n.rec.Driver != vlan.Ipvlan {
		e.MAC = MAC(bridge.MACOf(e.addrs()[0]))
	}
	return nil
}

// takeIP gives an endpoint of a network the address that it asks for, or any. One
// whose last link is about to go, as when a container starts again, goes at once.
func (s *Service) takeIP(n *Network, f family, ip netip.Addr) (netip.Addr, error) {
	own, err := s.parentAddrs(n)
	if err != nil {
		return ip, err
	}
	if !ip.IsValid() {
		return s.takeOther(n, f, own)
	}
	if slices.Contains(own, ip) {
		return ip, errdefs.New(errdefs.Forbidden, "%w: %s is the host's own on %s", ipam.ErrInUse, ip, n.settings.vlan.Name())
	}
	err = n.claimIP(ip)
	if errors.Is(err, ipam.ErrInUse) {
		s.leaving.hasten(n, ip)
		err = n.claimIP(ip) // also if it was freed in between
	}
	return ip, errdefs.As(errdefs.Forbidden, err)
}

// takeOther is takeAny without some addresses.
func (s *Service) takeOther(n *Network, f family, without []netip.Addr) (netip.Addr, error) {
	var skipped []netip.Addr
	defer func() { n.giveBack(skipped) }()
	for {
		a, err := s.takeAny(n, f)
		if err != nil || !slices.Contains(without, a) {
			return a, err
		}
		skipped = append(skipped, a)
	}
}

// takeAny gives any address of a network. If all are in use, those that are leaving go at
// once, until one is free.
func (s *Service) takeAny(n *Network, f family) (netip.Addr, error) {
	a, err := n.take(f)
	for err != nil {
		leaves, ok := s.leaving.next(n, f)
		if !ok || !s.leaving.hasten(n, leaves) {
			return n.take(f) // one may have been freed in between
		}
		a, err = n.take(f)
	}
	return a, nil
}

// freeIface is the lowest number of a link above all that the container has, and the one
// that its name has: the same, counted from the first, unless there are links of others.
func (t *table) freeIface(containerID string) (iface, ordinal int) {
	iface = bridge.FirstIface
	for _, e := range t.Endpoints(containerID) {
		if e.Iface < iface {
			continue
		}
		iface = e.Iface + 1
		ordinal = iface - bridge.FirstIface
		if n, err := strconv.Atoi(strings.TrimPrefix(e.linkName(), defaultPrefix)); err == nil {
			ordinal = min(ordinal, n+1)
		}
	}
	return iface, ordinal
}

// linkName is what the endpoint's link in the container was called when it was made.
func (e *Endpoint) linkName() string { return cmp.Or(e.IfaceName, bridge.InterfaceName(e.Iface)) }

// ifaceName is the name of one more link of a container: the one that is asked for, or
// the first of its network's way that none has.
func (t *table) ifaceName(containerID, asked, prefix string, ordinal int) (string, error) {
	taken := func(name string) bool {
		return name == "lo" || slices.ContainsFunc(t.Endpoints(containerID), func(e *Endpoint) bool { return e.linkName() == name })
	}
	if asked == "" {
		if prefix != defaultPrefix {
			ordinal = 0
		}
		return firstName(prefix, ordinal, taken), nil
	}
	if err := checkLinkName(asked); err != nil {
		return "", errdefs.New(errdefs.InvalidArgument, "invalid interface name %q: %w", asked, err)
	}
	if taken(asked) {
		return "", errNameTaken(asked, containerID)
	}
	return asked, nil
}

// firstName is the first name from a number on that is not taken.
func firstName(prefix string, ordinal int, taken func(string) bool) string {
	for taken(prefix + strconv.Itoa(ordinal)) {
		ordinal++
	}
	return prefix + strconv.Itoa(ordinal)
}

func errNameTaken(name, containerID string) error {
	return errdefs.New(errdefs.Conflict, "interface name %q is taken in container %s", name, ident.Short(containerID))
}

// evade gives a link that is to be made another number, and another name, if links of
// others in its namespace have them: of the container's root, or tunnels that the kernel
// makes in each (net.core.fb_tunnels_only_for_init_net).
func evade(e *Endpoint, inside *netlink.Conn) error {
	links, err := inside.Links()
	if err != nil {
		return err
	}
	numbers, names := map[int]bool{}, map[string]bool{}
	for _, l := range links {
		numbers[l.Index], names[l.Name] = true, true
	}
	for numbers[e.Iface] {
		e.Iface++
	}
	switch {
	case !names[e.IfaceName]:
		return nil
	case e.asked:
		return errNameTaken(e.IfaceName, e.ContainerID)
	}
	e.IfaceName = firstName(e.network.settings.prefix, 0, func(name string) bool { return names[name] })
	return nil
}

// connectLink makes the link of an endpoint.
func (s *Service) connectLink(e *Endpoint, ns *os.File, inside *netlink.Conn) error {
	if e.network.parent != nil {
		return s.connectChild(e, ns, inside)
	}
	if err := s.connectPair(e, ns, inside); err != nil {
		return err
	}
	return furnish(e, ns, inside)
}

// connectPair makes the pair, with another index as long as somebody has the
// one that was tried, here or there.
func (s *Service) connectPair(e *Endpoint, ns *os.File, inside *netlink.Conn) error {
	connect := e.network.link.Connect
	if e.ahead {
		connect = e.network.link.Pair
	}
	for range 100 {
		e.Index = s.nextIndex()
		err := connect(s.host, inside, int(ns.Fd()), s.driven(e))
		switch {
		case err == nil && e.Beside:
			return s.wall.AddBeside(e.network.link.Name, e.Link)
		case !errors.Is(err, syscall.EEXIST) && !errors.Is(err, syscall.EBUSY):
			return err
		}
		if err := evade(e, inside); err != nil {
			return err
		}
	}
	return errors.New("no free interface index")
}

// driven is the endpoint in the driver's words.
func (s *Service) driven(e *Endpoint) bridge.Endpoint {
	return bridge.Endpoint{
		Name: e.Link, Index: e.Index, Alias: s.cfg.alias() + ":" + e.ContainerID, Addrs: e.linkAddrs(), MAC: net.HardwareAddr(e.MAC), Beside: e.Beside,
		Iface: e.Iface, IfaceName: e.IfaceName,
	}
}

// Enter makes the links of endpoints that were attached without a namespace, in
// ns, which stays the caller's. Ports published before are served then. It
// returns the records, which have changed.
func (s *Service) Enter(ctx context.Context, containerID string, ns *os.File) ([]Record, error) {
	list := s.Endpoints(containerID)
	if len(list) == 0 {
		return nil, fmt.Errorf("no endpoint of container %s waits for a namespace", ident.Short(containerID))
	}
	linked := list[0].network.linked()
	inside, err := socketIn(ns)
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", list[0].NetworkName, err)
	}
	defer inside.Close()
	if !linked {
		return []Record{list[0].Record}, errors.Join(isolate(inside), ctx.Err())
	}
	var records []Record
	for _, e := range list {
		if e.made() || e.NetNS != nil {
			return nil, fmt.Errorf("network %s: the endpoint of container %s waits for no namespace", e.NetworkName, ident.Short(containerID))
		}
		if err := s.preset(ns, e); err != nil {
			return nil, err
		}
		if err := s.enter(e, ns, inside); err != nil {
			return nil, err
		}
		records = append(records, e.Record)
	}
	return records, nil
}

// enter makes the link of one endpoint in a namespace.
func (s *Service) enter(e *Endpoint, ns *os.File, inside *netlink.Conn) error {
	made := *e
	if err := s.connectLink(&made, ns, inside); err != nil {
		return fmt.Errorf("network %s: %w", e.NetworkName, err)
	}
	s.mu.Lock()
	e.Index, e.Netns, e.Iface, e.IfaceName = made.Index, made.Netns, made.Iface, made.IfaceName
	s.linked(e)
	s.mu.Unlock()
	failpoint.Hit("start/network-entered")
	if err := s.limitNew(e); err != nil {
		return err
	}
	if err := s.hairpin(e, e.Ports); err != nil {
		return programming(errdefs.Internal, e, err)
	}
	return nil
}

// socketIn opens a socket in a namespace.
func socketIn(ns *os.File) (inside *netlink.Conn, err error) {
	err = netns.Do(ns, func() (err error) { inside, err = netlink.Open(); return err })
	return inside, err
}

// preset has the link of an endpoint that comes into a namespace next know IPv6 or not.
func (s *Service) preset(ns *os.File, e *Endpoint) error {
	return netns.Do(ns, func() error { return bridge.Default(s.parameters, e.IP6.IsValid()) })
}
