// Package network connects containers.
//
// A network is a named place with a driver; an endpoint is a container's place
// in it. Three networks are always there: bridge (the default), host, none.
// Create makes others.
//
//	s, err := network.Open(network.Config{…})
//	report, err := s.Adopt(ctx, records, held)   // once, before anything else
//	ep, err := s.Attach(ctx, network.Request{ContainerID: id, Network: "bridge"})
//	more, err := s.Connect(ctx, network.Request{…}, ep.NetNS)   // one network more
//	ports, err := s.Publish(ctx, id, wanted)
//	…                                            // the container runs in ep.NetNS
//	err = s.Release(ctx, id)
//
// An endpoint with its namespace may also be there before its container (Reserve, Bind), or
// come into a namespace that somebody else makes (Request.Later, Enter).
//
// Locks, in the order in which they are taken: networks.making, limits, table (whose lock
// guards endpoints, too), leaving. Who holds that of reservations or resolvers takes none.
//
// What an endpoint consists of lives in the kernel and dies by itself: the
// link pair goes when the last process, descriptor or socket has left the
// namespace. Only then is its address given to somebody else. What outlives a
// container (neighbour entries, elements of the firewall's maps, reserved
// ports) is taken back by Release, and by Adopt after a crash.
//
// Every kernel object bears the engine's id, and none that bears another is
// ever touched: several engines live side by side.
package network

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/linux/proc"
	"github.com/tare-engine/tare/internal/linux/sysctl"
	"github.com/tare-engine/tare/internal/network/bridge"
	"github.com/tare-engine/tare/internal/network/dns"
	"github.com/tare-engine/tare/internal/network/firewall"
	"github.com/tare-engine/tare/internal/network/ipam"
	"github.com/tare-engine/tare/internal/undo"
)

// Config describes the networks of an engine.
type Config struct {
	// EngineID is the engine's short id. Kernel objects bear it.
	EngineID string
	// Default says that this engine may use the plain names tare and tare0;
	// others get names with their id in them.
	Default bool
	// Dir keeps the records of networks.
	Dir string

	// Link names the bridge of the default network; empty: tare0, or with the
	// id in it. "none" turns the default network off.
	Link string
	// BIP is the bridge's address and subnet; zero: chosen.
	BIP netip.Prefix
	// IPv6 gives the default network addresses of IPv6: of Subnet6, or of one that is
	// chosen. IPv6Auto does so if the host has a way out by IPv6, or if the network had
	// them already.
	IPv6     bool
	IPv6Auto bool
	Subnet6  netip.Prefix
	// MTU of endpoints; 0: 1500.
	MTU int
	// NoICC forbids traffic between containers of the default network.
	NoICC bool
	// NoMasquerade lets containers of the default network out with their own addresses.
	NoMasquerade bool
	// HostIP is where ports are published that name no address; zero: all.
	HostIP netip.Addr
	// HostGateway is what --add-host NAME:host-gateway means; zero: the
	// default network's gateway.
	HostGateway netip.Addr
	// DNS, DNSSearch and DNSOptions are the engine's own for containers that
	// name none.
	DNS, DNSSearch, DNSOptions []string

	// Pools are where subnets come from that nobody has named; none: Docker's.
	Pools []ipam.Range
	// Options are the drivers' of networks that do not say otherwise, by driver. Those
	// that are always there do not have them.
	Options map[string]map[string]string
	// NoRelay leaves clients on ::1, and those of a family that a container has not,
	// without an answer: nothing of the engine's is between a client and a container.
	NoRelay bool

	// HostNames is where the host's programs may ask for NAME.tare; zero: nowhere.
	HostNames netip.Addr
	// Integrate has other programs' firewall rules accept containers' packets that
	// they would drop.
	Integrate bool

	// Changed hears which containers are connected and disconnected; may be nil.
	Changed func(n network.Network, containerID string, connected bool)
	// Log receives what happens in the background; nil: nowhere.
	Log *slog.Logger
}

// defaultMTU is that of Ethernet.
const defaultMTU = 1500

// alias is what the engine's links bear, a container's id behind it.
func (c Config) alias() string { return bridge.Alias + c.EngineID }

// named returns a plain name, or one with the engine's id.
func (c Config) named(plain, with string) string {
	if c.Default {
		return plain
	}
	return with + c.EngineID
}

// table is the name of the engine's table of the packet filter.
func (c Config) table() string { return c.named("tare", "tare_") }

// Service owns networks and endpoints of one engine.
type Service struct {
	cfg      Config
	log      *slog.Logger
	maker    *netns.Maker
	host     *netlink.Conn // of the engine's own namespace
	wall     *firewall.Firewall
	index    atomic.Uint32 // of the link made last
	leaving  *leaving
	maxPorts int // bridge.MaxPorts, smaller in tests

	limits     limits
	parameters *sysctl.Tree // of containers' namespaces

	evict     func(networkID string) // see SetEvict; nil: nobody reserves
	destroyed atomic.Bool            // links are not to be restored
	stop      func()                 // ends what goes on in the background, and waits for that
	done      sync.WaitGroup         // of what goes on

	guarded map[family]bool // forwarding was off before us; set by Adopt, then guarded by networks.making
	*networks
	*table
	*publications
	resolvers *resolvers
}

// makers is the number of threads that make namespaces. The kernel makes two
// at a time hardly faster than one.
const makers = 2

// Open opens the networks of an engine. The default network's link is made or
// put right; rules of the firewall are left alone until Adopt.
func Open(cfg Config) (_ *Service, err error) {
	if err := cfg.checkOptions(); err != nil {
		return nil, err
	}
	s := newService(cfg)
	var u undo.Stack
	defer u.Run(&err)
	if s.host, err = netlink.Open(); err != nil {
		return nil, err
	}
	u.Add(s.host.Close)
	if err := s.openNetworks(); err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	if s.wall, err = firewall.Open(firewall.Config{
		Table: s.cfg.table(), Group: bridge.Group, Integrate: cfg.Integrate, Outside: s.outside, Log: s.log}); err != nil {
		return nil, err
	}
	u.Add(s.wall.Close)
	watch, err := netlink.NewWatch(s.host)
	if err != nil {
		return nil, err
	}
	u.Add(watch.Close)
	if err := s.openNames(&u); err != nil {
		return nil, err
	}
	if err := s.openPublications(); err != nil {
		return nil, err
	}
	s.maker = netns.NewMaker(makers)
	s.watch(watch)
	return s, nil
}

// newService is a service without anything of the kernel's.
func newService(cfg Config) *Service {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Link == "" {
		cfg.Link = cfg.named("tare0", "tare-")
	}
	if cfg.MTU == 0 {
		cfg.MTU = defaultMTU
	}
	s := &Service{
		cfg: cfg, log: cfg.Log, networks: &networks{dir: cfg.Dir, log: cfg.Log}, table: newTable(), maxPorts: bridge.MaxPorts,
		limits: limits{links: map[int]*Endpoint{}}, parameters: sysctl.NewTree(proc.New),
	}
	// High numbers, and different ones in each engine, so that the kernel's own
	// choice and ours do not meet.
	s.index.Store(1<<20 + rand.Uint32N(1<<28))
	return s
}

// openNames opens the name servers, and that of the host if it is to have one.
func (s *Service) openNames(u *undo.Stack) error {
	names, err := dns.Open(directory{s}, s.log)
	if err != nil {
		return err
	}
	u.Add(names.Close)
	s.resolvers = &resolvers{Server: names, servers: map[string][]string{}}
	if !s.cfg.HostNames.IsValid() {
		return nil
	}
	return s.serveHost(s.cfg.HostNames)
}

// Close stops the background work. Endpoints, links and rules stay: containers
// run on, and the next engine adopts them.
func (s *Service) Close() error {
	s.stop()
	s.maker.Close()
	s.parameters.Close()
	var err error
	if s.relay != nil {
		err = s.relay.Close()
	}
	err = errors.Join(err, s.resolvers.Close(), s.LeaveNames(), s.ports.close(), s.wall.Close(), s.host.Close())
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := range s.every() {
		err = errors.Join(err, e.CloseNetNS())
	}
	return err
}

// Destroy removes the engine's links and rules from the kernel. There must be
// no endpoints any more. The service can only be closed afterwards.
func (s *Service) Destroy() error {
	s.destroyed.Store(true)
	var errs []error
	for _, n := range s.all() {
		switch {
		case n.link != nil:
			errs = append(errs, n.link.Remove(s.host))
		case n.parent != nil:
			errs = append(errs, n.parent.Remove(s.host))
		}
	}
	return errors.Join(append(errs, s.wall.Destroy())...)
}

// HeldSockets returns the sockets that reserve a container's ports, and those of its
// name server. They stay the service's; a process that outlives the engine may hold
// duplicates and give them to Adopt.
func (s *Service) HeldSockets(containerID string) []*os.File {
	return append(s.ports.files(containerID), s.resolvers.Sockets(containerID)...)
}

// changed tells that an endpoint has come or gone, unless nobody saw it.
func (s *Service) changed(e *Endpoint, connected bool) {
	if s.cfg.Changed != nil && !e.ahead {
		s.cfg.Changed(s.describe(e.network), e.ContainerID, connected)
	}
}
