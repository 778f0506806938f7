package spec

import (
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/api"
	netlinks "github.com/tare-engine/tare/internal/network"
)

// validateModes checks the words that choose namespaces.
func validateModes(req *container.CreateRequest) error {
	h := req.HostConfig
	switch {
	case !h.PidMode.Valid():
		return invalid("invalid PID mode: %s", shown(string(h.PidMode)))
	case !h.IpcMode.Valid() || h.IpcMode.IsContainer() && h.IpcMode.Container() == "":
		return invalid("invalid IPC mode: %s", shown(string(h.IpcMode)))
	case !h.UTSMode.Valid():
		return invalid("invalid UTS mode: %s", shown(string(h.UTSMode)))
	case !h.CgroupnsMode.Valid():
		return invalid("invalid cgroup namespace mode: %s", shown(string(h.CgroupnsMode)))
	case h.NetworkMode.IsContainer() && h.NetworkMode.ConnectedContainer() == "":
		return invalid("Invalid network mode: invalid container format container:<name|id>")
	}
	if path, ok := NetworkPath(h.NetworkMode); ok && (!filepath.IsAbs(path) || filepath.Clean(path) != path) {
		return invalid("invalid network mode %s: ns: is followed by the absolute path of a network namespace", shown(string(h.NetworkMode)))
	}
	return validateUserns(h.UsernsMode)
}

// ValidateLinks refuses links of a container that is in no network where they are known.
func ValidateLinks(h *container.HostConfig) error {
	for name, is := range map[string]bool{"container": h.NetworkMode.IsContainer(), "host": h.NetworkMode.IsHost(), "none": h.NetworkMode.IsNone()} {
		if is && len(h.Links) > 0 {
			return invalid("conflicting options: %s type networking can't be used with links. This would result in undefined behavior", name)
		}
	}
	return nil
}

// validateConflicts finds options that exclude each other.
func validateConflicts(req *container.CreateRequest) error {
	h, c := req.HostConfig, req.Config
	if h.UTSMode.IsHost() && c.Hostname != "" {
		return invalid("conflicting options: hostname and the UTS mode")
	}
	if h.UTSMode.IsHost() && c.Domainname != "" {
		return invalid("conflicting options: domainname and the UTS mode")
	}
	if path, ok := NetworkPath(h.NetworkMode); ok && (len(h.PortBindings) > 0 || h.PublishAllPorts) {
		return invalid("conflicting options: port publishing and the network namespace %s, which is not the engine's", shown(path))
	}
	if _, isPath := NetworkPath(h.NetworkMode); c.NetworkDisabled && (isPath || h.NetworkMode.IsHost() || h.NetworkMode.IsContainer()) {
		return invalid("conflicting options: NetworkDisabled, which is no network, and the network mode %s, which is another's", shown(string(h.NetworkMode)))
	}
	if c.NetworkDisabled && OwnOf(h).Network != (api.NetworkLimits{}) {
		return invalid("conflicting options: %snet-* and NetworkDisabled", api.ExtensionPrefix)
	}
	if !h.NetworkMode.IsContainer() {
		return nil
	}
	for conflict, set := range map[string]bool{
		"hostname and the network mode":                       c.Hostname != "",
		"dns and the network mode":                            len(h.DNS) > 0,
		"custom host-to-IP mapping and the network mode":      len(h.ExtraHosts) > 0,
		"port publishing and the container type network mode": len(h.PortBindings) > 0 || h.PublishAllPorts,
		"port exposing and the container type network mode":   len(c.ExposedPorts) > 0,
	} {
		if set {
			return invalid("conflicting options: %s", conflict)
		}
	}
	return nil
}

// NetworkPath reads the mode ns:PATH, as Podman has it: the container is in a network
// namespace that somebody else has made.
func NetworkPath(mode container.NetworkMode) (path string, ok bool) {
	return strings.CutPrefix(string(mode), "ns:")
}

// NetworkMode is the mode by which a container has a network: none, whatever else is
// said, where it is to have none.
func NetworkMode(c *container.Config, h *container.HostConfig) container.NetworkMode {
	if c.NetworkDisabled {
		return "none"
	}
	return h.NetworkMode
}

// engineNetworks are those that exist without having been made.
var engineNetworks = []string{"", "default", "bridge", "host", "none"}

// Whether a network exists is asked when the container starts, as with Docker.
func validateNetworking(req *container.CreateRequest) error {
	h := req.HostConfig
	if req.NetworkingConfig != nil {
		for _, name := range sortedKeysOf(req.NetworkingConfig.EndpointsConfig) {
			if err := ValidateEndpoint(name, req.NetworkingConfig.EndpointsConfig[name], h.NetworkMode); err != nil {
				return err
			}
		}
	}
	for _, host := range h.ExtraHosts {
		if err := validateExtraHost(host); err != nil {
			return err
		}
	}
	for field, list := range map[string][]string{"DnsSearch": h.DNSSearch, "DnsOptions": h.DNSOptions} {
		for _, word := range list { // becomes a line of resolv.conf
			if strings.ContainsFunc(word, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
				return invalid("invalid value %q for %s", shown(word), field)
			}
		}
	}
	return ValidatePorts(h, req.Config)
}

// ValidateEndpoint refuses settings of a container's place in the network of a
// name that no network can have.
func ValidateEndpoint(name string, e *network.EndpointSettings, mode container.NetworkMode) error {
	if e == nil {
		return nil
	}
	own := !contains(engineNetworks, name) // made by somebody
	if path, ok := NetworkPath(container.NetworkMode(name)); ok && !reflect.DeepEqual(*e, network.EndpointSettings{}) {
		return invalid("conflicting options: settings of a network and the network namespace %s, which is not the engine's", shown(path))
	}
	switch ipam := e.IPAMConfig; {
	case ipam != nil && slices.ContainsFunc(ipam.LinkLocalIPs, notLinkLocal):
		return invalid("invalid config for network %s: invalid endpoint settings:\ninvalid link local IP address: %s", shown(name), ipam.LinkLocalIPs[slices.IndexFunc(ipam.LinkLocalIPs, notLinkLocal)])
	case ipam != nil && ipam.IPv4Address.IsValid() && !ipam.IPv4Address.Is4():
		return invalid("invalid config for network %s: invalid endpoint settings:\ninvalid IPv4 address: %s", shown(name), ipam.IPv4Address)
	case ipam != nil && ipam.IPv6Address.IsValid() && !ipam.IPv6Address.Is6():
		return invalid("invalid config for network %s: invalid endpoint settings:\ninvalid IPv6 address: %s", shown(name), ipam.IPv6Address)
	case ipam != nil && (ipam.IPv4Address.IsValid() || ipam.IPv6Address.IsValid()) && !own:
		return invalid("invalid config for network %s: invalid endpoint settings:\nuser specified IP address is supported on user defined networks only", shown(name))
	case len(e.Aliases) > 0 && !own:
		return invalid("invalid config for network %s: invalid endpoint settings:\nnetwork-scoped aliases are only supported for user-defined networks", shown(name))
	case len(e.MacAddress) > 0 && (mode.IsHost() || mode.IsContainer() || mode.IsNone()):
		return invalid("conflicting options: mac-address and the network mode")
	case len(e.MacAddress) > 0 && (len(e.MacAddress) != 6 || e.MacAddress[0]&1 == 1 || e.MacAddress.String() == "00:00:00:00:00:00"): // is_valid_ether_addr
		return invalid("invalid MAC address: %s", e.MacAddress)
	}
	// Options of other drivers are kept and mean nothing, as with Docker.
	if list, ok := e.DriverOpts[OptionSysctls]; ok {
		if _, err := netlinks.ParseSysctls(list); err != nil {
			return err
		}
	}
	return nil
}

func notLinkLocal(a netip.Addr) bool { return !a.IsLinkLocalUnicast() || a.Zone() != "" }

// OptionSysctls is the driver's option of an endpoint that sets parameters of its link.
const OptionSysctls = "com.docker.network.endpoint.sysctls"

// OptionInterfaceName is the driver's option of an endpoint that names its link in the
// container.
const OptionInterfaceName = "com.docker.network.endpoint.ifname"

// validateExtraHost reads NAME:ADDRESS (or NAME=ADDRESS).
func validateExtraHost(s string) error {
	name, ip, ok := strings.Cut(s, "=")
	if !ok {
		name, ip, ok = strings.Cut(s, ":")
	}
	if !ok || name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return invalid("bad format for add-host: %q", shown(s))
	}
	if ip == "host-gateway" {
		return nil
	}
	if _, err := netip.ParseAddr(strings.Trim(ip, "[]")); err != nil {
		return invalid("invalid IP address in add-host: %q", shown(ip))
	}
	return nil
}

// ValidatePorts checks published and exposed ports.
func ValidatePorts(h *container.HostConfig, c *container.Config) error {
	for port := range c.ExposedPorts {
		if err := validatePort(port); err != nil {
			return err
		}
	}
	for port, bindings := range h.PortBindings {
		if err := validatePort(port); err != nil {
			return err
		}
		for _, b := range bindings {
			if !validHostPort(b.HostPort) {
				return invalid("invalid port specification: %q", shown(b.HostPort))
			}
		}
	}
	return nil
}

func validatePort(p network.Port) error {
	if p.Num() == 0 || !slices.Contains([]network.IPProtocol{network.TCP, network.UDP, network.SCTP}, p.Proto()) {
		return invalid("invalid port specification: %q", p.String())
	}
	return nil
}

// validHostPort accepts nothing (any port), a number, or a range of numbers.
func validHostPort(s string) bool {
	first, last, isRange := strings.Cut(s, "-")
	if s == "" {
		return true
	}
	a, err := strconv.ParseUint(first, 10, 16)
	if err != nil {
		return false
	}
	if !isRange {
		return true
	}
	b, err := strconv.ParseUint(last, 10, 16)
	return err == nil && a > 0 && a <= b
}
