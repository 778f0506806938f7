package network

import (
	"fmt"
	"maps"
	"strconv"

	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/network/ipam"
)

// List returns all networks.
func (s *Service) List() []network.Summary {
	var all []network.Summary
	for _, n := range s.all() {
		all = append(all, network.Summary{Network: s.describe(n)})
	}
	return all
}

// Inspect returns one network, by name or id, with its containers.
func (s *Service) Inspect(ref string) (network.Inspect, error) {
	n, err := s.find(ref)
	if err != nil {
		return network.Inspect{}, err
	}
	in := network.Inspect{Network: s.describe(n), Containers: map[string]network.EndpointResource{}}
	if len(n.segments) > 0 {
		in.Status = &network.Status{IPAM: network.IPAMStatus{Subnets: n.usage()}}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := range s.every() {
		if e.network == n && !e.ahead {
			in.Containers[e.ContainerID] = network.EndpointResource{Name: e.Name, EndpointID: e.EndpointID, MacAddress: network.HardwareAddr(e.MAC), IPv4Address: e.IP, IPv6Address: e.IP6}
		}
	}
	return in, nil
}

// usage says how many addresses of each subnet are in use.
func (n *Network) usage() network.SubnetStatuses {
	all := network.SubnetStatuses{}
	for _, s := range n.segments {
		var u network.SubnetStatus
		u.IPsInUse, u.DynamicIPsAvailable = s.Status()
		all[s.Subnet()] = u
	}
	return all
}

// describe says what List and Inspect have in common.
func (s *Service) describe(n *Network) network.Network {
	d := network.Network{
		Name: n.rec.Name, ID: n.rec.ID, Created: n.rec.Created, Scope: "local", Driver: n.rec.Driver,
		EnableIPv4: n.rec.has(v4) || !n.rec.has(v6), EnableIPv6: n.rec.has(v6),
		Internal: n.rec.Internal, Attachable: n.rec.Attachable,
		IPAM: network.IPAM{Driver: "default", Options: n.rec.IPAM.Options, Config: []network.IPAMConfig{}}, Options: copied(n.rec.Options), Labels: copied(n.rec.Labels),
	}
	for _, a := range n.rec.addressings() {
		c := a.asked
		if c.Gateway = a.gateway; !c.Subnet.IsValid() {
			c.Subnet = a.subnet
		}
		d.IPAM.Config = append(d.IPAM.Config, c)
	}
	if c := n.rec.Configuration; c != nil {
		d.ConfigOnly, d.IPAM.Config = true, append(d.IPAM.Config, n.rec.IPAM.Config...)
		d.EnableIPv4, d.EnableIPv6 = c.EnableIPv4 == nil || *c.EnableIPv4, c.EnableIPv6 != nil && *c.EnableIPv6
	}
	if from, err := s.find(n.rec.ConfigFrom); n.rec.ConfigFrom != "" && err == nil {
		d.ConfigFrom.Network = from.rec.Name
	}
	if n.link != nil && n.predefined() {
		d.Options = s.bridgeOptions(n)
	}
	return d
}

// copied is a copy that is never nil.
func copied(m map[string]string) map[string]string {
	c := make(map[string]string, len(m))
	maps.Copy(c, m)
	return c
}

// bridgeOptions are the default network's settings by Docker's names, which
// clients look for.
func (s *Service) bridgeOptions(n *Network) map[string]string {
	return map[string]string{
		optionPrefix + "default_bridge": "true",
		optionICC:                       strconv.FormatBool(n.settings.icc),
		optionMasquerade:                strconv.FormatBool(n.settings.masquerade),
		optionHostIP:                    n.settings.hostIP.String(),
		optionName:                      n.link.Name,
		optionMTU:                       strconv.Itoa(n.settings.mtu),
	}
}

// Settings says an endpoint in the API's terms.
func (e *Endpoint) Settings() *network.EndpointSettings {
	s := &network.EndpointSettings{NetworkID: e.NetworkID, EndpointID: e.EndpointID, DNSNames: e.Names()}
	if e.IP.IsValid() {
		s.IPAddress, s.IPPrefixLen, s.Gateway = e.IP.Addr(), e.IP.Bits(), e.Gateway
	}
	if e.IP6.IsValid() {
		s.GlobalIPv6Address, s.GlobalIPv6PrefixLen, s.IPv6Gateway = e.IP6.Addr(), e.IP6.Bits(), e.Gateway6
	}
	if len(e.addrs()) > 0 {
		s.MacAddress = network.HardwareAddr(e.MAC)
	}
	return s
}

// Pools are where subnets come from that nobody has named; none if the engine does not say.
func (s *Service) Pools() []ipam.Range { return s.cfg.Pools }

// Warnings says what of the host keeps containers from the network.
func (s *Service) Warnings() ([]string, error) {
	all, err := s.wall.Warnings()
	if err != nil {
		return nil, err
	}
	lost, err := s.lostRoutes()
	for _, l := range lost {
		all = append(all, fmt.Sprintf("WARNING: the host's route to %s, of network %s, was removed: put it back (ip route add %s dev %s), or start the engine again", l.Dst, l.of.rec.Name, l.Dst, l.link))
	}
	for _, e := range s.missing() {
		all = append(all, fmt.Sprintf("WARNING: container %s has lost its link to network %s: somebody has deleted it; disconnect it from the network and connect it again", e.Name, e.NetworkName))
	}
	return all, err
}
