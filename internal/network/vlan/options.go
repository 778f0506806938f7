package vlan

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tare-engine/tare/internal/linux/netlink"
)

// Names of the drivers, which are the kernel's names of the links too.
const (
	Macvlan = "macvlan"
	Ipvlan  = "ipvlan"
)

// Options describe what the links of a network's containers hang on.
type Options struct {
	Kind   string // Macvlan, Ipvlan
	Mode   string // empty: bridge, l2
	Flag   string // of Ipvlan; empty: bridge
	Parent string // link of the host, LINK.ID for a VLAN on it; empty: one that loses all, called Own
	Own    string
	Alias  string // of links made by the engine
	MTU    int    // of containers' links; 0: the parent's
}

// Check refuses a mode that there is not. The texts are Docker's.
func (o Options) Check() error {
	modes, byDefault := netlink.MacvlanModes, "bridge"
	if o.Kind == Ipvlan {
		modes, byDefault = netlink.IpvlanModes, "l2"
	}
	if _, ok := modes[o.Mode]; !ok && o.Mode != "" {
		return fmt.Errorf("requested %s mode '%s' is not valid, '%s' mode is the %s driver default", o.Kind, o.Mode, byDefault, o.Kind)
	}
	if _, ok := netlink.IpvlanFlags[o.Flag]; !ok && o.Flag != "" {
		return fmt.Errorf("requested ipvlan flag '%s' is not valid: there are %s", o.Flag, strings.Join(slices.Sorted(maps.Keys(netlink.IpvlanFlags)), ", "))
	}
	if o.Parent == "lo" {
		return fmt.Errorf("loopback interface is not a valid %s parent link", o.Kind)
	}
	return nil
}

// Passthru says that one container has the parent for itself.
func (o Options) Passthru() bool { return o.Kind == Macvlan && o.Mode == "passthru" }

// Layer3 says that the host's routing decides where packets go: containers need no
// gateway for their way out.
func (o Options) Layer3() bool { return o.Kind == Ipvlan && strings.HasPrefix(o.Mode, "l3") }

// Name is that of the parent.
func (o Options) Name() string {
	if o.Parent == "" {
		return o.Own
	}
	return o.Parent
}

// numbers are the kernel's of the mode and the flag.
func (o Options) numbers() (mode, flags uint32) {
	if o.Kind == Ipvlan {
		return netlink.IpvlanModes[o.Mode], netlink.IpvlanFlags[o.Flag] // none is 0, the default
	}
	if o.Mode == "" {
		return netlink.MacvlanModes["bridge"], 0
	}
	return netlink.MacvlanModes[o.Mode], 0
}

// splitVLAN reads LINK.ID.
func splitVLAN(name string) (link string, id int, err error) {
	parts := strings.Split(name, ".")
	switch {
	case len(parts) == 1:
		return "", 0, fmt.Errorf("invalid subinterface vlan name %s, example formatting is eth0.10", name)
	case len(parts) != 2:
		return "", 0, fmt.Errorf("required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received %s", name)
	}
	if id, err = strconv.Atoi(parts[1]); err != nil {
		return "", 0, fmt.Errorf("unable to parse a valid vlan id from: %s (ex. eth0.10 for vlan 10)", parts[1])
	}
	if id < 1 || id > 4094 { // IEEE 802.1Q, section 9.6
		return "", 0, fmt.Errorf("vlan id must be between 1-4094, received: %d", id)
	}
	return parts[0], id, nil
}
