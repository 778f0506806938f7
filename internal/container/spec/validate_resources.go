package spec

import (
	"fmt"
	"os"
	"path"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/linux/apparmor"
	"github.com/tare-engine/tare/internal/linux/seccomp"
)

// minMemory is the least memory with which a container starts at all.
const minMemory = 6 << 20

// ValidateResources checks the limits of a request.
func ValidateResources(r *container.Resources) error {
	if err := CheckText(r); err != nil {
		return err
	}
	return validateResources(r)
}

// validateResources checks limits, of a create or an update request.
func validateResources(r *container.Resources) error {
	for _, check := range []func(*container.Resources) error{
		validateMemory, validateCPU, validateRealtime, validateCpuset, validateBlkio, validateDevices, validateUlimits,
	} {
		if err := check(r); err != nil {
			return err
		}
	}
	if r.PidsLimit != nil && *r.PidsLimit < -1 {
		return invalid("invalid PidsLimit %d: must be -1 (unlimited) or greater", *r.PidsLimit)
	}
	return nil
}

func validateMemory(r *container.Resources) error {
	switch {
	case r.Memory != 0 && r.Memory < minMemory:
		return invalid("Minimum memory limit allowed is 6MB")
	case r.MemorySwap < -1:
		return invalid("invalid MemorySwap %d: must be -1 (unlimited) or greater", r.MemorySwap)
	case r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return invalid("Minimum memoryswap limit should be larger than memory limit, see usage")
	case r.Memory == 0 && r.MemorySwap > 0:
		return invalid("You should always set the Memory limit when using Memoryswap limit, see usage")
	case r.MemorySwappiness != nil && (*r.MemorySwappiness < -1 || *r.MemorySwappiness > 100):
		return invalid("Invalid value: %v, valid memory swappiness range is 0-100", *r.MemorySwappiness)
	}
	return validateReservation(r)
}

func validateReservation(r *container.Resources) error {
	switch {
	case r.MemoryReservation != 0 && r.MemoryReservation < minMemory:
		return invalid("Minimum memory reservation allowed is 6MB")
	case r.Memory > 0 && r.MemoryReservation > 0 && r.Memory < r.MemoryReservation:
		return invalid("Minimum memory limit can not be less than memory reservation limit, see usage")
	}
	return nil
}

func validateCPU(r *container.Resources) error {
	n := goruntime.NumCPU()
	switch {
	case r.NanoCPUs > 0 && r.CPUPeriod > 0:
		return invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set")
	case r.NanoCPUs > 0 && r.CPUQuota > 0:
		return invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
	case r.NanoCPUs < 0 || r.NanoCPUs > 0 && r.NanoCPUs < 1e7 || r.NanoCPUs > int64(n)*1e9:
		return invalid("range of CPUs is from 0.01 to %s, as there are only %d CPUs available", strconv.Itoa(n)+".00", n)
	case r.CPUShares < 0:
		return invalid("invalid CPU shares (%d): value must be a positive integer", r.CPUShares)
	case r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1000000):
		return invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	case r.CPUQuota > 0 && r.CPUQuota < 1000 || r.CPUQuota < -1:
		return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	case r.CPURealtimePeriod < 0 || r.CPURealtimeRuntime < 0:
		return invalid("invalid CPU real-time period or runtime (%d, %d): must not be negative", r.CPURealtimePeriod, r.CPURealtimeRuntime)
	case r.CPURealtimePeriod > 0 && r.CPURealtimeRuntime > r.CPURealtimePeriod:
		return invalid("cpu real-time runtime cannot be higher than cpu real-time period")
	case r.CPUCount != 0 || r.CPUPercent != 0:
		return invalid("CpuCount and CpuPercent are options of Windows")
	case r.IOMaximumBandwidth != 0:
		return invalid("invalid QoS settings: %s does not support configuration of maximum bandwidth", goruntime.GOOS)
	case r.IOMaximumIOps != 0:
		return invalid("invalid QoS settings: %s does not support configuration of maximum IOPs", goruntime.GOOS)
	}
	return nil
}

func validateCpuset(r *container.Resources) error {
	for _, c := range []struct{ kind, what, value, file string }{
		{"cpus", "CPUs", r.CpusetCpus, "/sys/devices/system/cpu/online"},
		{"mems", "memory nodes", r.CpusetMems, "/sys/devices/system/node/online"},
	} {
		if c.value == "" {
			continue
		}
		asked, ok := numberSet(c.value)
		if !ok {
			return invalid("Invalid value %[1]s for cpuset %[2]s: invalid format: %[1]s", shown(c.value), c.kind)
		}
		text, err := os.ReadFile(c.file)
		online := strings.TrimSpace(string(text))
		if err != nil { // a kernel without NUMA
			online = "0"
		}
		have, _ := numberSet(online)
		for n := range asked {
			if !have[n] {
				return invalid("Requested %s are not available - requested %s, available: %s", c.what, c.value, online)
			}
		}
	}
	return nil
}

// maxSet is the highest processor number: the kernel's limit is 8192.
const maxSet = 8192

// numberSet reads a list such as 0-3,7.
func numberSet(s string) (map[int]bool, bool) {
	set := map[int]bool{}
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		a, err := strconv.ParseUint(first, 10, 16)
		if err != nil {
			return nil, false
		}
		b := a
		if isRange {
			if b, err = strconv.ParseUint(last, 10, 16); err != nil || b < a {
				return nil, false
			}
		}
		if b >= maxSet {
			return nil, false
		}
		for n := a; n <= b; n++ {
			set[int(n)] = true
		}
	}
	return set, true
}

func validateBlkio(r *container.Resources) error {
	weight := func(w uint16) error {
		if w != 0 && (w < 10 || w > 1000) {
			return invalid("Range of blkio weight is from 10 to 1000")
		}
		return nil
	}
	if err := weight(r.BlkioWeight); err != nil {
		return err
	}
	for _, w := range r.BlkioWeightDevice {
		if w == nil {
			return invalid("BlkioWeightDevice: null")
		}
		if err := weight(w.Weight); err != nil {
			return err
		}
	}
	for _, list := range [][]*blkiodev.ThrottleDevice{r.BlkioDeviceReadBps, r.BlkioDeviceWriteBps, r.BlkioDeviceReadIOps, r.BlkioDeviceWriteIOps} {
		if slices.Contains(list, nil) {
			return invalid("BlkioDevice: null")
		}
	}
	_, err := blockIOOf(r)
	return err
}

func validateDevices(r *container.Resources) error {
	for i := range r.DeviceRequests {
		if err := validateDeviceRequest(&r.DeviceRequests[i]); err != nil {
			return err
		}
	}
	for _, text := range r.DeviceCgroupRules {
		if _, err := parseDeviceRule(text); err != nil {
			return err
		}
	}
	for i := range r.Devices {
		d := &r.Devices[i]
		if d.PathInContainer == "" {
			d.PathInContainer = d.PathOnHost
		}
		for _, p := range []string{d.PathOnHost, d.PathInContainer} {
			if !path.IsAbs(p) || path.Clean(p) == "/" {
				return invalid("invalid device path %q: must be absolute", shown(p))
			}
		}
		d.PathOnHost, d.PathInContainer = path.Clean(d.PathOnHost), path.Clean(d.PathInContainer)
		if strings.Trim(d.CgroupPermissions, "rwm") != "" || len(d.CgroupPermissions) > 3 {
			return invalid("invalid device cgroup permissions: %q", shown(d.CgroupPermissions))
		}
		if _, err := devicesAt(d.PathOnHost); err != nil {
			return err
		}
	}
	return nil
}

func validateUlimits(r *container.Resources) error {
	seen := map[string]bool{}
	for _, u := range r.Ulimits {
		if u == nil {
			return invalid("Ulimits: null")
		}
		if _, err := u.GetRlimit(); err != nil {
			return invalid("%w", err)
		}
		switch {
		case seen[u.Name]:
			return invalid("duplicate ulimit %s", u.Name)
		case u.Soft < -1 || u.Hard < -1:
			return invalid("invalid ulimit %s: limits are -1 (unlimited) or greater", u)
		case u.Hard != -1 && u.Soft == -1:
			return invalid("ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: %d", u.Hard)
		case u.Hard != -1 && u.Soft > u.Hard:
			return invalid("ulimit soft limit must be less than or equal to hard limit: %d > %d", u.Soft, u.Hard)
		}
		seen[u.Name] = true
	}
	return nil
}

// validateSecurity checks capabilities, --security-opt, paths and sysctls.
func validateSecurity(req *container.CreateRequest) error {
	h := req.HostConfig
	if _, err := normalizeCapabilities(h.CapAdd); err != nil {
		return fmt.Errorf("invalid CapAdd: %w", err)
	}
	if _, err := normalizeCapabilities(h.CapDrop); err != nil {
		return fmt.Errorf("invalid CapDrop: %w", err)
	}
	o, err := parseSecurityOpts(h.SecurityOpt)
	if err != nil {
		return err
	}
	if o.appArmor != "" && o.appArmor != "unconfined" && !apparmor.Enabled() {
		return invalid("invalid --security-opt 2: %q: AppArmor is not enabled on this host", "apparmor="+shown(o.appArmor))
	}
	if err := validateSeccomp(o.seccomp, h); err != nil {
		return err
	}
	for field, paths := range map[string][]string{"MaskedPaths": h.MaskedPaths, "ReadonlyPaths": h.ReadonlyPaths} {
		for _, p := range paths {
			if !path.IsAbs(p) || path.Clean(p) != p || p == "/" {
				return invalid("invalid path %q in %s: must be absolute", shown(p), field)
			}
		}
	}
	for _, k := range sortedKeysOf(h.Sysctls) {
		if err := validateSysctl(k, h.Sysctls[k], h); err != nil {
			return err
		}
	}
	return nil
}

func validateSeccomp(option string, h *container.HostConfig) error {
	if option == "" || option == "unconfined" || option == "builtin" {
		return nil
	}
	list, err := capabilitiesOf(h.CapAdd, h.CapDrop, h.Privileged)
	if err != nil {
		return err
	}
	p, err := seccomp.Parse(option, list)
	if err == nil && p != nil {
		_, err = seccomp.Compile(p)
	}
	if err != nil {
		return invalid("%w", err)
	}
	if p != nil && (p.ListenerPath != "" || strings.Contains(option, "SCMP_ACT_NOTIFY")) {
		return missing("seccomp listenerPath", p.ListenerPath)
	}
	return nil
}

// ipcSysctls belong to an IPC namespace. All of net. belong to a network
// namespace; the rest would change the host.
var ipcSysctls = []string{
	"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
}

func validateSysctl(key, value string, h *container.HostConfig) error {
	if strings.ContainsAny(value, "\n\r") || len(value) > 4096 {
		return invalid("invalid value %q for sysctl %s", shown(value), shown(key))
	}
	if key == "" || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r >= 0x7f }) || strings.Contains(key, "..") || strings.HasPrefix(key, "/") {
		return invalid("invalid sysctl %q", shown(key))
	}
	name := strings.ReplaceAll(key, "/", ".")
	switch {
	case strings.HasPrefix(name, "net."):
		if h.NetworkMode.IsHost() {
			return invalid("sysctl %q not allowed in host network namespace", key)
		}
	case contains(ipcSysctls, name) || strings.HasPrefix(name, "fs.mqueue."):
		if h.IpcMode.IsHost() {
			return invalid("sysctl %q not allowed in host IPC namespace", key)
		}
	case name == "kernel.domainname":
		if h.UTSMode.IsHost() {
			return invalid("sysctl %q not allowed in host UTS namespace", key)
		}
	default:
		return invalid("sysctl %q is not in a separate kernel namespace", key)
	}
	return nil
}
