package cgroup

import (
	"fmt"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func (t *v1) apply(g *Group, r *specs.LinuxResources, fresh bool) error {
	l, err := t.limits(g, r, fresh)
	if err != nil {
		return err
	}
	if err := l.write(g, 0); err != nil {
		return err
	}
	return t.devices(g, r.Devices, fresh)
}

func (t *v1) limits(g *Group, r *specs.LinuxResources, fresh bool) (limits, error) {
	if len(r.Unified) > 0 {
		return nil, &Unsupported{Limit: "unified resources", Version: 2}
	}
	if err := checkNames(r); err != nil {
		return nil, err
	}
	if d, ok := g.dir("memory"); ok && !fresh {
		if err := checkUsage(r.Memory, func() (uint64, error) { return readUint(d.path, "memory.usage_in_bytes") }); err != nil {
			return nil, err
		}
	}
	var l limits
	t.memory(&l, r.Memory, g, fresh)
	t.cpu(&l, r.CPU, g, fresh)
	if r.Pids != nil && r.Pids.Limit != nil {
		l.set("pids", "pids.max", maxOr(*r.Pids.Limit))
	}
	t.blockIO(&l, r.BlockIO, g)
	for _, h := range r.HugepageLimits {
		l.set("hugetlb", "hugetlb."+h.Pagesize+".limit_in_bytes", uintText(h.Limit))
		l.setOptional("hugetlb", "hugetlb."+h.Pagesize+".rsvd.limit_in_bytes", uintText(h.Limit)) // since 5.7
	}
	l.setRdma(r.Rdma)
	t.network(&l, r.Network)
	return l, nil
}

// memory: Kernel is not set. The kernel gave that limit up in 5.16, and Docker
// answers it with a warning.
func (t *v1) memory(l *limits, m *specs.LinuxMemory, g *Group, fresh bool) {
	if m == nil {
		return
	}
	sum := m.Swap
	if m.Limit != nil && *m.Limit == -1 && (sum == nil || *sum == 0) {
		sum = m.Limit // a bound of the sum would bound memory as well
	}
	limit := func() { l.setInt("memory", "memory.limit_in_bytes", m.Limit) }
	swap := func() {
		if sum == m.Limit && sum != nil {
			l.setOptional("memory", "memory.memsw.limit_in_bytes", "-1")
			return
		}
		l.setInt("memory", "memory.memsw.limit_in_bytes", sum)
	}
	// At every moment memory plus swap must not be below memory.
	if !fresh && t.raisesSwap(sum, g) {
		swap()
		limit()
	} else {
		limit()
		swap()
	}
	l.setInt("memory", "memory.soft_limit_in_bytes", m.Reservation)
	if m.Swappiness != nil {
		l.set("memory", "memory.swappiness", uintText(*m.Swappiness))
	}
	if m.DisableOOMKiller != nil && (*m.DisableOOMKiller || !fresh) {
		l.set("memory", "memory.oom_control", boolText(*m.DisableOOMKiller))
	}
	l.setInt("memory", "memory.kmem.tcp.limit_in_bytes", m.KernelTCP)
}

func boolText(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// raisesSwap reports whether the new sum of memory and swap is above the one
// in force.
func (t *v1) raisesSwap(sum *int64, g *Group) bool {
	d, ok := g.dir("memory")
	if !ok || sum == nil || *sum == 0 {
		return false
	}
	now, err := readUint(d.path, "memory.memsw.limit_in_bytes")
	return err == nil && (*sum < 0 || uint64(*sum) > now)
}

func (t *v1) cpu(l *limits, c *specs.LinuxCPU, g *Group, fresh bool) {
	if c == nil {
		return
	}
	now := func(file string) int64 {
		d, _ := g.dir("cpu")
		s, err := read(d.path, file)
		if err != nil || fresh {
			return 0
		}
		n, _ := strconv.ParseInt(s, 10, 64)
		return n
	}
	idle := c.Idle != nil && *c.Idle == 1
	if !fresh && c.Idle != nil && !idle {
		l.set("cpu", "cpu.idle", "0") // shares can be set again then
	}
	if !idle {
		l.setUint("cpu", "cpu.shares", c.Shares)
	}
	l.bandwidth(c, now)
	l.realtime(c, now)
	if idle {
		l.set("cpu", "cpu.idle", "1") // since 5.15
	}
	l.setText("cpuset", "cpuset.cpus", c.Cpus)
	l.setText("cpuset", "cpuset.mems", c.Mems)
}

// bandwidth orders quota and burst: the kernel wants burst <= quota always.
func (l *limits) bandwidth(c *specs.LinuxCPU, now func(string) int64) {
	l.setUint("cpu", "cpu.cfs_period_us", c.Period)
	burst := func() {
		if c.Burst != nil && (*c.Burst != 0 || now("cpu.cfs_burst_us") != 0) {
			l.set("cpu", "cpu.cfs_burst_us", uintText(*c.Burst))
		}
	}
	if c.Burst != nil && int64(*c.Burst) < now("cpu.cfs_burst_us") {
		burst()
		l.setInt("cpu", "cpu.cfs_quota_us", c.Quota)
		return
	}
	l.setInt("cpu", "cpu.cfs_quota_us", c.Quota)
	burst()
}

// realtime orders period and runtime: the kernel wants runtime <= period.
func (l *limits) realtime(c *specs.LinuxCPU, now func(string) int64) {
	period := func() { l.setUint("cpu", "cpu.rt_period_us", c.RealtimePeriod) }
	runtime := func() { l.setInt("cpu", "cpu.rt_runtime_us", c.RealtimeRuntime) }
	if c.RealtimePeriod != nil && int64(*c.RealtimePeriod) < now("cpu.rt_runtime_us") {
		runtime()
		period()
		return
	}
	period()
	runtime()
}

func (t *v1) blockIO(l *limits, b *specs.LinuxBlockIO, g *Group) {
	if b == nil {
		return
	}
	prefix := "blkio."
	if d, ok := g.dir("blkio"); ok && !exists(d.path, "blkio.weight") && exists(d.path, "blkio.bfq.weight") {
		prefix = "blkio.bfq."
	}
	weight := func(file string, v *uint16) {
		if v != nil && *v != 0 {
			l.set("blkio", file, uintText(uint64(*v)))
		}
	}
	weight(prefix+"weight", b.Weight)
	weight("blkio.leaf_weight", b.LeafWeight)
	for _, w := range b.WeightDevice {
		if w.Weight != nil {
			l.set("blkio", prefix+"weight_device", fmt.Sprintf("%d:%d %d", w.Major, w.Minor, *w.Weight))
		}
		if w.LeafWeight != nil {
			l.set("blkio", "blkio.leaf_weight_device", fmt.Sprintf("%d:%d %d", w.Major, w.Minor, *w.LeafWeight))
		}
	}
	for file, devices := range map[string][]specs.LinuxThrottleDevice{
		"read_bps_device": b.ThrottleReadBpsDevice, "write_bps_device": b.ThrottleWriteBpsDevice,
		"read_iops_device": b.ThrottleReadIOPSDevice, "write_iops_device": b.ThrottleWriteIOPSDevice,
	} {
		for _, d := range devices {
			l.set("blkio", "blkio.throttle."+file, fmt.Sprintf("%d:%d %d", d.Major, d.Minor, d.Rate))
		}
	}
}

func (t *v1) network(l *limits, n *specs.LinuxNetwork) {
	if n == nil {
		return
	}
	if n.ClassID != nil {
		l.set("net_cls", "net_cls.classid", uintText(uint64(*n.ClassID)))
	}
	for _, p := range n.Priorities {
		l.set("net_prio", "net_prio.ifpriomap", fmt.Sprintf("%s %d", p.Name, p.Priority))
	}
}
