package spec

import (
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/device"
)

// Resources turns limits of the API, at create or update, into those of the
// runtime spec. Devices are not among them.
func Resources(r *container.Resources) (*specs.LinuxResources, error) {
	out := &specs.LinuxResources{Memory: memoryOf(r), CPU: cpuOf(r)}
	if r.PidsLimit != nil {
		limit := *r.PidsLimit
		if limit <= 0 {
			limit = -1
		}
		out.Pids = &specs.LinuxPids{Limit: &limit}
	}
	io, err := blockIOOf(r)
	out.BlockIO = io
	return out, err
}

func memoryOf(r *container.Resources) *specs.LinuxMemory {
	m := &specs.LinuxMemory{
		Limit: nonZero(r.Memory), Reservation: nonZero(r.MemoryReservation), Swap: nonZero(r.MemorySwap), DisableOOMKiller: r.OomKillDisable,
	}
	if r.MemorySwappiness != nil && *r.MemorySwappiness >= 0 {
		v := uint64(*r.MemorySwappiness)
		m.Swappiness = &v
	}
	if *m == (specs.LinuxMemory{}) {
		return nil
	}
	return m
}

// quotaPeriod is the period in which --cpus is spent, in microseconds.
const quotaPeriod = 100000

func cpuOf(r *container.Resources) *specs.LinuxCPU {
	c := &specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems, Quota: nonZero(r.CPUQuota)}
	if r.CPUShares > 0 {
		c.Shares = nonZero(uint64(r.CPUShares))
	}
	if r.CPUPeriod > 0 {
		c.Period = nonZero(uint64(r.CPUPeriod))
	}
	if r.CPURealtimePeriod > 0 {
		c.RealtimePeriod = nonZero(uint64(r.CPURealtimePeriod))
	}
	c.RealtimeRuntime = nonZero(r.CPURealtimeRuntime)
	if r.NanoCPUs > 0 {
		c.Period = nonZero(uint64(quotaPeriod))
		c.Quota = nonZero(r.NanoCPUs * quotaPeriod / 1e9)
	}
	if *c == (specs.LinuxCPU{}) {
		return nil
	}
	return c
}

func nonZero[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func blockIOOf(r *container.Resources) (*specs.LinuxBlockIO, error) {
	b := &specs.LinuxBlockIO{Weight: nonZero(r.BlkioWeight)}
	for _, w := range r.BlkioWeightDevice {
		n, err := blockDevice(w.Path)
		if err != nil {
			return nil, err
		}
		b.WeightDevice = append(b.WeightDevice, specs.LinuxWeightDevice{LinuxBlockIODevice: n, Weight: &w.Weight})
	}
	for _, t := range []struct {
		from []*blkiodev.ThrottleDevice
		to   *[]specs.LinuxThrottleDevice
	}{
		{r.BlkioDeviceReadBps, &b.ThrottleReadBpsDevice}, {r.BlkioDeviceWriteBps, &b.ThrottleWriteBpsDevice},
		{r.BlkioDeviceReadIOps, &b.ThrottleReadIOPSDevice}, {r.BlkioDeviceWriteIOps, &b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range t.from {
			n, err := blockDevice(d.Path)
			if err != nil {
				return nil, err
			}
			*t.to = append(*t.to, specs.LinuxThrottleDevice{LinuxBlockIODevice: n, Rate: d.Rate})
		}
	}
	if b.Weight == nil && b.WeightDevice == nil && b.ThrottleReadBpsDevice == nil && b.ThrottleWriteBpsDevice == nil &&
		b.ThrottleReadIOPSDevice == nil && b.ThrottleWriteIOPSDevice == nil {
		return nil, nil
	}
	return b, nil
}

func blockDevice(path string) (specs.LinuxBlockIODevice, error) {
	n, err := device.At(path)
	if err != nil {
		return specs.LinuxBlockIODevice{}, errdefs.As(errdefs.InvalidArgument, err)
	}
	if n.Type != "b" {
		return specs.LinuxBlockIODevice{}, errdefs.New(errdefs.InvalidArgument, "%s: not a block device", path)
	}
	return specs.LinuxBlockIODevice{Major: n.Major, Minor: n.Minor}, nil
}
