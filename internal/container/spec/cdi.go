package spec

import (
	"cmp"
	"errors"
	"log/slog"
	"slices"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
	"tags.cncf.io/container-device-interface/pkg/parser"
	cdispecs "tags.cncf.io/container-device-interface/specs-go"

	"github.com/tare-engine/tare/internal/errdefs"
)

// DefaultCDIDirs are where vendors put descriptions of their devices; of two
// with the same name that of the later directory counts (CDI specification 1.0).
func DefaultCDIDirs() []string { return []string{"/etc/cdi", "/var/run/cdi"} }

// cdiDriver is the driver of requests for devices by name
// (--device vendor.com/class=name).
const cdiDriver = "cdi"

// validateDeviceRequest accepts devices by name. Whether there is one of that
// name a start finds out: files of /var/run come and go.
func validateDeviceRequest(d *container.DeviceRequest) error {
	if d.Driver != cdiDriver {
		return invalid("could not select device driver %q with capabilities: %v", shown(d.Driver), d.Capabilities)
	}
	switch {
	case d.Count != 0:
		return invalid("unexpected count in CDI device request")
	case len(d.Options) > 0:
		return invalid("unexpected options in CDI device request")
	}
	for _, name := range d.DeviceIDs {
		if _, _, _, err := parser.ParseQualifiedName(name); err != nil {
			return invalid("invalid CDI device name %q: %w", shown(name), err)
		}
	}
	return nil
}

// cdiDevices applies what the descriptions of the devices by name want:
// nodes with their rules, mounts, variables, groups.
func (b *specBuilder) cdiDevices() error {
	var names []string
	for _, d := range b.in.HostConfig.DeviceRequests {
		if d.Driver == cdiDriver {
			names = append(names, d.DeviceIDs...)
		}
	}
	if len(names) == 0 {
		return nil
	}
	// The directories are read each time: nothing has to watch them.
	cache, err := cdi.NewCache(cdi.WithSpecDirs(b.in.CDIDirs...), cdi.WithAutoRefresh(false))
	if err != nil {
		return err
	}
	if _, err = cache.InjectDevices(b.spec, names...); err == nil {
		err = notOfCDI(b.spec)
	}
	if err == nil && b.in.IDs != nil {
		b.bindNamed(cache, names)
	}
	if err != nil {
		for file, errs := range cache.GetErrors() {
			slog.Warn("a CDI file cannot be used", "file", file, "err", errors.Join(errs...))
		}
		return errdefs.New(errdefs.InvalidArgument, "CDI device injection failed: %w", err)
	}
	return nil
}

// bindNamed lets the nodes of devices by name appear as binds of the host's:
// where the host has them is in their descriptions only.
func (b *specBuilder) bindNamed(cache *cdi.Cache, names []string) {
	hostPath := map[string]string{}
	for _, name := range names {
		d := cache.GetDevice(name)
		if d == nil {
			continue // without a description it would not have been injected
		}
		for _, edits := range []cdispecs.ContainerEdits{d.GetSpec().ContainerEdits, d.ContainerEdits} {
			for _, n := range edits.DeviceNodes {
				hostPath[n.Path] = cmp.Or(n.HostPath, n.Path)
			}
		}
	}
	b.spec.Linux.Devices = slices.DeleteFunc(b.spec.Linux.Devices, func(n specs.LinuxDevice) bool {
		source, named := hostPath[n.Path]
		if named {
			b.spec.Mounts = append(b.spec.Mounts, bindMount(source, n.Path))
		}
		return named
	})
}

// notOfCDI refuses the edits that a container of the engine's cannot have: its
// start runs no program but the user's.
func notOfCDI(s *specs.Spec) error {
	switch {
	case s.Hooks != nil:
		return errors.New("the device wants hooks, which this engine does not run")
	case s.Linux.IntelRdt != nil:
		return errors.New("the device wants Intel RDT, which this engine does not set")
	case len(s.Linux.NetDevices) > 0:
		return errors.New("the device wants network devices of the host, which this engine does not move")
	}
	return nil
}
