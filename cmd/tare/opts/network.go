package opts

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/network"
)

// Network is what one --network says: a name, or name=…,alias=…,ip=….
type Network struct {
	Name       string
	Aliases    []string
	Links      []string
	IPv4, IPv6 netip.Addr
	LinkLocal  []netip.Addr
	MAC        network.HardwareAddr
	DriverOpts map[string]string
	Priority   int
}

// Networks is the --network flag.
type Networks struct{ Values []Network }

// String is empty: help shows no default.
func (n *Networks) String() string { return "" }

// Type is what help calls the value.
func (n *Networks) Type() string { return "network" }

// Set adds a network.
func (n *Networks) Set(s string) error {
	parsed, err := ParseNetwork(s)
	if err != nil {
		return err
	}
	n.Values = append(n.Values, parsed)
	return nil
}

// Mode is the network mode of a container: the first network, or the default.
func (n *Networks) Mode() string {
	if len(n.Values) > 0 {
		return n.Values[0].Name
	}
	return network.NetworkDefault
}

// ParseNetwork reads one value of --network.
func ParseNetwork(s string) (Network, error) {
	var n Network
	if !strings.Contains(s, "=") {
		n.Name = s
		return n, nil
	}
	fields, err := csvFields(s)
	if err != nil {
		return n, err
	}
	for _, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		key, value = strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value)
		if !ok || key == "" {
			return n, fmt.Errorf("invalid field %s", field)
		}
		if err := n.field(key, value); err != nil {
			return n, err
		}
	}
	if n.Name == "" {
		return n, errors.New("network name/id is not specified")
	}
	return n, nil
}

func (n *Network) field(key, value string) (err error) {
	switch key {
	case "name":
		n.Name = value
	case "alias":
		n.Aliases = append(n.Aliases, value)
	case "ip":
		n.IPv4, err = parseAddr(value, netip.Addr.Is4, "IPv4")
	case "ip6":
		n.IPv6, err = parseAddr(value, netip.Addr.Is6, "IPv6")
	case "mac-address":
		n.MAC, err = ValidateMAC(value)
	case "link-local-ip":
		var ip netip.Addr
		ip, err = parseAddr(value, netip.Addr.IsValid, "IP")
		n.LinkLocal = append(n.LinkLocal, ip)
	case "driver-opt":
		k, v, ok := strings.Cut(value, "=")
		if !ok {
			return errors.New("invalid key value pair format in driver options")
		}
		addPair(&n.DriverOpts, strings.ToLower(strings.TrimSpace(k))+"="+v)
	case "gw-priority":
		if n.Priority, err = strconv.Atoi(value); err != nil {
			return fmt.Errorf("invalid gw-priority (%s): %w", value, err)
		}
	default:
		return fmt.Errorf("invalid field key %s", key)
	}
	return err
}

func parseAddr(s string, is func(netip.Addr) bool, kind string) (netip.Addr, error) {
	ip, err := netip.ParseAddr(s)
	if err != nil || !is(ip) {
		return netip.Addr{}, fmt.Errorf("invalid %s address: %s", kind, s)
	}
	return ip, nil
}

// endpoints makes the settings of each network. Flags that name no network
// (--ip, --network-alias, …) belong to the first.
func endpoints(networks []Network, flags Network) (map[string]*network.EndpointSettings, error) {
	if len(networks) == 0 {
		networks = []Network{{Name: network.NetworkDefault}}
	}
	out := map[string]*network.EndpointSettings{}
	for i, n := range networks {
		if i == 0 {
			if err := n.merge(flags); err != nil {
				return nil, err
			}
		}
		if len(networks) > 1 && !userDefined(n.Name) {
			// The engine says it better when it knows that network.
			if strings.HasPrefix(n.Name, "container:") {
				return nil, errors.New("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
			}
		}
		if _, twice := out[n.Name]; twice {
			return nil, fmt.Errorf("network %q is specified multiple times", n.Name)
		}
		out[n.Name] = n.settings()
	}
	return out, nil
}

// merge adds the flags' settings, each of which may be given in one place only.
func (n *Network) merge(flags Network) error {
	switch {
	case len(n.Aliases) > 0 && len(flags.Aliases) > 0:
		return conflict("--network-alias", "alias")
	case len(n.Links) > 0 && len(flags.Links) > 0:
		return conflict("--link", "links")
	case n.IPv4.IsValid() && flags.IPv4.IsValid():
		return conflict("--ip", "IPv4 address")
	case n.IPv6.IsValid() && flags.IPv6.IsValid():
		return conflict("--ip6", "IPv6 address")
	case n.MAC != nil && flags.MAC != nil:
		return conflict("--mac-address", "MAC address")
	case len(n.LinkLocal) > 0 && len(flags.LinkLocal) > 0:
		return conflict("--link-local-ip", "link-local IP addresses")
	}
	n.Aliases = append(n.Aliases, flags.Aliases...)
	n.LinkLocal = append(n.LinkLocal, flags.LinkLocal...)
	if userDefined(n.Name) {
		n.Links = append(n.Links, flags.Links...)
	}
	if flags.IPv4.IsValid() {
		n.IPv4 = flags.IPv4
	}
	if flags.IPv6.IsValid() {
		n.IPv6 = flags.IPv6
	}
	if flags.MAC != nil {
		n.MAC = flags.MAC
	}
	return nil
}

func conflict(flag, what string) error {
	return fmt.Errorf("conflicting options: cannot specify both %s and per-network %s", flag, what)
}

func (n *Network) settings() *network.EndpointSettings {
	s := &network.EndpointSettings{
		Aliases: n.Aliases, Links: n.Links, DriverOpts: n.DriverOpts, MacAddress: n.MAC, GwPriority: n.Priority,
	}
	if n.IPv4.IsValid() || n.IPv6.IsValid() || len(n.LinkLocal) > 0 {
		s.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: n.IPv4, IPv6Address: n.IPv6, LinkLocalIPs: n.LinkLocal}
	}
	return s
}

// userDefined reports whether a network is one that people make, rather than
// a mode.
func userDefined(name string) bool {
	switch name {
	case "default", "bridge", "host", "none":
		return false
	}
	return !strings.HasPrefix(name, "container:")
}
