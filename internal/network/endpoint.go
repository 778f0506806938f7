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
	"syscall"
	"time"

	"github.com/tare-engine/tare/api"
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

// Request asks for an endpoint.
type Request struct {
	ContainerID string
	Name        string           // of the container, for people
	Network     string           // name or id; empty: bridge
	IP, IP6     netip.Addr       // zero: chosen
	MAC         net.HardwareAddr // nil: from the address
	Hostname    string           // a name of it too
	Aliases     []string         // names that it has in this network
	Links       []string         // CONTAINER:ALIAS, names that it has for others of this network
	LinkLocal   []netip.Addr
	Sysctls     []Sysctl
	IfaceName   string // of the container's end; empty: eth0, or the first that is free
	Priority    int    // the endpoint with the highest is the way out
	Limits      api.NetworkLimits
	Later       bool // without a namespace: Enter makes the link when there is one

	ahead bool // of Reserve
}

// Endpoint is a container's place in a network. Name, Index, Exit, Exit6, Limits and Ports change
// under the table's lock, by calls for its container only, of which the caller makes
// one at a time: he reads them without the lock. The rest stays as it was made.
type Endpoint struct {
	Record
	Gateway     netip.Addr // zero if it leads nowhere
	Gateway6    netip.Addr
	NetworkName string
	// NetNS is the network namespace; nil for the host network, and after
	// CloseNetNS.
	NetNS *os.File

	network *Network
	second  int           // number of the link by which limited packets go (package limit); the limits' lock guards it
	inside  *netlink.Conn // in NetNS, while it is ahead
	off6    bool          // adopted with IPv6, which it has not any more
	ahead   bool          // made by Reserve and not bound yet; the table's lock guards it
	gone    bool          // the link has disappeared already; the table's lock guards it, and what follows
	since   time.Time     // when that was seen
	told    bool          // that it was somebody else
}

// Record is what has to be known of an endpoint to adopt it after a restart.
// The owner of the container keeps it with the container's live state.
type Record struct {
	ContainerID string       `json:"containerID"`
	Name        string       `json:"name"`
	NetworkID   string       `json:"networkID"`
	EndpointID  string       `json:"endpointID"`
	IP          netip.Prefix `json:"ip,omitzero"`
	IP6         netip.Prefix `json:"ip6,omitzero"`
	MAC         MAC          `json:"mac,omitempty"`
	Link        string       `json:"link,omitempty"` // the host's end
	Index       int          `json:"index,omitempty"`
	Routed      bool         `json:"routed,omitempty"` // beside the bridge
	Netns       *int         `json:"netns,omitempty"`  // the host's number for the container's namespace, of links without an end at the host
	Iface       int          `json:"iface,omitempty"`  // of the link's other end
	IfaceName   string       `json:"ifaceName,omitempty"`
	LinkLocal   []netip.Addr `json:"linkLocal,omitempty"`
	Sysctls     []Sysctl     `json:"sysctls,omitempty"`
	Priority    int          `json:"priority,omitempty"`
	Exit        bool         `json:"exit,omitempty"`  // the container's default route is here, and its ports of IPv4
	Exit6       bool         `json:"exit6,omitempty"` // the same of IPv6
	Ports       []Port       `json:"ports,omitempty"`
	Hostname    string       `json:"hostname,omitempty"`
	Aliases     []string     `json:"aliases,omitempty"`
	Links       []string     `json:"links,omitempty"`

	Limits api.NetworkLimits `json:"limits,omitzero"`
}

// MAC is a hardware address that is a string in JSON.
type MAC net.HardwareAddr

func (m MAC) String() string { return net.HardwareAddr(m).String() }

// MarshalText writes the usual form with colons.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads it.
func (m *MAC) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*m = nil
		return nil
	}
	a, err := net.ParseMAC(string(b))
	*m = MAC(a)
	return err
}

// CloseNetNS closes the engine's descriptor of the namespace, once a process
// lives in it.
func (e *Endpoint) CloseNetNS() error {
	var err error
	if e.inside != nil {
		err = e.inside.Close()
		e.inside = nil
	}
	if e.NetNS != nil {
		err = errors.Join(err, e.NetNS.Close())
		e.NetNS = nil
	}
	return err
}

// Attach makes an endpoint with a new network namespace. For the host network
// there is no namespace; for none it has a loopback only.
func (s *Service) Attach(ctx context.Context, r Request) (*Endpoint, error) {
	return s.attach(ctx, r)
}

// Check reports what is wrong with a request, without making anything.
func (s *Service) Check(r Request) error {
	n, err := s.find(r.Network)
	if err != nil {
		return err
	}
	for _, f := range families {
		if err := n.checkIP(f, r.ip(f)); err != nil {
			return err
		}
	}
	if err := n.checkLinkLocal(r.LinkLocal); err != nil {
		return err
	}
	if n.rec.Driver == vlan.Ipvlan && r.MAC != nil {
		return errdefs.New(errdefs.InvalidArgument, "ipvlan interfaces do not support custom mac address assignment")
	}
	if n.rec.Configuration != nil {
		return errdefs.New(errdefs.Forbidden, "network %s is a configuration for others: containers cannot be connected to it", n.rec.Name)
	}
	if (n.rec.Driver == "bridge" || onParent(n.rec.Driver)) && !n.linked() {
		return errdefs.New(errdefs.NotFound, "network %s not found", n.rec.Name)
	}
	return limitable(n, r.Limits)
}

// checkIP refuses an address that an endpoint cannot ask for.
func (n *Network) checkIP(f family, ip netip.Addr) error {
	var why string
	switch s, ok := n.of(ip); {
	case !ip.IsValid():
		return nil
	case familyOf(ip) != f || ip.Zone() != "":
		why = fmt.Sprintf("invalid IPv%d address: %s", f, ip)
	case n.predefined():
		why = "user specified IP address is supported on user defined networks only"
	case *n.rec.chosen(f):
		why = "user specified IP address is supported only when connecting to networks with user configured subnets"
	case !ok || s.family() != f:
		why = "no configured subnet contains IP address " + ip.String()
	default:
		return nil
	}
	return errdefs.New(errdefs.InvalidArgument, "invalid config for network %s: invalid endpoint settings:\n%s", n.rec.Name, why)
}

// takeIP gives an endpoint of a network the address that it asks for, or any. One
// whose last link is about to go, as when a container starts again, goes at once.
func (s *Service) takeIP(n *Network, f family, ip netip.Addr) (netip.Addr, error) {
	if !ip.IsValid() {
		return s.takeAny(n, f)
	}
	err := n.claimIP(ip)
	if errors.Is(err, ipam.ErrInUse) {
		s.leaving.hasten(n, ip)
		err = n.claimIP(ip) // also if it was freed in between
	}
	return ip, errdefs.As(errdefs.Forbidden, err)
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

func (s *Service) attach(ctx context.Context, r Request) (_ *Endpoint, err error) {
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
		err = s.isolate(e)
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

// isolate makes a namespace with nothing but loopback.
func (s *Service) isolate(e *Endpoint) error {
	ns, inside, err := s.newNS(false)
	if err != nil {
		return err
	}
	var b netlink.Batch
	b.SetUp(1) // lo
	if err := errors.Join(inside.Do(&b), inside.Close()); err != nil {
		return errors.Join(err, ns.Close())
	}
	e.NetNS = ns
	return nil
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
	e.Iface = s.freeIface(e.ContainerID)
	if e.IfaceName, err = s.ifaceName(e.ContainerID, r.IfaceName, n.settings.prefix, e.Iface); err != nil {
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
	e.Routed = s.leaving.ports(n) > s.maxPorts && n.gated() // its own is counted, as it is booked
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
		within, _ := n.of(ip)
		*e.ip(f), *e.gateway(f) = netip.PrefixFrom(ip, within.Subnet().Bits()), n.exit(ip)
	}
	if e.MAC == nil && n.rec.Driver != vlan.Ipvlan {
		e.MAC = MAC(bridge.MACOf(e.addrs()[0]))
	}
	return nil
}

// freeIface is the lowest number of a link that the container has not.
func (s *Service) freeIface(containerID string) int {
	iface := bridge.FirstIface
	for _, e := range s.Endpoints(containerID) {
		if e.Iface >= iface {
			iface = e.Iface + 1
		}
	}
	return iface
}

// ifaceName is the name of one more link of a container: the one that is asked for, or
// the first of its network's way that none has.
func (s *Service) ifaceName(containerID, asked, prefix string, iface int) (string, error) {
	taken := func(name string) bool {
		return name == "lo" || slices.ContainsFunc(s.Endpoints(containerID), func(e *Endpoint) bool {
			return cmp.Or(e.IfaceName, bridge.InterfaceName(e.Iface)) == name
		})
	}
	if asked == "" {
		number := iface - bridge.FirstIface
		if prefix != defaultPrefix {
			number = 0
		}
		for taken(prefix + strconv.Itoa(number)) {
			number++
		}
		return prefix + strconv.Itoa(number), nil
	}
	if err := checkLinkName(asked); err != nil {
		return "", errdefs.New(errdefs.InvalidArgument, "invalid interface name %q: %w", asked, err)
	}
	if taken(asked) {
		return "", errdefs.New(errdefs.Conflict, "interface name %q is taken in container %s", asked, ident.Short(containerID))
	}
	return asked, nil
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
// one that was tried.
func (s *Service) connectPair(e *Endpoint, ns *os.File, inside *netlink.Conn) error {
	connect := e.network.link.Connect
	if e.ahead {
		connect = e.network.link.Pair
	}
	for range 100 {
		e.Index = s.nextIndex()
		err := connect(s.host, inside, int(ns.Fd()), s.driven(e))
		switch {
		case err == nil && e.Routed:
			return s.wall.AddLink(e.network.link.Name, e.Link)
		case !errors.Is(err, syscall.EEXIST) && !errors.Is(err, syscall.EBUSY):
			return err
		}
	}
	return errors.New("no free interface index")
}

// driven is the endpoint in the driver's words.
func (s *Service) driven(e *Endpoint) bridge.Endpoint {
	return bridge.Endpoint{
		Name: e.Link, Index: e.Index, Alias: s.cfg.alias() + ":" + e.ContainerID, Addrs: e.linkAddrs(), MAC: net.HardwareAddr(e.MAC), Routed: e.Routed,
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
		var b netlink.Batch
		b.SetUp(1) // lo
		return []Record{list[0].Record}, errors.Join(inside.Do(&b), ctx.Err())
	}
	var records []Record
	for _, e := range list {
		if e.made() || e.NetNS != nil {
			return nil, fmt.Errorf("network %s: the endpoint of container %s waits for no namespace", e.NetworkName, ident.Short(containerID))
		}
		if err := s.quiet(ns, e); err != nil {
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
	e.Index, e.Netns, e.Iface = made.Index, made.Netns, made.Iface
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

// quiet has the link of an endpoint that comes into a namespace next know IPv6 or not.
func (s *Service) quiet(ns *os.File, e *Endpoint) error {
	return netns.Do(ns, func() error { return bridge.Default(s.parameters, e.IP6.IsValid()) })
}

// Release takes a container's endpoints back: its published ports are free when
// it returns, its addresses when the kernel has removed the links. It is no error
// if the container has none.
func (s *Service) Release(ctx context.Context, containerID string) error {
	list := s.Endpoints(containerID)
	var errs []error
	for _, e := range list {
		errs = append(errs, s.unpublish(e))
	}
	errs = append(errs, s.ports.releaseAll(containerID), s.dropLinks(containerID))
	failpoint.Hit("stop/network-unpublished")
	s.removeAll(containerID)
	s.resolvers.leave(containerID)
	for _, e := range list {
		s.changed(e, false)
		errs = append(errs, e.CloseNetNS())
		if e.network.linked() {
			s.leaving.add(e)
		}
	}
	return errors.Join(errs...)
}
