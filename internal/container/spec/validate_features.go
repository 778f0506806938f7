package spec

import (
	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/linux/cgroup"
)

// validateRealtime refuses CPU real-time on a kernel without: Docker does not
// discard it.
func validateRealtime(r *container.Resources) error {
	if r.CPURealtimePeriod == 0 && r.CPURealtimeRuntime == 0 {
		return nil
	}
	f, err := cgroup.HostFeatures()
	if err == nil && !f.CPURealtime {
		return invalid("Your kernel does not support CPU real-time scheduler")
	}
	return nil
}

// discardUnsupported takes out limits that this kernel does not offer, each
// with Docker's warning. What it cannot find out it leaves in: the start then
// says what is missing.
func discardUnsupported(r *container.Resources) []string {
	f, err := cgroup.HostFeatures()
	if err != nil {
		return nil
	}
	return discard(r, f)
}

func discard(r *container.Resources, f cgroup.Features) []string {
	var warnings []string
	drop := func(asked, offered bool, text string, forget func()) {
		if asked && !offered {
			forget()
			warnings = append(warnings, "Your kernel does not support "+text)
		}
	}
	const unmounted = " or the cgroup is not mounted. "
	drop(r.Memory > 0, f.Memory, "memory limit capabilities"+unmounted+"Limitation discarded.", func() { r.Memory, r.MemorySwap = 0, 0 })
	drop(r.Memory > 0 && r.MemorySwap > 0, f.Swap, "swap limit capabilities"+unmounted+"Memory limited without swap.", func() { r.MemorySwap = 0 })
	drop(r.MemoryReservation > 0, f.Reservation, "memory soft limit capabilities"+unmounted+"Limitation discarded.", func() { r.MemoryReservation = 0 })
	drop(r.MemorySwappiness != nil && *r.MemorySwappiness >= 0, f.Swappiness, "memory swappiness capabilities"+unmounted+"Memory swappiness discarded.", func() { r.MemorySwappiness = nil })
	drop(r.OomKillDisable != nil && *r.OomKillDisable, f.OOMDisable, "OomKillDisable. OomKillDisable discarded.", func() { r.OomKillDisable = nil })
	drop(r.PidsLimit != nil && *r.PidsLimit > 0, f.Pids, "PIDs limit capabilities"+unmounted+"PIDs limit discarded.", func() { none := int64(-1); r.PidsLimit = &none })
	drop(r.CPUShares > 0, f.CPUShares, "CPU shares"+unmounted+"Shares discarded.", func() { r.CPUShares = 0 })
	drop(r.NanoCPUs > 0 || r.CPUPeriod > 0 || r.CPUQuota > 0, f.CPUQuota, "CPU CFS scheduler"+unmounted+"Quota and period discarded.", func() { r.NanoCPUs, r.CPUPeriod, r.CPUQuota = 0, 0, 0 })
	drop(r.CpusetCpus != "" || r.CpusetMems != "", f.Cpuset, "cpuset"+unmounted+"Cpuset discarded.", func() { r.CpusetCpus, r.CpusetMems = "", "" })
	drop(r.BlkioWeight > 0, f.Weight, "Block I/O weight"+unmounted+"Weight discarded.", func() { r.BlkioWeight = 0 })
	drop(len(r.BlkioWeightDevice) > 0, f.WeightDevice, "Block I/O weight_device"+unmounted+"Weight-device discarded.", func() { r.BlkioWeightDevice = nil })
	drop(len(r.BlkioDeviceReadBps)+len(r.BlkioDeviceWriteBps)+len(r.BlkioDeviceReadIOps)+len(r.BlkioDeviceWriteIOps) > 0, f.Throttle,
		"Block I/O limits in bytes or operations a second"+unmounted+"Limits discarded.",
		func() {
			r.BlkioDeviceReadBps, r.BlkioDeviceWriteBps, r.BlkioDeviceReadIOps, r.BlkioDeviceWriteIOps = nil, nil, nil, nil
		})
	return warnings
}
