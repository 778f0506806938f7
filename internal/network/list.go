package network

import (
	"strconv"

	"github.com/moby/moby/api/types/network"
)

// List returns all networks.
func (s *Service) List() []network.Summary {
	var all []network.Summary
	for _, n := range s.networks {
		all = append(all, network.Summary{Network: s.describe(n)})
	}
	return all
}

// Inspect returns one network, by name or id, with its containers.
func (s *Service) Inspect(ref string) (network.Inspect, error) {
	n, err := s.network(ref)
	if err != nil {
		return network.Inspect{}, err
	}
	in := network.Inspect{Network: s.describe(n), Containers: map[string]network.EndpointResource{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, e := range s.endpoints {
		if e.network == n && !e.ahead {
			in.Containers[id] = network.EndpointResource{Name: e.Name, EndpointID: e.EndpointID, MacAddress: network.HardwareAddr(e.MAC), IPv4Address: e.IP}
		}
	}
	return in, nil
}

// describe says what List and Inspect have in common.
func (s *Service) describe(n *Network) network.Network {
	d := network.Network{
		Name: n.rec.Name, ID: n.rec.ID, Created: n.rec.Created, Scope: "local", Driver: n.rec.Driver, EnableIPv4: true,
		IPAM: network.IPAM{Driver: "default", Config: []network.IPAMConfig{}}, Options: map[string]string{}, Labels: map[string]string{},
	}
	if n.link != nil {
		d.IPAM.Config = append(d.IPAM.Config, network.IPAMConfig{Subnet: n.link.Gateway.Masked(), Gateway: n.link.Gateway.Addr()})
		d.Options = s.bridgeOptions(n)
	}
	return d
}

// bridgeOptions are the default network's settings by Docker's names, which
// clients look for.
func (s *Service) bridgeOptions(n *Network) map[string]string {
	const prefix = "com.docker.network.bridge."
	return map[string]string{
		prefix + "default_bridge":       "true",
		prefix + "enable_icc":           strconv.FormatBool(!s.cfg.NoICC),
		prefix + "enable_ip_masquerade": "true",
		prefix + "host_binding_ipv4":    s.cfg.hostIP().String(),
		prefix + "name":                 n.link.Name,
		"com.docker.network.driver.mtu": strconv.Itoa(s.cfg.MTU),
	}
}

// Warnings says what of the host keeps containers from the network.
func (s *Service) Warnings() ([]string, error) { return s.wall.Warnings() }
