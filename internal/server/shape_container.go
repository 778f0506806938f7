package server

import (
	"slices"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"
	"github.com/tare-engine/tare/api"
)

// inspectShape is a container as the version of the API shows it.
func inspectShape(c container.InspectResponse, v api.Version) any {
	if v.Before(48) {
		c.ImageManifestDescriptor = nil
	}
	if v.Before(56) && c.HostConfig != nil && c.HostConfig.Umask != nil {
		hc := *c.HostConfig
		hc.Umask = nil
		c.HostConfig = &hc
	}
	if !v.Before(52) {
		return c
	}
	if s := c.Storage; s != nil {
		if c.GraphDriver == nil && s.RootFS != nil && s.RootFS.Snapshot != nil {
			c.GraphDriver = &storage.DriverData{Name: s.RootFS.Snapshot.Name}
		}
		c.Storage = nil
	}
	if v.Before(45) {
		c.NetworkSettings = withShortIDAliases(c)
	}
	old := inspect151{InspectResponse: c, HostConfig: c.HostConfig}
	if v.Before(42) && c.HostConfig != nil {
		old.HostConfig = newHostConfig141(c.HostConfig)
	}
	if c.Config != nil {
		old.Config = &config151{Config: c.Config, OnBuild: c.Config.OnBuild}
	}
	if c.NetworkSettings != nil {
		old.NetworkSettings = newNetworkSettings151(c.NetworkSettings)
	}
	return old
}

// inspect151 has what was dropped with 1.52.
type inspect151 struct {
	container.InspectResponse
	Config          *config151
	HostConfig      any // *container.HostConfig, or what was dropped with 1.42 too
	NetworkSettings *networkSettings151
}

type config151 struct {
	*container.Config
	OnBuild []string
}

// hostConfig141 has the limits of the kernel's own memory. No kernel of today
// has them, so they are always none.
type hostConfig141 struct {
	*container.HostConfig
	KernelMemory    int64
	KernelMemoryTCP int64
}

func newHostConfig141(h *container.HostConfig) *hostConfig141 {
	if h.OomKillDisable == nil { // it was never null
		copied := *h
		copied.OomKillDisable = new(bool)
		h = &copied
	}
	return &hostConfig141{HostConfig: h}
}

// networkSettings151 shows the endpoint of the default network once more, from
// the time when there was no other.
type networkSettings151 struct {
	Bridge                 string
	SandboxID              string
	SandboxKey             string
	Ports                  network.PortMap
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	SecondaryIPAddresses   []struct{}
	SecondaryIPv6Addresses []struct{}
	EndpointID             string
	Gateway                string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	IPAddress              string
	IPPrefixLen            int
	IPv6Gateway            string
	MacAddress             string
	Networks               map[string]*network.EndpointSettings
}

func newNetworkSettings151(n *container.NetworkSettings) *networkSettings151 {
	old := &networkSettings151{SandboxID: n.SandboxID, SandboxKey: n.SandboxKey, Ports: n.Ports, Networks: n.Networks}
	e := n.Networks[network.NetworkBridge]
	if e == nil {
		return old
	}
	old.EndpointID = e.EndpointID
	if e.Gateway.IsValid() {
		old.Gateway = e.Gateway.String()
	}
	if e.IPAddress.IsValid() {
		old.IPAddress, old.IPPrefixLen = e.IPAddress.String(), e.IPPrefixLen
	}
	if e.IPv6Gateway.IsValid() {
		old.IPv6Gateway = e.IPv6Gateway.String()
	}
	if e.GlobalIPv6Address.IsValid() {
		old.GlobalIPv6Address, old.GlobalIPv6PrefixLen = e.GlobalIPv6Address.String(), e.GlobalIPv6PrefixLen
	}
	old.MacAddress = e.MacAddress.String()
	return old
}

// withShortIDAliases adds the container's short id to the aliases on user
// networks, as until 1.44. The view that c shares is not changed.
func withShortIDAliases(c container.InspectResponse) *container.NetworkSettings {
	if c.NetworkSettings == nil {
		return nil
	}
	n := *c.NetworkSettings
	n.Networks = make(map[string]*network.EndpointSettings, len(n.Networks))
	for name, e := range c.NetworkSettings.Networks {
		if container.NetworkMode(name).IsUserDefined() && e != nil {
			e = e.Copy()
			for _, alias := range aliasesOf(c) {
				if !slices.Contains(e.Aliases, alias) {
					e.Aliases = append(e.Aliases, alias)
				}
			}
		}
		n.Networks[name] = e
	}
	return &n
}

func aliasesOf(c container.InspectResponse) []string {
	aliases := []string{c.ID[:min(12, len(c.ID))]}
	if c.Config != nil && c.Config.Hostname != "" {
		aliases = append(aliases, c.Config.Hostname)
	}
	return aliases
}

// listShape is a list of containers as the version shows it. It changes list,
// whose elements must not be shared.
func listShape(list []container.Summary, v api.Version) []container.Summary {
	for i := range list {
		if v.Before(46) {
			list[i].HostConfig.Annotations = nil
		}
		if v.Before(48) {
			list[i].ImageManifestDescriptor = nil
		}
		if v.Before(52) {
			list[i].Health = nil
		}
	}
	return list
}
