package cgroup

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// limits is a list of files to write, in order.
type limits []limit

type limit struct{ controller, file, value string }

func (l *limits) set(controller, file, value string) {
	*l = append(*l, limit{controller, file, value})
}

func (l *limits) setUint(controller, file string, v *uint64) {
	if v != nil && *v != 0 {
		l.set(controller, file, uintText(*v))
	}
}

func (l *limits) setInt(controller, file string, v *int64) {
	if v != nil && *v != 0 {
		l.set(controller, file, strconv.FormatInt(*v, 10))
	}
}

func (l *limits) setText(controller, file, v string) {
	if v != "" {
		l.set(controller, file, v)
	}
}

// write puts the values into the group's files.
func (l limits) write(g *Group) error {
	for _, x := range l {
		d, ok := g.dir(x.controller)
		if !ok {
			return fmt.Errorf("limit %s=%s: the host has no %s cgroup", x.file, x.value, x.controller)
		}
		err := write(d.path, x.file, x.value)
		switch {
		case err == nil:
		case errors.Is(err, os.ErrNotExist) && exists(d.path, "cgroup.procs"):
			return fmt.Errorf("limit %s=%s: not offered by this kernel", x.file, x.value)
		case errors.Is(err, unix.EBUSY) && x.file == "memory.limit_in_bytes":
			usage, _ := readUint(d.path, "memory.usage_in_bytes")
			return fmt.Errorf("unable to set memory limit to %s (current usage: %d): %w", x.value, usage, err)
		default:
			return err
		}
	}
	return nil
}

func uintText(v uint64) string { return strconv.FormatUint(v, 10) }

// maxOr prints a limit; zero and below mean none.
func maxOr(v int64) string {
	if v <= 0 {
		return "max"
	}
	return strconv.FormatInt(v, 10)
}

func (t *v1) memory(l *limits, m *specs.LinuxMemory, g *Group, fresh bool) {
	if m == nil {
		return
	}
	limit := func() { l.setInt("memory", "memory.limit_in_bytes", m.Limit) }
	swap := func() { l.setInt("memory", "memory.memsw.limit_in_bytes", m.Swap) }
	// At every moment memory plus swap must not be below memory.
	if !fresh && t.raisesSwap(m, g) {
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
	if m.DisableOOMKiller != nil && *m.DisableOOMKiller {
		l.set("memory", "memory.oom_control", "1")
	}
	l.setInt("memory", "memory.kmem.tcp.limit_in_bytes", m.KernelTCP)
}

// raisesSwap reports whether the new sum of memory and swap is above the one
// in force.
func (t *v1) raisesSwap(m *specs.LinuxMemory, g *Group) bool {
	d, ok := g.dir("memory")
	if !ok || m.Swap == nil || m.Limit == nil {
		return false
	}
	now, err := readUint(d.path, "memory.memsw.limit_in_bytes")
	return err == nil && (*m.Swap < 0 || uint64(*m.Swap) > now)
}

func (t *v1) cpu(l *limits, c *specs.LinuxCPU) {
	if c == nil {
		return
	}
	l.setUint("cpu", "cpu.shares", c.Shares)
	l.setUint("cpu", "cpu.cfs_period_us", c.Period)
	l.setInt("cpu", "cpu.cfs_quota_us", c.Quota)
	l.setUint("cpu", "cpu.cfs_burst_us", c.Burst)
	l.setUint("cpu", "cpu.rt_period_us", c.RealtimePeriod)
	l.setInt("cpu", "cpu.rt_runtime_us", c.RealtimeRuntime)
	l.setInt("cpu", "cpu.idle", c.Idle)
	l.setText("cpuset", "cpuset.cpus", c.Cpus)
	l.setText("cpuset", "cpuset.mems", c.Mems)
}

func (t *v1) blockIO(l *limits, b *specs.LinuxBlockIO, g *Group) {
	if b == nil {
		return
	}
	prefix := "blkio."
	if d, ok := g.dir("blkio"); ok && !exists(d.path, "blkio.weight") && exists(d.path, "blkio.bfq.weight") {
		prefix = "blkio.bfq."
	}
	if b.Weight != nil && *b.Weight != 0 {
		l.set("blkio", prefix+"weight", uintText(uint64(*b.Weight)))
	}
	for _, w := range b.WeightDevice {
		if w.Weight != nil {
			l.set("blkio", prefix+"weight_device", fmt.Sprintf("%d:%d %d", w.Major, w.Minor, *w.Weight))
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
