package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// absent is a setting of dockerd's that this engine has not: only what is always so here
// can be said.
type absent struct {
	flag, key string   // key empty: the flag's name; flag empty: only a key
	always    []string // what may be said
	why       string
}

const (
	noSwarm      = "there is no Swarm here"
	noContainerd = "no containerd is used"
)

// absents are all that there are.
var absents = []absent{
	{"containerd", "", nil, noContainerd},
	{"cri-containerd", "", []string{"false"}, noContainerd},
	{"containerd-namespace", "", nil, noContainerd},
	{"containerd-plugins-namespace", "containerd-plugin-namespace", nil, noContainerd},
	{"swarm-default-advertise-addr", "", nil, noSwarm},
	{"", "swarm-raft-heartbeat-tick", nil, noSwarm},
	{"", "swarm-raft-election-tick", nil, noSwarm},
	{"node-generic-resource", "node-generic-resources", nil, noSwarm},
	{"network-control-plane-mtu", "", nil, noSwarm},
	{"network-diagnostic-port", "", nil, noSwarm},
	{"live-restore", "", []string{"true"}, "containers always outlive the engine"},
	{"shutdown-timeout", "", nil, "containers outlive the engine: it stops none when it ends"},
	{"restart", "", []string{"true"}, "whether containers are started with the engine is said by their restart policies"},
	{"raw-logs", "", []string{"true", "false"}, "the log of the engine has whole times and no colours, always"},
	{"experimental", "", []string{"false"}, "there are no experimental features"},
	{"feature", "features", []string{"buildkit", "buildkit=true", "cdi", "cdi=true", "containerd-snapshotter=false"}, "builds are BuildKit's and devices may be CDI's, always, and images are in the engine's own store"},
	{"rootless", "", []string{"false"}, "the engine needs root"},
	{"selinux-enabled", "", []string{"false"}, "there are no labels for SELinux"},
	{"api-cors-header", "", nil, "web pages are kept out of the API; Docker has taken this away too"},
	{"iptables", "", []string{"true"}, "the engine has one table of nftables, and touches no other"},
	{"ip6tables", "", []string{"true"}, "the engine has one table of nftables, and touches no other"},
	{"firewall-backend", "", []string{"nftables"}, "the engine has one table of nftables, and touches no other"},
	{"ip-forward", "", []string{"true"}, "without forwarding no container has a way out"},
	{"ip-forward-no-drop", "", []string{"false"}, "a host that was no router does not become one: packets that are no container's are dropped if the engine has turned forwarding on; turn it on before the engine starts"},
	{"bridge-accept-fwmark", "", nil, "networks say themselves by which links they are reached: -o com.docker.network.bridge.trusted_host_interfaces=LINK"},
	{"allow-direct-routing", "", []string{"false"}, "networks say so themselves: -o com.docker.network.bridge.gateway_mode_ipv4=routed"},
	{"fixed-cidr", "", nil, "containers of the default network have all of its subnet: make it smaller by bip, or a network with --ip-range"},
	{"bip6", "", nil, "the default network's gateway is the first address of fixed-cidr-v6"},
	{"default-gateway", "", nil, "containers of the default network go out by its bridge: make a network with --gateway and -o com.docker.network.bridge.inhibit_ipv4=true"},
	{"default-gateway-v6", "", nil, "containers of the default network go out by its bridge"},
	{"userland-proxy-path", "", nil, "what the packet filter cannot do the engine carries itself: there is no such program"},
	{"cpu-rt-period", "", nil, "the engine's control group has no real-time of its own: set cpu.rt_period_us of the group that cgroup-parent names"},
	{"cpu-rt-runtime", "", nil, "the engine's control group has no real-time of its own: set cpu.rt_runtime_us of the group that cgroup-parent names"},
	{"nri-opts", "", nil, "there is no NRI here"},
	{"", "resolv-conf", nil, "name servers are named by dns"},
	{"", "network-host", nil, "what builds may do is in builder, with entitlements"},
	{"", "default-init", nil, "it is init"},
}

// name is what a message calls the setting.
func (a absent) name() string {
	if a.flag != "" {
		return a.flag
	}
	return a.key
}

// absentOptions refuse those settings by name.
func absentOptions() []option {
	var list []option
	for _, a := range absents {
		key := a.key
		if key == "" {
			key = a.flag
		}
		list = append(list, option{a.flag, "", key, "not offered: " + a.why, absentValue{a}})
	}
	return list
}

// absentType is the type of their values, of whatever kind they are.
const absentType = "absent"

// absentValue takes what is so anyway.
type absentValue struct{ absent }

func (v absentValue) Set(s string) error {
	if slices.Contains(v.always, s) {
		return nil
	}
	return fmt.Errorf("not offered: %s", v.why)
}
func (v absentValue) String() string { return "" }
func (v absentValue) Type() string   { return absentType }

// absentWords turns any JSON value into what Set takes: of an object of booleans
// NAME=VALUE each.
func absentWords(raw json.RawMessage) ([]string, error) {
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return nil, err
	}
	switch v := value.(type) {
	case bool:
		return []string{strconv.FormatBool(v)}, nil
	case string:
		return []string{v}, nil
	case map[string]any:
		var words []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			words = append(words, fmt.Sprintf("%s=%v", name, v[name]))
		}
		return words, nil
	}
	return []string{string(raw)}, nil
}
