package spec

import (
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/caps"
	"github.com/tare-engine/tare/internal/linux/cgroup"
)

// securityOptions are the values of --security-opt.
type securityOptions struct {
	noNewPrivileges bool
	seccomp         string // "", "unconfined", "builtin" or a profile in JSON
	appArmor        string // "", "unconfined" or a profile's name
	writableCgroups *bool
}

// parseSecurityOpts reads KEY=VALUE (or the old KEY:VALUE) options.
func parseSecurityOpts(list []string) (o securityOptions, err error) {
	for _, opt := range list {
		switch opt {
		case "no-new-privileges", "writable-cgroups":
			opt += "=true"
		}
		if opt == "disable" { // label=disable
			continue
		}
		key, value, ok := strings.Cut(opt, "=")
		if !ok {
			key, value, ok = strings.Cut(opt, ":")
		}
		if !ok {
			return o, errdefs.New(errdefs.InvalidArgument, "invalid --security-opt 1: %q", opt)
		}
		if err := o.set(key, value, opt); err != nil {
			return o, err
		}
	}
	return o, nil
}

func (o *securityOptions) set(key, value, opt string) error {
	switch key {
	case "seccomp":
		o.seccomp = value
		return nil
	case "apparmor":
		o.appArmor = value
		return nil
	case "label":
		if value == "disable" {
			return nil
		}
		return errdefs.New(errdefs.InvalidArgument, "invalid --security-opt 2: %q: SELinux is not enabled", opt)
	case "no-new-privileges", "writable-cgroups":
		v, err := strconv.ParseBool(value)
		if err != nil {
			return errdefs.New(errdefs.InvalidArgument, "invalid --security-opt 2: %q", opt)
		}
		if key == "no-new-privileges" {
			o.noNewPrivileges = v
		} else {
			o.writableCgroups = &v
		}
		return nil
	}
	return errdefs.New(errdefs.InvalidArgument, "invalid --security-opt 2: %q", opt)
}

// normalizeCapabilities turns names as users write them (chown, CAP_CHOWN,
// all) into the kernel's.
func normalizeCapabilities(list []string) ([]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	supported := caps.Supported()
	var out []string
	for _, c := range list {
		name := strings.ToUpper(c)
		if name == "ALL" {
			out = append(out, name)
			continue
		}
		if !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		if _, err := caps.Of([]string{name}); err != nil {
			return nil, errdefs.New(errdefs.InvalidArgument, "unknown capability: %q", name)
		}
		if !contains(supported, name) {
			return nil, errdefs.New(errdefs.InvalidArgument, "capability not supported by your kernel or not available in the current environment: %q", name)
		}
		out = append(out, name)
	}
	return out, nil
}

// parseDeviceRule reads "c 1:3 rwm", as the devices cgroup takes it.
func parseDeviceRule(text string) (specs.LinuxDeviceCgroup, error) {
	invalid := errdefs.New(errdefs.InvalidArgument, "invalid device cgroup rule format: '%s'", text)
	f := strings.Split(text, " ")
	if len(f) != 3 {
		return specs.LinuxDeviceCgroup{}, invalid
	}
	major, minor, ok := strings.Cut(f[1], ":")
	r := specs.LinuxDeviceCgroup{Allow: true, Type: f[0], Access: f[2]}
	if !ok || f[0] == "" {
		return r, invalid
	}
	for _, n := range []struct {
		text string
		to   **int64
	}{{major, &r.Major}, {minor, &r.Minor}} {
		if n.text == "*" {
			continue
		}
		v, err := strconv.ParseUint(n.text, 10, 32)
		if err != nil {
			return r, invalid
		}
		number := int64(v)
		*n.to = &number
	}
	if cgroup.CheckDevice(r) != nil || r.Type == "a" && len(r.Access) != 3 {
		return r, invalid // would be for all devices and all access
	}
	return r, nil
}
