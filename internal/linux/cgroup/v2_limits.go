package cgroup

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func (t *v2) apply(g *Group, r *specs.LinuxResources, fresh bool) error {
	l, err := t.limits(g, r, fresh)
	if err != nil {
		return err
	}
	if err := l.write(g, t.flags); err != nil {
		return err
	}
	if !fresh || len(r.Devices) == 0 || sameRules(r.Devices, AllDevices()) {
		return nil
	}
	return attachDevices(g.dirs[0].path, r.Devices)
}

func (t *v2) limits(g *Group, r *specs.LinuxResources, fresh bool) (limits, error) {
	if !fresh {
		d := g.dirs[0].path
		if err := checkUsage(r.Memory, func() (uint64, error) { return readUint(d, "memory.current") }); err != nil {
			return nil, err
		}
	}
	var l limits
	if err := checkNames(r); err != nil {
		return nil, err
	}
	if err := t.memory(&l, r.Memory); err != nil {
		return nil, err
	}
	if err := t.cpu(&l, r.CPU, g); err != nil {
		return nil, err
	}
	if r.Pids != nil && r.Pids.Limit != nil {
		l.set("", "pids.max", maxOr(*r.Pids.Limit))
	}
	if err := t.io(&l, r.BlockIO, g); err != nil {
		return nil, err
	}
	for _, h := range r.HugepageLimits {
		l.set("", "hugetlb."+h.Pagesize+".max", uintText(h.Limit))
		l.setOptional("", "hugetlb."+h.Pagesize+".rsvd.max", uintText(h.Limit)) // since 5.7
	}
	l.setRdma(r.Rdma)
	if r.Network != nil && (r.Network.ClassID != nil || len(r.Network.Priorities) > 0) {
		return nil, &Unsupported{Limit: "network classes and priorities", Controller: "net_cls", Version: 1}
	}
	for _, key := range sortedKeys(r.Unified) {
		for line := range strings.Lines(r.Unified[key]) {
			l.set("", key, strings.TrimSuffix(line, "\n"))
		}
	}
	return l, nil
}

// memory: the specification's swap is the sum of memory and swap; version 2
// counts swap alone.
func (t *v2) memory(l *limits, m *specs.LinuxMemory) error {
	if m == nil {
		return nil
	}
	switch {
	case m.Swap != nil && *m.Swap != 0:
		switch {
		case *m.Swap < 0:
			l.set("", "memory.swap.max", "max")
		case m.Limit == nil || *m.Limit <= 0:
			return errors.New("unable to set swap limit without memory limit")
		case *m.Swap < *m.Limit:
			return fmt.Errorf("memory plus swap (%d) is below memory (%d)", *m.Swap, *m.Limit)
		default:
			l.set("", "memory.swap.max", strconv.FormatInt(*m.Swap-*m.Limit, 10)) // "0" is none at all
		}
	case m.Limit != nil && *m.Limit == -1: // no bound of memory: none of the sum either
		l.setOptional("", "memory.swap.max", "max")
	}
	if m.Limit != nil && *m.Limit != 0 {
		l.set("", "memory.max", maxOr(*m.Limit))
	}
	if m.Reservation != nil && *m.Reservation != 0 {
		l.set("", "memory.low", maxOr(*m.Reservation))
	}
	switch {
	case m.Swappiness != nil:
		return &Unsupported{Limit: "memory swappiness", Controller: "memory", Version: 1}
	case m.DisableOOMKiller != nil && *m.DisableOOMKiller:
		return &Unsupported{Limit: "disabling the OOM killer", Controller: "memory", Version: 1}
	case m.KernelTCP != nil && *m.KernelTCP > 0:
		return &Unsupported{Limit: "memory of TCP buffers", Controller: "memory", Version: 1}
	}
	return nil
}

// defaultPeriod is the kernel's period for CPU quotas, in microseconds.
const defaultPeriod = 100000

func (t *v2) cpu(l *limits, c *specs.LinuxCPU, g *Group) error {
	if c == nil {
		return nil
	}
	if c.RealtimePeriod != nil && *c.RealtimePeriod != 0 || c.RealtimeRuntime != nil && *c.RealtimeRuntime != 0 {
		return &Unsupported{Limit: "real-time scheduling", Controller: "cpu", Version: 1}
	}
	d := g.dirs[0].path
	idle := c.Idle != nil && *c.Idle == 1
	if c.Idle != nil && (idle || exists(d, "cpu.idle")) { // since 5.15
		l.setIdle(idle)
	}
	if c.Shares != nil && *c.Shares != 0 && !idle { // an idle group has no weight
		l.set("", "cpu.weight", uintText(weightOf(*c.Shares)))
	}
	t.quota(l, c, g)
	l.setText("", "cpuset.cpus", c.Cpus)
	l.setText("", "cpuset.mems", c.Mems)
	return nil
}

func (l *limits) setIdle(idle bool) { l.set("", "cpu.idle", boolText(idle)) }

// quota orders the limits: the kernel wants burst <= quota always.
func (t *v2) quota(l *limits, c *specs.LinuxCPU, g *Group) {
	now, _ := readUint(g.dirs[0].path, "cpu.max.burst") // since 5.14
	burst := func() {
		if c.Burst != nil && (*c.Burst != 0 || now != 0) {
			l.set("", "cpu.max.burst", uintText(*c.Burst))
		}
	}
	lower := c.Burst != nil && *c.Burst < now
	if lower {
		burst()
	}
	if c.Quota != nil && *c.Quota != 0 || c.Period != nil && *c.Period != 0 {
		quota, period := t.bandwidth(g)
		if c.Quota != nil && *c.Quota != 0 {
			quota = maxOr(*c.Quota)
		}
		if c.Period != nil && *c.Period != 0 {
			period = uintText(*c.Period)
		}
		l.set("", "cpu.max", quota+" "+period)
	}
	if !lower {
		burst()
	}
}

// bandwidth returns the quota and the period in force: an update may name one
// of them only.
func (t *v2) bandwidth(g *Group) (quota, period string) {
	now, err := read(g.dirs[0].path, "cpu.max")
	if f := strings.Fields(now); err == nil && len(f) == 2 {
		return f[0], f[1]
	}
	return "max", strconv.Itoa(defaultPeriod)
}

func (t *v2) io(l *limits, b *specs.LinuxBlockIO, g *Group) error {
	if b == nil {
		return nil
	}
	if b.LeafWeight != nil && *b.LeafWeight != 0 {
		return &Unsupported{Limit: "leaf weight", Controller: "blkio", Version: 1}
	}
	file, scale := "io.weight", ioWeight
	if d := g.dirs[0].path; exists(d, "io.bfq.weight") {
		file, scale = "io.bfq.weight", func(w uint16) uint64 { return uint64(w) }
	}
	if b.Weight != nil && *b.Weight != 0 {
		l.set("", file, "default "+uintText(scale(*b.Weight)))
	}
	for _, w := range b.WeightDevice {
		if w.LeafWeight != nil {
			return &Unsupported{Limit: "leaf weight", Controller: "blkio", Version: 1}
		}
		if w.Weight != nil {
			l.set("", file, fmt.Sprintf("%d:%d %d", w.Major, w.Minor, scale(*w.Weight)))
		}
	}
	for _, list := range []struct {
		key     string
		devices []specs.LinuxThrottleDevice
	}{
		{"rbps", b.ThrottleReadBpsDevice}, {"wbps", b.ThrottleWriteBpsDevice},
		{"riops", b.ThrottleReadIOPSDevice}, {"wiops", b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range list.devices {
			rate := "max"
			if d.Rate > 0 {
				rate = uintText(d.Rate)
			}
			l.set("", "io.max", fmt.Sprintf("%d:%d %s=%s", d.Major, d.Minor, list.key, rate))
		}
	}
	return nil
}

// ioWeight turns a weight of 10 to 1000 into one of 1 to 10000.
func ioWeight(w uint16) uint64 { return 1 + (max(uint64(w), 10)-10)*9999/990 }
