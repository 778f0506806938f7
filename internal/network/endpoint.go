package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/linux/sysctl"
	"github.com/tare-engine/tare/internal/network/bridge"
	"github.com/tare-engine/tare/internal/network/ipam"
	"github.com/tare-engine/tare/internal/undo"
)

// Request asks for an endpoint.
type Request struct {
	ContainerID string
	Name        string           // of the container, for people
	Network     string           // name or id; empty: bridge
	IP          netip.Addr       // zero: chosen
	MAC         net.HardwareAddr // nil: from the address
	Hostname    string           // a name of it too
	Aliases     []string         // names that it has in this network
	Links       []string         // CONTAINER:ALIAS, names that it has for others of this network
	Priority    int              // the endpoint with the highest is the way out
	Later       bool             // without a namespace: Enter makes the link when there is one
}

// Endpoint is a container's place in a network. Name, Index, Exit and Ports change
// under the table's lock, by calls for its container only, of which the caller makes
// one at a time: he reads them without the lock. The rest stays as it was made.
type Endpoint struct {
	Record
	Gateway     netip.Addr
	NetworkName string
	// NetNS is the network namespace; nil for the host network, and after
	// CloseNetNS.
	NetNS *os.File

	network *Network
	ahead   bool // made by Reserve and not bound yet; the table's lock guards it
	gone    bool // the link has disappeared already; the table's lock guards it
}

// Record is what has to be known of an endpoint to adopt it after a restart.
// The owner of the container keeps it with the container's live state.
type Record struct {
	ContainerID string       `json:"containerID"`
	Name        string       `json:"name"`
	NetworkID   string       `json:"networkID"`
	EndpointID  string       `json:"endpointID"`
	IP          netip.Prefix `json:"ip,omitzero"`
	MAC         MAC          `json:"mac,omitempty"`
	Link        string       `json:"link,omitempty"` // the host's end
	Index       int          `json:"index,omitempty"`
	Routed      bool         `json:"routed,omitempty"` // beside the bridge
	Iface       int          `json:"iface,omitempty"`  // of the link's other end, which is eth0 if that is 2
	Priority    int          `json:"priority,omitempty"`
	Exit        bool         `json:"exit,omitempty"` // the container's default route is here, and its ports
	Ports       []Port       `json:"ports,omitempty"`
	Hostname    string       `json:"hostname,omitempty"`
	Aliases     []string     `json:"aliases,omitempty"`
	Links       []string     `json:"links,omitempty"`
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
	if e.NetNS == nil {
		return nil
	}
	err := e.NetNS.Close()
	e.NetNS = nil
	return err
}

// Attach makes an endpoint with a new network namespace. For the host network
// there is no namespace; for none it has a loopback only.
func (s *Service) Attach(ctx context.Context, r Request) (*Endpoint, error) {
	return s.attach(ctx, r, false)
}

// Bind makes a reserved endpoint an ordinary one, with the name of its container.
func (s *Service) Bind(containerID, name string) (*Endpoint, error) {
	e, err := s.bind(containerID, name)
	if err == nil {
		s.changed(e, true)
	}
	return e, err
}

// Reserve is Attach for a container that does not exist yet: the endpoint shows
// nowhere until Bind.
func (s *Service) Reserve(ctx context.Context, r Request) (*Endpoint, error) {
	return s.attach(ctx, r, true)
}

// Check reports what is wrong with a request, without making anything.
func (s *Service) Check(r Request) error {
	n, err := s.find(r.Network)
	if err != nil {
		return err
	}
	if err := n.checkIP(r.IP); err != nil {
		return err
	}
	if n.rec.Driver == "bridge" && n.link == nil {
		return errdefs.New(errdefs.NotFound, "network %s not found", n.rec.Name)
	}
	return nil
}

// checkIP refuses an address that an endpoint cannot ask for.
func (n *Network) checkIP(ip netip.Addr) error {
	var why string
	switch {
	case !ip.IsValid():
		return nil
	case n.predefined():
		why = "user specified IP address is supported on user defined networks only"
	case n.rec.Chosen:
		why = "user specified IP address is supported only when connecting to networks with user configured subnets"
	case n.pool == nil || !n.pool.Subnet().Contains(ip):
		why = "no configured subnet contains IP address " + ip.String()
	default:
		return nil
	}
	return errdefs.New(errdefs.InvalidArgument, "invalid config for network %s: invalid endpoint settings:\n%s", n.rec.Name, why)
}

// takeIP gives an endpoint of a network the address that it asks for, or any. One
// whose last link is about to go, as when a container starts again, goes at once.
func (s *Service) takeIP(n *Network, ip netip.Addr) (netip.Addr, error) {
	if !ip.IsValid() {
		return n.pool.Take()
	}
	err := n.pool.Claim(ip)
	if errors.Is(err, ipam.ErrInUse) {
		s.leaving.hasten(n, ip)
		err = n.pool.Claim(ip) // also if it was freed in between
	}
	return ip, errdefs.As(errdefs.Forbidden, err)
}

func (s *Service) attach(ctx context.Context, r Request, ahead bool) (_ *Endpoint, err error) {
	e, err := s.begin(ctx, r, true)
	if err != nil {
		return nil, err
	}
	defer func() { s.enroll(e, err) }()
	e.ahead = ahead
	failpoint.Hit("start/network-booked")
	switch n := e.network; {
	case n.link != nil:
		e.Exit = n.exit().IsValid()
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
	e := &Endpoint{network: n, NetworkName: n.rec.Name, Record: Record{
		ContainerID: r.ContainerID, Name: r.Name, NetworkID: n.rec.ID, EndpointID: ident.New(), MAC: MAC(r.MAC), Priority: r.Priority,
		Hostname: r.Hostname, Aliases: r.Aliases, Links: r.Links}}
	return e, s.book(e.ContainerID, e.Name, n, first)
}

// isolate makes a namespace with nothing but loopback.
func (s *Service) isolate(e *Endpoint) error {
	ns, inside, err := s.newNS()
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

// newNS makes a namespace and opens a socket in it.
func (s *Service) newNS() (ns *os.File, inside *netlink.Conn, err error) {
	ns, err = s.maker.New(func() error {
		if err := quietIPv6(); err != nil {
			return err
		}
		var err error
		inside, err = netlink.Open()
		return err
	})
	return ns, inside, err
}

// quietIPv6 turns IPv6 off for the links that will come into the calling
// thread's namespace, and the acceptance of router advertisements with it for
// the case that somebody turns it on again. Loopback keeps ::1, as in Docker.
func quietIPv6() error {
	for _, name := range []string{"disable_ipv6", "accept_ra"} {
		value := "1"
		if name == "accept_ra" {
			value = "0"
		}
		err := sysctl.Write("net/ipv6/conf/default/"+name, value)
		if errors.Is(err, syscall.ENOENT) {
			return nil // the kernel has no IPv6
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// connect gives the endpoint an address and makes its link in a new namespace,
// unless that is to be later.
func (s *Service) connect(e *Endpoint, r Request) (err error) {
	var u undo.Stack
	defer u.Run(&err)
	if err := s.place(e, r.IP); err != nil {
		return err
	}
	u.Add(func() error { s.leaving.add(e); return nil })
	if r.Later {
		return nil
	}
	ns, inside, err := s.newNS()
	if err != nil {
		return err
	}
	u.Add(ns.Close)
	failpoint.Hit("start/network-namespace")
	if err := errors.Join(s.connectLink(e, ns, inside), inside.Close()); err != nil {
		return err
	}
	e.NetNS = ns
	return nil
}

// place gives the endpoint an address, and a link that is not made yet. The
// caller gives the address back by leaving.add.
func (s *Service) place(e *Endpoint, want netip.Addr) error {
	n := e.network
	ip, err := s.takeIP(n, want)
	if err != nil {
		return err
	}
	e.Routed = s.leaving.ports(n) > s.maxPorts // its own is counted, as it is booked
	e.IP = netip.PrefixFrom(ip, n.pool.Subnet().Bits())
	e.Gateway = n.exit()
	if e.MAC == nil {
		e.MAC = MAC(bridge.MACOf(ip))
	}
	e.Link = "tv" + ident.Short(e.EndpointID)
	e.Iface = s.freeIface(e.ContainerID)
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

// connectLink makes the pair, with another index as long as somebody has the
// one that was tried.
func (s *Service) connectLink(e *Endpoint, ns *os.File, inside *netlink.Conn) error {
	for range 100 {
		e.Index = int(s.index.Add(1) & (1<<30 - 1))
		err := e.network.link.Connect(s.host, inside, int(ns.Fd()), bridge.Endpoint{
			Name: e.Link, Index: e.Index, Alias: s.cfg.alias() + ":" + e.ContainerID, IP: e.IP, MAC: net.HardwareAddr(e.MAC), Routed: e.Routed,
			Iface: e.Iface, Exit: e.Exit,
		})
		switch {
		case err == nil && e.Routed:
			return s.wall.AddLink(e.network.link.Name, e.Link)
		case !errors.Is(err, syscall.EEXIST) && !errors.Is(err, syscall.EBUSY):
			return err
		}
	}
	return errors.New("no free interface index")
}

// Enter makes the links of endpoints that were attached without a namespace, in
// ns, which stays the caller's. Ports published before are served then. It
// returns the records, which have changed.
func (s *Service) Enter(ctx context.Context, containerID string, ns *os.File) ([]Record, error) {
	list := s.Endpoints(containerID)
	if len(list) == 0 {
		return nil, fmt.Errorf("no endpoint of container %s waits for a namespace", ident.Short(containerID))
	}
	bridged := list[0].network.link != nil
	inside, err := socketIn(ns, bridged)
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", list[0].NetworkName, err)
	}
	defer inside.Close()
	if !bridged {
		var b netlink.Batch
		b.SetUp(1) // lo
		return []Record{list[0].Record}, errors.Join(inside.Do(&b), ctx.Err())
	}
	var records []Record
	for _, e := range list {
		if e.Index != 0 || e.NetNS != nil {
			return nil, fmt.Errorf("network %s: the endpoint of container %s waits for no namespace", e.NetworkName, ident.Short(containerID))
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
	e.Index = made.Index
	s.mu.Unlock()
	failpoint.Hit("start/network-entered")
	if len(e.Ports) > 0 && !e.Routed {
		if err := e.network.link.Hairpin(s.host, e.Index); err != nil {
			return programming(errdefs.Internal, e, err)
		}
	}
	return nil
}

// socketIn opens a socket in a namespace, in which no link has IPv6 yet.
func socketIn(ns *os.File, quiet bool) (inside *netlink.Conn, err error) {
	err = netns.Do(ns, func() (err error) {
		if quiet {
			if err := quietIPv6(); err != nil {
				return err
			}
		}
		inside, err = netlink.Open()
		return err
	})
	return inside, err
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
	errs = append(errs, s.ports.releaseAll(containerID))
	failpoint.Hit("stop/network-unpublished")
	s.removeAll(containerID)
	s.resolvers.leave(containerID)
	for _, e := range list {
		s.changed(e, false)
		errs = append(errs, e.CloseNetNS())
		if e.network.link != nil {
			s.leaving.add(e)
		}
	}
	return errors.Join(errs...)
}
