package opts

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
)

// parseDevices reads values of --device: HOST[:CONTAINER][:rwm], or the name
// of a device of the container device interface, such as vendor.com/gpu=0.
func parseDevices(specs []string) (devices []container.DeviceMapping, cdi []string, err error) {
	for _, spec := range specs {
		if isCDIName(spec) {
			cdi = append(cdi, spec)
			continue
		}
		d, err := parseDevice(spec)
		if err != nil {
			return nil, nil, err
		}
		devices = append(devices, d)
	}
	return devices, cdi, nil
}

func parseDevice(spec string) (container.DeviceMapping, error) {
	parts := strings.Split(spec, ":")
	d := container.DeviceMapping{PathOnHost: parts[0], PathInContainer: parts[0], CgroupPermissions: "rwm"}
	switch {
	case spec == "":
		return d, fmt.Errorf("bad format for path: %s", spec)
	case len(parts) > 3 || len(parts) == 3 && !deviceMode(parts[2]):
		return d, badDevice(spec, parts)
	case len(parts) == 3:
		d.PathInContainer, d.CgroupPermissions = parts[1], parts[2]
	case len(parts) == 2 && deviceMode(parts[1]):
		d.CgroupPermissions = parts[1]
	case len(parts) == 2:
		d.PathInContainer = parts[1]
	}
	if d.PathInContainer == "" {
		d.PathInContainer = d.PathOnHost
	}
	if !path.IsAbs(d.PathInContainer) {
		return d, fmt.Errorf("%s is not an absolute path", d.PathInContainer)
	}
	return d, nil
}

func badDevice(spec string, parts []string) error {
	if len(parts) == 3 {
		return fmt.Errorf("bad mode specified: %s", parts[2])
	}
	return fmt.Errorf("bad format for path: %s", spec)
}

// deviceMode reports whether s is made of r, w and m, each once at most.
func deviceMode(s string) bool {
	for i, c := range s {
		if !strings.ContainsRune("rwm", c) || strings.ContainsRune(s[:i], c) {
			return false
		}
	}
	return s != ""
}

// isCDIName reports whether s has the form vendor/class=name.
func isCDIName(s string) bool {
	kind, name, ok := strings.Cut(s, "=")
	vendor, class, slash := strings.Cut(kind, "/")
	return ok && slash && name != "" && cdiWord(vendor) && cdiWord(class)
}

func cdiWord(s string) bool {
	for i, c := range s {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || !strings.ContainsRune("0123456789-_.", c)) {
			return false
		}
	}
	return s != ""
}

// checkDeviceRule is the check of --device-cgroup-rule.
func checkDeviceRule(s string) (string, error) {
	kind, rest, ok := strings.Cut(s, " ")
	numbers, mode, ok2 := strings.Cut(rest, " ")
	major, minor, ok3 := strings.Cut(numbers, ":")
	if !ok || !ok2 || !ok3 || len(kind) != 1 || !strings.Contains("acb", kind) || !starOrNumber(major) || !starOrNumber(minor) ||
		mode == "" || len(mode) > 3 || strings.Trim(mode, "rwm") != "" {
		return "", fmt.Errorf("invalid device cgroup format '%s'", s)
	}
	return s, nil
}

func starOrNumber(s string) bool {
	return s == "*" || s != "" && strings.Trim(s, "0123456789") == ""
}

// Weights is --blkio-weight-device.
type Weights struct{ Values []*blkiodev.WeightDevice }

// String is empty: help shows no default.
func (w *Weights) String() string { return "" }

// Type is what help calls the value.
func (w *Weights) Type() string { return "list" }

// Set adds PATH:WEIGHT.
func (w *Weights) Set(s string) error {
	dev, value, ok := strings.Cut(s, ":")
	if !ok || dev == "" {
		return fmt.Errorf("bad format: %s", s)
	}
	if !strings.HasPrefix(dev, "/dev/") {
		return fmt.Errorf("bad format for device path: %s", s)
	}
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil || n > 0 && (n < 10 || n > 1000) {
		return fmt.Errorf("invalid weight for device: %s", s)
	}
	w.Values = append(w.Values, &blkiodev.WeightDevice{Path: dev, Weight: uint16(n)})
	return nil
}

// Throttles is one of the --device-read-bps family. Bytes allows sizes.
type Throttles struct {
	Values []*blkiodev.ThrottleDevice
	Bytes  bool
}

// String is empty: help shows no default.
func (t *Throttles) String() string { return "" }

// Type is what help calls the value.
func (t *Throttles) Type() string { return "list" }

// Set adds PATH:RATE.
func (t *Throttles) Set(s string) error {
	dev, value, ok := strings.Cut(s, ":")
	if !ok || dev == "" {
		return fmt.Errorf("bad format: %s", s)
	}
	if !strings.HasPrefix(dev, "/dev/") {
		return fmt.Errorf("bad format for device path: %s", s)
	}
	rate, err := t.rate(value)
	if err != nil {
		return fmt.Errorf("invalid rate for device: %s. The correct format is <device-path>:<number>%s", s, t.unit())
	}
	t.Values = append(t.Values, &blkiodev.ThrottleDevice{Path: dev, Rate: rate})
	return nil
}

func (t *Throttles) rate(s string) (uint64, error) {
	if !t.Bytes {
		return strconv.ParseUint(s, 10, 64)
	}
	n, err := units.RAMInBytes(s)
	if err == nil && n < 0 {
		err = strconv.ErrRange
	}
	return uint64(n), err
}

func (t *Throttles) unit() string {
	if t.Bytes {
		return "[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
	}
	return ". Number must be a positive integer"
}

// Ulimits is --ulimit: name=soft[:hard].
type Ulimits struct{ Values []*container.Ulimit }

// String is empty: help shows no default.
func (u *Ulimits) String() string { return "" }

// Type is what help calls the value.
func (u *Ulimits) Type() string { return "ulimit" }

// Set adds a limit, in order of names; the last of a name counts.
func (u *Ulimits) Set(s string) error {
	l, err := units.ParseUlimit(s)
	if err != nil {
		return err
	}
	i, found := slices.BinarySearchFunc(u.Values, l, func(a, b *container.Ulimit) int { return strings.Compare(a.Name, b.Name) })
	if found {
		u.Values[i] = l
	} else {
		u.Values = slices.Insert(u.Values, i, l)
	}
	return nil
}

// GPUs is --gpus.
type GPUs struct{ Values []container.DeviceRequest }

// String is empty: help shows no default.
func (g *GPUs) String() string { return "" }

// Type is what help calls the value.
func (g *GPUs) Type() string { return "gpu-request" }

// Set adds a request: a number, "all", or device=…,driver=…,capabilities=…,
// options=….
func (g *GPUs) Set(s string) error {
	fields, err := csvFields(s)
	if err != nil {
		return err
	}
	r := container.DeviceRequest{}
	seen := map[string]bool{}
	for _, field := range fields {
		key, value, hasValue := strings.Cut(field, "=")
		if seen[key] {
			return fmt.Errorf("gpu request key '%s' can be specified only once", key)
		}
		seen[key] = true
		switch {
		case !hasValue:
			seen["count"] = true
			r.Count, err = gpuCount(key)
		case key == "driver":
			r.Driver = value
		case key == "count":
			r.Count, err = gpuCount(value)
		case key == "device":
			r.DeviceIDs = strings.Split(value, ",")
		case key == "capabilities":
			r.Capabilities = [][]string{append(strings.Split(value, ","), "gpu")}
		case key == "options":
			var list []string
			if list, err = csvFields(value); err == nil {
				r.Options = pairs(list)
			}
		default:
			err = fmt.Errorf("unexpected key '%s' in '%s'", key, field)
		}
		if err != nil {
			return err
		}
	}
	if !seen["count"] && r.DeviceIDs == nil {
		r.Count = 1
	}
	if r.Options == nil {
		r.Options = map[string]string{}
	}
	if r.Capabilities == nil {
		r.Capabilities = [][]string{{"gpu"}}
	}
	g.Values = append(g.Values, r)
	return nil
}

func gpuCount(s string) (int, error) {
	if s == "all" {
		return -1, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("invalid count (%s): value must be either \"all\" or an integer: %w", s, errors.Unwrap(err))
	}
	return n, nil
}
