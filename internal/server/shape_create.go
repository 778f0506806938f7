package server

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

// upgradeCreate makes a decoded create request whole, and turns one of an older
// version of the API into today's: defaults that have changed since are filled
// in, fields that did not exist then are dropped, as the engine of that time
// would have.
func upgradeCreate(req *container.CreateRequest, body []byte, v api.Version) (warnings []string, err error) {
	if req.Config == nil {
		return nil, errdefs.New(errdefs.InvalidArgument, "config cannot be empty in order to create a container")
	}
	if req.HostConfig == nil {
		req.HostConfig = &container.HostConfig{}
	}
	upgradeHostConfig(req.HostConfig, v)
	if v.Before(44) && req.Healthcheck != nil {
		req.Healthcheck.StartInterval = 0
	}
	if err := upgradeMounts(req.HostConfig.Mounts, v); err != nil {
		return nil, err
	}
	nameDefaultNetwork(req)
	if err := upgradeEndpoints(req, v); err != nil {
		return nil, err
	}
	if w := upgradePorts(req.HostConfig, v); w != "" {
		warnings = append(warnings, w)
	}
	w, err := upgradeMAC(req, body, v)
	if w != "" {
		warnings = append(warnings, w)
	}
	return warnings, err
}

func upgradeHostConfig(hc *container.HostConfig, v api.Version) {
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
	}
	if v.Before(43) {
		hc.Annotations = nil
	}
	if v.Before(56) {
		hc.Umask = nil
	}
	// Docker's command line sends 0 when nobody asked for a limit; who wants
	// none says -1.
	if hc.PidsLimit != nil && *hc.PidsLimit == 0 {
		hc.PidsLimit = nil
	}
}

// upgradeUpdate drops the limits that an update did not change in older versions.
func upgradeUpdate(r *container.Resources, v api.Version) {
	if v.Before(40) {
		r.PidsLimit = nil
	}
	if v.Before(55) {
		r.BlkioWeightDevice = nil
		r.BlkioDeviceReadBps, r.BlkioDeviceWriteBps = nil, nil
		r.BlkioDeviceReadIOps, r.BlkioDeviceWriteIOps = nil, nil
	}
}

func upgradeMounts(mounts []mount.Mount, v api.Version) error {
	for i := range mounts {
		m := &mounts[i]
		if v.Before(42) {
			dropForeignOptions(m)
		}
		if err := upgradeBind(m, v); err != nil {
			return err
		}
		if o := m.VolumeOptions; o != nil && o.Subpath != "" && v.Before(45) {
			return errdefs.New(errdefs.InvalidArgument, "VolumeOptions.Subpath needs API v1.45 or newer")
		}
		if o := m.TmpfsOptions; o != nil && v.Before(46) {
			o.Options = nil
		}
		if m.Type == mount.TypeImage && v.Before(48) {
			return errdefs.New(errdefs.InvalidArgument, `Mount type "Image" needs API v1.48 or newer`)
		}
	}
	return nil
}

// dropForeignOptions takes away the options of other types of mount, which
// nobody looked at until 1.41.
func dropForeignOptions(m *mount.Mount) {
	if m.Type != mount.TypeVolume {
		m.VolumeOptions = nil
	}
	if m.Type != mount.TypeTmpfs {
		m.TmpfsOptions = nil
	}
	if m.BindOptions != nil {
		m.BindOptions.CreateMountpoint = false
	}
}

func upgradeBind(m *mount.Mount, v api.Version) error {
	o := m.BindOptions
	if o != nil && v.Before(40) {
		o.NonRecursive = false
	}
	if m.Type != mount.TypeBind || !v.Before(44) {
		return nil
	}
	if o != nil && o.ReadOnlyForceRecursive {
		return errdefs.New(errdefs.InvalidArgument, "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
	}
	if o != nil {
		o.ReadOnlyNonRecursive = false
	}
	if m.ReadOnly { // was not recursive then
		if o == nil {
			m.BindOptions = &mount.BindOptions{}
		}
		m.BindOptions.ReadOnlyNonRecursive = true
	}
	return nil
}

// nameDefaultNetwork gives the default network, which a client may call
// "default" or leave open, the name that inspect shows.
func nameDefaultNetwork(req *container.CreateRequest) {
	if req.HostConfig.NetworkMode != "" && !req.HostConfig.NetworkMode.IsDefault() {
		return
	}
	req.HostConfig.NetworkMode = network.NetworkBridge
	if req.NetworkingConfig == nil {
		return
	}
	endpoints := req.NetworkingConfig.EndpointsConfig
	if e, ok := endpoints[network.NetworkDefault]; ok {
		endpoints[network.NetworkBridge] = e
		delete(endpoints, network.NetworkDefault)
	}
}

// upgradeEndpoints refuses several networks where a container could be made
// with one only, and drops what endpoints did not have.
func upgradeEndpoints(req *container.CreateRequest, v api.Version) error {
	if req.NetworkingConfig == nil {
		return nil
	}
	endpoints := req.NetworkingConfig.EndpointsConfig
	if names := slices.Sorted(maps.Keys(endpoints)); len(names) > 1 && v.Before(44) {
		return errdefs.New(errdefs.InvalidArgument, "Container cannot be created with multiple network endpoints: %s", strings.Join(names, ", "))
	}
	for _, e := range endpoints {
		if e == nil {
			continue
		}
		if v.Before(48) {
			e.GwPriority = 0
		}
		if v.Before(44) {
			e.MacAddress = nil
		}
	}
	return nil
}

// upgradePorts fills bindings that are an empty list with one to any free
// port, as until 1.52, or drops them.
func upgradePorts(hc *container.HostConfig, v api.Version) (warning string) {
	var empty []string
	for port, bindings := range hc.PortBindings {
		switch {
		case len(bindings) > 0:
		case v.Before(53):
			hc.PortBindings[port] = []network.PortBinding{{}}
			empty = append(empty, port.String())
		default:
			delete(hc.PortBindings, port)
		}
	}
	if len(empty) == 0 || v.Before(52) {
		return ""
	}
	slices.Sort(empty)
	return fmt.Sprintf("Following container port(s) have an empty list of port-bindings: %s. Starting with API 1.53, such bindings will be discarded.", strings.Join(empty, ", "))
}
