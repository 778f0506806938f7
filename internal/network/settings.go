package network

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/network/vlan"
)

// settings are what the driver is told of a network.
type settings struct {
	link       string // of the bridge
	icc        bool   // containers reach each other
	masquerade bool   // containers go out with the host's address
	hostIP     netip.Addr
	sources    map[family]netip.Addr // with which containers go out; none: that of the link
	mtu        int
	modes      map[family]string // the gateway's; empty: modeNAT
	inhibit    bool              // the link has no address of IPv4: somebody else gives it one
	trusted    []string          // links of the host by which published ports are reached at the containers' addresses
	prefix     string            // of the names of containers' links
	vlan       *vlan.Options     // of macvlan and ipvlan, for which of the others only prefix counts; nil else
}

// Modes of a network's gateway.
const (
	modeNAT         = "nat"             // the host's address stands for the containers'
	modeUnprotected = "nat-unprotected" // and machines outside reach all of the containers' ports
	modeRouted      = "routed"          // containers are reached at their addresses, at published ports
	modeIsolated    = "isolated"        // there is none: not even the host is in the network
)

// mode is the gateway's for a family.
func (s settings) mode(f family) string { return cmp.Or(s.modes[f], modeNAT) }

// having are the families of a mode.
func (s settings) having(mode string) map[family]bool {
	m := map[family]bool{}
	for _, f := range families {
		if s.mode(f) == mode {
			m[f] = true
		}
	}
	return m
}

// hasGateway says that a network has an address of a family by which containers may go out.
// Of networks without a link of the engine's it is another machine's, which has to be named.
func (s settings) hasGateway(f family, internal, named bool) bool {
	if s.vlan != nil {
		return named
	}
	return s.mode(f) != modeIsolated && !(f == v4 && s.inhibit && internal)
}

// check refuses settings that a network to be made cannot have.
func (s settings) check(internal, ipv6 bool) error {
	mtu, least := s.mtu, 68 // RFC 791
	if s.vlan != nil {
		mtu = s.vlan.MTU
	}
	if ipv6 {
		least = 1280 // RFC 8200; the kernel takes IPv6 away from smaller links
	}
	if mtu != 0 && mtu < least {
		return errdefs.New(errdefs.InvalidArgument, "invalid MTU number: %d: want %d to 65535 bytes, or 0 for the default", mtu, least)
	}
	for _, f := range families {
		if s.mode(f) == modeIsolated && !internal {
			return errdefs.New(errdefs.InvalidArgument, "gateway mode 'isolated' can only be used for an internal network")
		}
	}
	return nil
}

// defaultPrefix begins the names of containers' links.
const defaultPrefix = "eth"

// The options of Docker's bridge driver, which clients know.
const (
	optionPrefix     = "com.docker.network.bridge."
	optionName       = optionPrefix + "name"
	optionICC        = optionPrefix + "enable_icc"
	optionMasquerade = optionPrefix + "enable_ip_masquerade"
	optionHostIP     = optionPrefix + "host_binding_ipv4"
	optionSource     = "com.docker.network.host_ipv4"
	optionSource6    = "com.docker.network.host_ipv6"
	optionInhibit    = optionPrefix + "inhibit_ipv4"
	optionTrusted    = optionPrefix + "trusted_host_interfaces"
	optionMode       = optionPrefix + "gateway_mode_ipv4"
	optionMode6      = optionPrefix + "gateway_mode_ipv6"
	optionIPv4       = "com.docker.network.enable_ipv4"
	optionIPv6       = "com.docker.network.enable_ipv6"
	optionMTU        = "com.docker.network.driver.mtu"
	optionIfaces     = "com.docker.network.container_iface_prefix"
)

// settings are those of the default network.
func (c Config) settings() settings {
	return settings{link: c.Link, icc: !c.NoICC, masquerade: !c.NoMasquerade, hostIP: c.hostIP(), mtu: c.MTU, prefix: defaultPrefix}
}

// hostIP is where a port is published that names no address.
func (c Config) hostIP() netip.Addr {
	if c.HostIP.IsValid() {
		return c.HostIP
	}
	return netip.IPv4Unspecified()
}

// settingsOf reads the options of a network.
func settingsOf(r *record) (settings, error) {
	if onParent(r.Driver) {
		return vlanSettings(r.Driver, r.ID, r.Options)
	}
	return bridgeSettings(r.ID, r.Options)
}

// bridgeSettings reads the options of a bridge network. Those of other drivers and of
// nobody are kept and mean nothing, as with Docker.
func bridgeSettings(id string, options map[string]string) (settings, error) {
	s := settings{
		link: cmp.Or(options[optionName], "br-"+ident.Short(id)), icc: true, masquerade: true, hostIP: netip.IPv4Unspecified(), mtu: defaultMTU,
		modes: map[family]string{}, prefix: defaultPrefix, sources: map[family]netip.Addr{},
	}
	for name, value := range options {
		var err error
		switch name {
		case optionName:
			err = checkLinkName(s.link)
		case optionICC:
			s.icc, err = strconv.ParseBool(value)
		case optionMasquerade:
			s.masquerade, err = strconv.ParseBool(value)
		case optionHostIP:
			if s.hostIP, err = netip.ParseAddr(value); err != nil || !s.hostIP.Is4() {
				err = fmt.Errorf("nil ip")
			}
		case optionSource:
			s.sources[v4], err = leavingAs(value, v4)
		case optionSource6:
			s.sources[v6], err = leavingAs(value, v6)
		case optionMTU:
			if s.mtu, err = strconv.Atoi(value); err == nil && (s.mtu < 0 || s.mtu > 65535) {
				return s, errdefs.New(errdefs.InvalidArgument, "invalid MTU number: %d", s.mtu)
			}
		case optionMode:
			s.modes[v4], err = value, checkMode(value)
		case optionMode6:
			s.modes[v6], err = value, checkMode(value)
		case optionInhibit:
			s.inhibit, err = strconv.ParseBool(value)
		case optionTrusted:
			s.trusted, err = linkNames(value)
		case optionIfaces:
			s.prefix, err = value, checkPrefix(value)
		default:
			if strings.HasPrefix(name, optionPrefix) {
				return s, errdefs.New(errdefs.NotImplemented, "the option %s of networks is not implemented", name)
			}
		}
		if err != nil {
			return s, errdefs.New(errdefs.InvalidArgument, "failed to parse %s value: %s (%w)", name, value, err)
		}
	}
	return s, nil
}

// leavingAs reads an address with which containers go out.
func leavingAs(value string, f family) (netip.Addr, error) {
	a, err := netip.ParseAddr(value)
	if err == nil && (familyOf(a) != f || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast()) {
		err = fmt.Errorf("not an address of IPv%d that a host has", f)
	}
	return a, err
}

// checkMode refuses what is no mode of a gateway.
func checkMode(mode string) error {
	if !slices.Contains([]string{modeNAT, modeUnprotected, modeRouted, modeIsolated}, mode) {
		return fmt.Errorf("unknown gateway mode %s", mode)
	}
	return nil
}

// linkNames reads names of links with colons between them.
func linkNames(list string) (names []string, err error) {
	for name := range strings.SplitSeq(list, ":") {
		if err := checkLinkName(name); err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		names = append(names, name)
	}
	return names, nil
}

// checkPrefix refuses a beginning of links' names that no number can follow.
func checkPrefix(prefix string) error {
	if prefix == "" {
		return errors.New("it is empty")
	}
	return checkLinkName(prefix + "000")
}

// checkLinkName refuses what the kernel would (dev_valid_name).
func checkLinkName(name string) error {
	const most = 15 // IFNAMSIZ with the zero at its end
	if name == "" || len(name) > most || slices.Contains([]string{".", "..", "all", "default"}, name) ||
		strings.ContainsFunc(name, func(r rune) bool {
			return r == '%' || r == '/' || r == ':' || unicode.IsSpace(r) || unicode.IsControl(r)
		}) {
		return fmt.Errorf("not a link's name, which has at most %d bytes, no space, slash, colon or percent sign, and is neither all nor default", most)
	}
	return nil
}
