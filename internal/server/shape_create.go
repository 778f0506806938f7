package server

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

// upgradeCreate turns a create request of an older version of the API into
// today's: defaults that have changed since are filled in, fields that did not
// exist then are dropped, as the engine of that time would have.
func upgradeCreate(req *container.CreateRequest, body []byte, v api.Version) error {
	hc := req.HostConfig
	if v.Before(25) {
		hc.AutoRemove = false // the client did it then
	}
	if v.Before(40) && hc.IpcMode == "" {
		hc.IpcMode = container.IPCModeShareable
	}
	if v.Before(41) && hc.CgroupnsMode == "" {
		hc.CgroupnsMode = container.CgroupnsModeHost
	}
	if v.Before(42) {
		hc.ConsoleSize = [2]uint{}
		if hc.PidsLimit != nil && *hc.PidsLimit <= 0 {
			hc.PidsLimit = nil
		}
	}
	if v.Before(43) {
		hc.Annotations = nil
	}
	if v.Before(44) && req.Healthcheck != nil {
		req.Healthcheck.StartInterval = 0
	}
	if v.Before(56) {
		hc.Umask = nil
	}
	if err := upgradeMounts(hc.Mounts, v); err != nil {
		return err
	}
	if err := upgradeEndpoints(req, v); err != nil {
		return err
	}
	if v.Before(52) {
		return upgradeMAC(req, body)
	}
	return nil
}

func upgradeMounts(mounts []mount.Mount, v api.Version) error {
	for i := range mounts {
		m := &mounts[i]
		if o := m.BindOptions; o != nil {
			if v.Before(40) {
				o.NonRecursive = false
			}
			if v.Before(42) {
				o.CreateMountpoint = false
			}
			if v.Before(44) {
				if o.ReadOnlyForceRecursive {
					return errdefs.New(errdefs.InvalidArgument, "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
				}
				o.ReadOnlyNonRecursive = false
			}
		}
		// Read-only was not recursive before 1.44.
		if v.Before(44) && m.Type == mount.TypeBind && m.ReadOnly {
			if m.BindOptions == nil {
				m.BindOptions = &mount.BindOptions{}
			}
			m.BindOptions.ReadOnlyNonRecursive = true
		}
		if o := m.VolumeOptions; o != nil && o.Subpath != "" && v.Before(45) {
			return errdefs.New(errdefs.InvalidArgument, "VolumeOptions.Subpath needs API v1.45 or newer")
		}
		if o := m.TmpfsOptions; o != nil && v.Before(46) {
			o.Options = nil
		}
		if m.Type == mount.TypeImage && v.Before(48) {
			return errdefs.New(errdefs.InvalidArgument, "mount type %q needs API v1.48 or newer", string(m.Type))
		}
	}
	return nil
}

// upgradeEndpoints refuses several networks where a container could be made
// with one only.
func upgradeEndpoints(req *container.CreateRequest, v api.Version) error {
	if req.NetworkingConfig == nil || !v.Before(44) {
		return nil
	}
	if names := slices.Sorted(maps.Keys(req.NetworkingConfig.EndpointsConfig)); len(names) > 1 {
		return errdefs.New(errdefs.InvalidArgument, "Container cannot be created with multiple network endpoints: %s", strings.Join(names, ", "))
	}
	return nil
}

// upgradeMAC moves the MAC address, which until 1.51 was a property of the
// container, to the endpoint of its network.
func upgradeMAC(req *container.CreateRequest, body []byte) error {
	if !bytes.Contains(body, []byte(`"MacAddress"`)) {
		return nil
	}
	var old struct{ MacAddress network.HardwareAddr }
	if err := json.Unmarshal(body, &old); err != nil {
		return errdefs.New(errdefs.InvalidArgument, "invalid MAC address: %w", err)
	}
	if len(old.MacAddress) == 0 {
		return nil
	}
	mode := req.HostConfig.NetworkMode
	if mode.IsHost() || mode.IsContainer() || mode.IsNone() {
		return errdefs.New(errdefs.InvalidArgument, "conflicting options: mac-address and the network mode")
	}
	name := string(mode)
	if name == "" {
		name = network.NetworkDefault
	}
	return setMAC(req, name, old.MacAddress)
}

func setMAC(req *container.CreateRequest, name string, mac network.HardwareAddr) error {
	if req.NetworkingConfig == nil {
		req.NetworkingConfig = &network.NetworkingConfig{}
	}
	endpoints := req.NetworkingConfig.EndpointsConfig
	if endpoints == nil {
		endpoints = map[string]*network.EndpointSettings{}
		req.NetworkingConfig.EndpointsConfig = endpoints
	}
	e := endpoints[name]
	if e == nil && (name == network.NetworkDefault || name == network.NetworkBridge) {
		// The default network has two names.
		e = endpoints[network.NetworkDefault]
		if e == nil {
			e = endpoints[network.NetworkBridge]
		}
	}
	if e == nil {
		e = &network.EndpointSettings{}
		endpoints[name] = e
	}
	if len(e.MacAddress) > 0 && e.MacAddress.String() != mac.String() {
		return errdefs.New(errdefs.InvalidArgument, "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty")
	}
	e.MacAddress = mac
	return nil
}
