package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/network/vlan"
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

// Endpoint is a container's place in a network. What changes of it (its name, ways out,
// limits and ports; with Enter its link; with Bind almost all) does so under the table's
// lock, by calls for its container only, of which the caller makes one at a time: he reads
// it without the lock.
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
	asked   bool          // its link has a name that was asked for
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
	Beside      bool         `json:"routed,omitempty"` // the bridge: without a port of it
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
	switch s, ok := n.segmentOf(ip); {
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

// made says that an endpoint has its link.
func (e *Endpoint) made() bool { return e.Index != 0 || e.Netns != nil }

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
