package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/network/bridge"
	"github.com/tare-engine/tare/internal/network/ipam"
	"github.com/tare-engine/tare/internal/undo"
)

// Create makes a network and returns its ID. When it returns the network is on
// disk. A kill before that leaves a link at most, which Adopt removes.
func (s *Service) Create(r network.CreateRequest) (_ string, err error) {
	if err := checkRequest(r); err != nil {
		return "", err
	}
	s.making.Lock()
	defer s.making.Unlock()
	for _, n := range s.all() {
		if n.rec.Name == r.Name {
			return "", errdefs.New(errdefs.Conflict, "network with name %s already exists", r.Name)
		}
	}
	r = s.cfg.withDefaults(r)
	if r.ConfigOnly {
		return s.createConfiguration(r)
	}
	n, err := s.requested(r)
	if err != nil {
		return "", err
	}
	var u undo.Stack
	defer u.Run(&err)
	if err := s.bringUp(n); err != nil {
		if errors.Is(err, bridge.ErrForeign) {
			err = errdefs.As(errdefs.Conflict, err)
		}
		return "", err
	}
	u.Add(func() error { return s.takeDown(n) })
	failpoint.Hit("network/link-made")
	if n.parent != nil {
		if err := n.parent.Fits(s.host); err != nil {
			return "", err
		}
	}
	if n.link != nil {
		if err := s.guard(n, &u); err != nil {
			return "", err
		}
	}
	failpoint.Hit("network/rules-made")
	if err := s.putRecord(n.rec); err != nil {
		return "", errors.Join(err, s.deleteRecord(n.rec.ID))
	}
	failpoint.Hit("network/recorded")
	s.set(append(slices.Clone(s.all()), n))
	return n.rec.ID, nil
}

// requested is the network that a request describes, of which nothing is in the kernel or
// on disk yet.
//
// Preconditions: s.making is held.
func (s *Service) requested(r network.CreateRequest) (*Network, error) {
	r, from, err := s.configured(r)
	if err != nil {
		return nil, err
	}
	rec := newRecord(r)
	rec.ConfigFrom = from
	set, err := settingsOf(&rec)
	if err != nil {
		return nil, err
	}
	if err := set.check(r.Internal, enabled(r, v6)); err != nil {
		return nil, err
	}
	if err := s.address(&rec, r, set); err != nil {
		return nil, err
	}
	n, err := newNetwork(rec)
	if err != nil {
		return nil, err
	}
	return n, s.conflict(n)
}

// guard has the firewall know a network.
func (s *Service) guard(n *Network, u *undo.Stack) error {
	u.Add(func() error { return s.wall.RemoveNetwork(n.link.Name) })
	if err := s.wall.AddNetwork(n.rules()); err != nil {
		return err
	}
	if !n.rec.Gateway6.IsValid() {
		return nil
	}
	return s.forward(v6)
}

// driverOf is the driver that a request names.
func driverOf(r network.CreateRequest) string {
	if r.Driver == "" || r.Driver == "default" {
		return "bridge"
	}
	return r.Driver
}

// checkRequest refuses what can be refused without looking at what there is.
func checkRequest(r network.CreateRequest) error {
	for _, p := range predefined {
		if r.Name == p.name || r.Name == "default" {
			return errdefs.New(errdefs.Forbidden, "operation is not permitted on predefined %s network", r.Name)
		}
		if p.driver != "bridge" && r.Driver == p.driver {
			return errdefs.New(errdefs.Forbidden, "only one instance of %q network is allowed", r.Driver)
		}
	}
	switch {
	case strings.TrimSpace(r.Name) == "":
		return errdefs.New(errdefs.InvalidArgument, "invalid name: name is empty")
	case strings.ContainsFunc(r.Name, unicode.IsControl) || strings.HasPrefix(r.Name, "container:"):
		return errdefs.New(errdefs.InvalidArgument, "invalid network name: %q", r.Name)
	case r.Ingress:
		return errdefs.New(errdefs.InvalidArgument, "Ingress network can only be global scope network")
	case r.Scope == "swarm":
		return errdefs.New(errdefs.Forbidden, "cannot create a swarm scoped network when swarm is not active")
	case r.Scope != "" && r.Scope != "local" && r.Scope != "global":
		return errdefs.New(errdefs.InvalidArgument, "invalid scope %q: want local", r.Scope)
	case r.Scope == "global":
		return errNoSwarm()
	case r.ConfigOnly && sourceOf(r) != "":
		return errdefs.New(errdefs.InvalidArgument, "a configuration is not made from another: either ConfigOnly or ConfigFrom")
	case !enabled(r, v4) && !enabled(r, v6):
		return errdefs.New(errdefs.InvalidArgument, "IPv4 or IPv6 must be enabled")
	case r.Driver == "overlay":
		return errNoSwarm()
	case driverOf(r) != "bridge" && !onParent(r.Driver):
		return errdefs.New(errdefs.NotFound, "could not find plugin %s in v1 plugin registry: plugin not found", r.Driver)
	}
	return errors.Join(checkIPAMDriver(r.IPAM), checkEnabled(r))
}

// errNoSwarm is Docker's error of what only a swarm has.
func errNoSwarm() error {
	return errdefs.New(errdefs.Unavailable, `This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`)
}

// checkIPAMDriver refuses another driver of addresses than the default one, whose options
// are kept and mean nothing, as with Docker.
func checkIPAMDriver(i *network.IPAM) error {
	switch {
	case i == nil || i.Driver == "" || i.Driver == "default":
		return nil
	case i.Driver == "null" && len(i.Config) > 0: // it gives out none, which none of the drivers of networks takes
		return errdefs.New(errdefs.InvalidArgument, "null ipam driver does not handle specific address pool requests")
	case i.Driver == "null":
		return errdefs.New(errdefs.InvalidArgument, "ipv4 pool is empty")
	}
	return errdefs.New(errdefs.NotFound, "plugin %q not found", i.Driver)
}

// enabled says whether a network is to have addresses of a family.
func enabled(r network.CreateRequest, f family) bool {
	if asked := of(f, r.EnableIPv4, r.EnableIPv6); asked != nil {
		return *asked
	}
	if asked, err := strconv.ParseBool(r.Options[of(f, optionIPv4, optionIPv6)]); err == nil {
		return asked
	}
	return f == v4
}

// checkEnabled refuses options that say neither whether a network is to have addresses
// of a family nor whether not.
func checkEnabled(r network.CreateRequest) error {
	for _, name := range []string{optionIPv4, optionIPv6} {
		if value, ok := r.Options[name]; ok {
			if _, err := strconv.ParseBool(value); err != nil {
				return errdefs.New(errdefs.InvalidArgument, "driver-opt %q is not a valid bool", name)
			}
		}
	}
	return nil
}

// address settles the gateways' addresses.
func (s *Service) address(rec *record, r network.CreateRequest, set settings) error {
	count := map[family]int{}
	for _, c := range rec.IPAM.Config {
		if err := checkIPAM(c); err != nil {
			return err
		}
		if !c.Subnet.IsValid() {
			continue
		}
		f := familyOf(c.Subnet.Addr())
		if count[f]++; count[f] > 1 && rec.Driver == "bridge" {
			return errdefs.New(errdefs.InvalidArgument, "bridge driver doesn't support multiple subnets")
		}
		if !enabled(r, f) {
			return errdefs.New(errdefs.InvalidArgument, "invalid network config:\ninvalid subnet %s: the network has no addresses of IPv%d", c.Subnet, f)
		}
	}
	for _, f := range families {
		if !enabled(r, f) {
			continue
		}
		if err := s.addressOf(rec, f, set.hasGateway(f, rec.Internal, rec.asked(f).Gateway.IsValid())); err != nil {
			return err
		}
	}
	return nil
}

// addressOf settles the gateway's address of one family: what the request says, or the
// first of its range or subnet, or of one that is chosen. Without a gateway it is the
// subnet that is settled.
func (s *Service) addressOf(r *record, f family, gate bool) error {
	c := r.asked(f)
	subnet := c.Subnet.Masked()
	if !c.Subnet.IsValid() {
		var err error
		if subnet, err = s.choose(f); err != nil {
			return err
		}
		*r.chosen(f) = true
	}
	pool, err := poolOf(subnet, c)
	if err != nil {
		return errdefs.As(errdefs.InvalidArgument, err)
	}
	gateway := c.Gateway
	if !gate {
		*r.bare(f) = subnet
		return nil
	}
	if !gateway.IsValid() {
		gateway, err = pool.Take()
	} else {
		err = pool.Claim(gateway)
	}
	if err != nil {
		return errdefs.New(errdefs.Forbidden, "failed to allocate gateway (%s): %w", addrOrNone(c.Gateway), err)
	}
	*r.gateway(f) = netip.PrefixFrom(gateway, subnet.Bits())
	return nil
}

// choose finds a subnet that nobody has.
func (s *Service) choose(f family) (netip.Prefix, error) {
	inUse, err := subnetsInUse(s.host, 0, f)
	if err != nil {
		return netip.Prefix{}, err
	}
	for _, n := range s.all() {
		inUse = append(inUse, n.rec.prefixes()...)
	}
	subnet, err := ipam.Choose(s.cfg.ranges(f), inUse)
	return subnet, errdefs.As(errdefs.InvalidArgument, err)
}

// ranges are where subnets come from that nobody has named. Pools of IPv6 only leave none
// of IPv4, as with Docker.
func (c Config) ranges(f family) []ipam.Range {
	var own []ipam.Range
	for _, r := range c.Pools {
		if familyOf(r.Base.Addr()) == f {
			own = append(own, r)
		}
	}
	switch {
	case len(own) > 0 || len(c.Pools) > 0 && f == v4:
		return own
	case f == v6:
		return ipam.UniqueLocal(c.EngineID)
	}
	return ipam.DefaultRanges()
}

func addrOrNone(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// checkIPAM refuses an inconsistent configuration of one subnet.
func checkIPAM(c network.IPAMConfig) error {
	wrong := func(format string, args ...any) error {
		return errdefs.New(errdefs.InvalidArgument, "invalid network config:\n"+format, args...)
	}
	if !c.Subnet.IsValid() {
		if c.Gateway.IsValid() || c.IPRange.IsValid() || len(c.AuxAddress) > 0 {
			return wrong("a subnet is needed beside a gateway, a range or auxiliary addresses")
		}
		return nil
	}
	if err := checkSubnet(c.Subnet); err != nil {
		return wrong("%w", err)
	}
	if c.IPRange.IsValid() && (c.IPRange.Bits() < c.Subnet.Bits() || !c.Subnet.Contains(c.IPRange.Addr())) {
		return wrong("invalid ip-range %s: it is not within the subnet %s", c.IPRange, c.Subnet)
	}
	if c.Gateway.IsValid() && !c.Subnet.Contains(c.Gateway) {
		return wrong("invalid gateway %s: parent subnet %s doesn't contain this address", c.Gateway, c.Subnet)
	}
	for name, a := range c.AuxAddress {
		if !c.Subnet.Contains(a) {
			return wrong("invalid auxiliary address %s (%s): parent subnet %s doesn't contain this address", a, name, c.Subnet)
		}
	}
	return nil
}

// checkSubnet refuses what is no subnet of hosts, or has no room for a container
// beside its gateway.
func checkSubnet(p netip.Prefix) error {
	switch a := p.Masked().Addr(); {
	case p != p.Masked():
		return fmt.Errorf("invalid subnet %s: it should be %s", p, p.Masked())
	case p.Bits() == a.BitLen():
		return fmt.Errorf("invalid subnet %s: it has no room for containers", p)
	case a.IsLoopback() || a.IsMulticast() || a.IsUnspecified() || a.Is4In6() || a.Is4() && a.As4()[0] >= 240:
		return fmt.Errorf("invalid subnet %s: these are no addresses of hosts", p)
	}
	return nil
}

// poolOf makes the pool of a subnet, without the auxiliary addresses.
func poolOf(subnet netip.Prefix, c network.IPAMConfig) (*ipam.Pool, error) {
	pool := ipam.New(subnet)
	if c.IPRange.IsValid() {
		pool = ipam.NewRange(subnet, c.IPRange)
	}
	for _, a := range c.AuxAddress {
		if err := pool.Claim(a); err != nil {
			return nil, err
		}
	}
	return pool, nil
}

// newNetwork makes the network of a record, without its link. On error it is one
// that nothing can be attached to.
func newNetwork(rec record) (n *Network, err error) {
	n = &Network{rec: rec}
	if n.settings, err = settingsOf(&rec); err != nil {
		return n, err
	}
	return n, n.openSubnets()
}

// conflict refuses a network whose addresses or link another one has.
func (ns *networks) conflict(n *Network) error {
	for _, other := range ns.all() {
		for _, a := range n.rec.prefixes() {
			if slices.ContainsFunc(other.rec.prefixes(), a.Overlaps) {
				return errdefs.New(errdefs.Forbidden, "invalid pool request: Pool overlaps with other one on this address space")
			}
		}
		if err := n.clash(other); err != nil {
			return err
		}
		if n.settings.link != "" && other.rec.Driver == "bridge" && other.settings.link == n.settings.link {
			return errdefs.New(errdefs.Forbidden, "cannot create network %s (%s): conflicts with network %s (%s): networks have same bridge name",
				n.rec.ID, n.settings.link, other.rec.ID, other.settings.link)
		}
	}
	return nil
}
