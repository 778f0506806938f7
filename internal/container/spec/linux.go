package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/cgroup"
	"github.com/tare-engine/tare/internal/linux/device"
)

// namespaces lists those that the container has for itself or joins; what is
// not listed is the host's.
func (b *specBuilder) namespaces() error {
	h := b.in.HostConfig
	list := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	add := func(t specs.LinuxNamespaceType, path string) {
		list = append(list, specs.LinuxNamespace{Type: t, Path: path})
	}
	if !h.UTSMode.IsHost() {
		add(specs.UTSNamespace, "")
	}
	if !h.CgroupnsMode.IsHost() {
		add(specs.CgroupNamespace, "")
	}
	join := func(t specs.LinuxNamespaceType, mode, file string, pid int) error {
		if pid <= 0 {
			return errdefs.New(errdefs.Conflict, "cannot join the %s namespace of %s: container is not running", file, strings.TrimPrefix(mode, "container:"))
		}
		add(t, fmt.Sprintf("/proc/%d/ns/%s", pid, file))
		return nil
	}
	var err error
	switch {
	case h.PidMode.IsContainer():
		err = join(specs.PIDNamespace, string(h.PidMode), "pid", b.in.PIDOf)
	case !h.PidMode.IsHost():
		add(specs.PIDNamespace, "")
	}
	switch {
	case err != nil:
	case h.IpcMode.IsContainer():
		err = join(specs.IPCNamespace, string(h.IpcMode), "ipc", b.in.IPCOf)
	case !h.IpcMode.IsHost():
		add(specs.IPCNamespace, "")
	}
	switch {
	case err != nil:
	case !h.NetworkMode.IsHost():
		add(specs.NetworkNamespace, "")
	}
	b.spec.Linux.Namespaces = list
	b.userNamespace()
	return err
}

// sysctls are the user's, over those that let a container without
// capabilities ping and bind low ports in its own network namespace.
func (b *specBuilder) sysctls() error {
	h := b.in.HostConfig
	m := map[string]string{}
	if _, isPath := NetworkPath(h.NetworkMode); !h.NetworkMode.IsHost() && !h.NetworkMode.IsContainer() && !isPath {
		m["net.ipv4.ip_unprivileged_port_start"] = "0"
		m["net.ipv4.ping_group_range"] = b.pingGroups()
	}
	for k, v := range h.Sysctls {
		m[k] = v
	}
	if len(m) > 0 {
		b.spec.Linux.Sysctl = m
	}
	return nil
}

// paths masks and protects parts of procfs and sysfs. A mount of the user's at
// or below such a path wins.
func (b *specBuilder) paths() error {
	h := b.in.HostConfig
	b.spec.Linux.MaskedPaths = b.without(h.MaskedPaths)
	b.spec.Linux.ReadonlyPaths = b.without(h.ReadonlyPaths)
	return nil
}

func (b *specBuilder) without(paths []string) []string {
	var kept []string
	for _, p := range paths {
		free := true
		for _, m := range b.mounts {
			free = free && !isBelow(m.target, p)
		}
		if free {
			kept = append(kept, p)
		}
	}
	return kept
}

// notDevices are parts of /dev that a container has of its own.
func notDevices(name string) bool {
	switch name {
	case "pts", "shm", "fd", "mqueue", "console", ".lxc", ".lxd-mounts", ".udev":
		return true
	}
	return false
}

// devices sets the nodes that are made and the rules of the devices cgroup.
func (b *specBuilder) devices() error {
	h := b.in.HostConfig
	rules := cgroup.DefaultDevices()
	var nodes []specs.LinuxDevice
	if h.Privileged {
		rules = cgroup.AllDevices()
		all, err := device.Below("/dev", notDevices)
		if err != nil {
			return fmt.Errorf("list host devices: %w", err)
		}
		for _, n := range all {
			nodes = append(nodes, specNode(n, n.Path))
		}
	}
	for _, d := range h.Devices {
		found, err := devicesAt(d.PathOnHost)
		if err != nil {
			return err
		}
		for _, n := range found {
			target := d.PathInContainer + strings.TrimPrefix(n.Path, d.PathOnHost)
			if b.in.IDs != nil {
				b.bindDevice(n.Path, target)
			} else {
				nodes = append(nodes, specNode(n, target))
			}
			if !h.Privileged {
				rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: n.Type, Major: &n.Major, Minor: &n.Minor, Access: accessOf(d.CgroupPermissions)})
			}
		}
	}
	if !h.Privileged {
		for _, text := range h.DeviceCgroupRules {
			r, err := parseDeviceRule(text)
			if err != nil {
				return err
			}
			rules = append(rules, r)
		}
	}
	b.spec.Linux.Devices = lastOfEach(nodes)
	b.spec.Linux.Resources = &specs.LinuxResources{Devices: rules}
	return nil
}

func accessOf(permissions string) string {
	if permissions == "" {
		return "rwm"
	}
	return permissions
}

func specNode(n device.Node, target string) specs.LinuxDevice {
	mode := n.Mode
	return specs.LinuxDevice{Path: target, Type: n.Type, Major: n.Major, Minor: n.Minor, FileMode: &mode, UID: &n.UID, GID: &n.GID}
}

// lastOfEach keeps one node a path, the last: a user's device replaces one of
// the host's that --privileged brings.
func lastOfEach(nodes []specs.LinuxDevice) []specs.LinuxDevice {
	at := map[string]int{}
	var out []specs.LinuxDevice
	for _, n := range nodes {
		if i, ok := at[n.Path]; ok {
			out[i] = n
			continue
		}
		at[n.Path] = len(out)
		out = append(out, n)
	}
	return out
}

// devicesAt returns the node at a host path, or all nodes below a directory.
func devicesAt(path string) ([]device.Node, error) {
	n, err := device.At(path)
	if err == nil {
		return []device.Node{n}, nil
	}
	var nodes []device.Node
	if errors.Is(err, fs.ErrInvalid) {
		nodes, err = device.Below(path, nil)
		if err == nil && len(nodes) == 0 {
			err = errors.New("not a device node")
		}
	}
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, errdefs.New(errdefs.InvalidArgument, "error gathering device information while adding custom device %q: %w", path, err)
	}
	return nodes, nil
}

func (b *specBuilder) resources() error {
	r, err := Resources(&b.in.HostConfig.Resources)
	if err != nil {
		return err
	}
	r.Devices = b.spec.Linux.Resources.Devices
	b.spec.Linux.Resources = r
	return nil
}
