package network

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/network/firewall"
)

// settings are what the bridge driver is told of a network.
type settings struct {
	link       string // of the bridge
	icc        bool   // containers reach each other
	masquerade bool   // containers go out with the host's address
	hostIP     netip.Addr
	mtu        int
	// unprotected has machines outside reach all ports of the containers.
	unprotected map[firewall.Family]bool
}

// The options of Docker's bridge driver, which clients know.
const (
	optionPrefix     = "com.docker.network.bridge."
	optionName       = optionPrefix + "name"
	optionICC        = optionPrefix + "enable_icc"
	optionMasquerade = optionPrefix + "enable_ip_masquerade"
	optionHostIP     = optionPrefix + "host_binding_ipv4"
	optionMode       = optionPrefix + "gateway_mode_ipv4"
	optionMode6      = optionPrefix + "gateway_mode_ipv6"
	optionIPv4       = "com.docker.network.enable_ipv4"
	optionIPv6       = "com.docker.network.enable_ipv6"
	optionMTU        = "com.docker.network.driver.mtu"
)

// settings are those of the default network.
func (c Config) settings() settings {
	return settings{link: c.Link, icc: !c.NoICC, masquerade: true, hostIP: c.hostIP(), mtu: c.MTU}
}

// settingsOf reads the options of a network. Those of other drivers and of
// nobody are kept and mean nothing, as with Docker.
func settingsOf(id string, options map[string]string) (settings, error) {
	s := settings{link: cmp.Or(options[optionName], "br-"+ident.Short(id)), icc: true, masquerade: true, hostIP: netip.IPv4Unspecified(), mtu: defaultMTU}
	for name, value := range options {
		var err error
		switch name {
		case optionName:
			s.link, err = value, checkLinkName(value)
		case optionICC:
			s.icc, err = strconv.ParseBool(value)
		case optionMasquerade:
			s.masquerade, err = strconv.ParseBool(value)
		case optionHostIP:
			if s.hostIP, err = netip.ParseAddr(value); err != nil || !s.hostIP.Is4() {
				err = fmt.Errorf("nil ip")
			}
		case optionMTU:
			if s.mtu, err = strconv.Atoi(value); err == nil && (s.mtu < 0 || s.mtu > 65535) {
				return s, errdefs.New(errdefs.InvalidArgument, "invalid MTU number: %d", s.mtu)
			}
		case optionMode, optionMode6:
			switch value {
			case "nat":
			case "nat-unprotected":
				if s.unprotected == nil {
					s.unprotected = map[firewall.Family]bool{}
				}
				s.unprotected[map[string]firewall.Family{optionMode: 4, optionMode6: 6}[name]] = true
			default:
				return s, errdefs.New(errdefs.NotImplemented, "the option %s=%s of networks is not implemented: nat and nat-unprotected are", name, value)
			}
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
