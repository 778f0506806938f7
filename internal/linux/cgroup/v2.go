package cgroup

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// v2 is a host with the one tree of version 2.
type v2 struct {
	root  string
	flags int // added to the flags of each open for writing; tests make files so
}

// wanted are the controllers that an engine's groups need.
var wanted = []string{"cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"}

func (t *v2) layout(p string, _ []specs.LinuxDeviceCgroup) []dir {
	return []dir{{path: t.root + "/" + p}}
}

func (t *v2) layouts(p string) []dir { return t.layout(p, nil) }

// prepare makes the parent and hands the controllers down to its groups. The
// parent itself must not have processes: version 2 allows them in leaves only.
func (t *v2) prepare(parent string) error {
	p := t.root
	if err := t.delegate(p); err != nil {
		return err
	}
	for name := range strings.SplitSeq(parent, "/") {
		p += "/" + name
		err := mkdir(p)
		if err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if derr := t.delegate(p); derr != nil {
			return derr
		}
		if err == nil && strings.HasPrefix(name, engineName) {
			if err := t.write(p, "pids.max", hostTasks); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// delegate switches on, for the groups below p, the controllers that p has.
// Each is written alone, so that one that is busy elsewhere does not cost the
// others; a limit that needs it then names the missing file.
func (t *v2) delegate(p string) error {
	has, err := read(p, "cgroup.controllers")
	if err != nil {
		return err
	}
	on, err := read(p, "cgroup.subtree_control")
	if err != nil {
		return err
	}
	for _, c := range wanted {
		if !slices.Contains(strings.Fields(has), c) || slices.Contains(strings.Fields(on), c) {
			continue
		}
		err := t.write(p, "cgroup.subtree_control", "+"+c)
		if err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

func (t *v2) write(p, file, value string) error { return writeFlags(p, file, value, t.flags) }

func (t *v2) apply(g *Group, r *specs.LinuxResources, fresh bool) error {
	l, err := t.limits(g, r)
	if err != nil {
		return err
	}
	d := g.dirs[0].path
	for _, x := range l {
		err := t.write(d, x.file, x.value)
		if errors.Is(err, os.ErrNotExist) && exists(d, "cgroup.procs") {
			return fmt.Errorf("limit %s=%s: not offered by this kernel", x.file, x.value)
		}
		if err != nil {
			return err
		}
	}
	if !fresh || len(r.Devices) == 0 || sameRules(r.Devices, AllDevices()) {
		return nil
	}
	return attachDevices(d, r.Devices)
}

func (t *v2) limits(g *Group, r *specs.LinuxResources) (limits, error) {
	var l limits
	if err := t.memory(&l, r.Memory); err != nil {
		return nil, err
	}
	t.cpu(&l, r.CPU, g)
	if r.Pids != nil && r.Pids.Limit != nil {
		l.set("", "pids.max", maxOr(*r.Pids.Limit))
	}
	t.io(&l, r.BlockIO, g)
	for _, h := range r.HugepageLimits {
		l.set("", "hugetlb."+h.Pagesize+".max", uintText(h.Limit))
	}
	for _, key := range sortedKeys(r.Unified) {
		if key == "" || strings.ContainsAny(key, "/\x00") || !strings.Contains(key, ".") || strings.HasPrefix(key, ".") {
			return nil, fmt.Errorf("invalid unified resource %q", key)
		}
		for line := range strings.Lines(r.Unified[key]) {
			l.set("", key, strings.TrimSuffix(line, "\n"))
		}
	}
	return l, nil
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// memory: the specification's swap is the sum of memory and swap; version 2
// counts swap alone.
func (t *v2) memory(l *limits, m *specs.LinuxMemory) error {
	if m == nil {
		return nil
	}
	if m.Swap != nil && *m.Swap != 0 {
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
	}
	if m.Limit != nil && *m.Limit != 0 {
		l.set("", "memory.max", maxOr(*m.Limit))
	}
	if m.Reservation != nil && *m.Reservation != 0 {
		l.set("", "memory.low", maxOr(*m.Reservation))
	}
	if m.Swappiness != nil || m.DisableOOMKiller != nil && *m.DisableOOMKiller {
		return errors.New("memory swappiness and disabling the OOM killer need cgroup v1")
	}
	return nil
}

// defaultPeriod is the kernel's period for CPU quotas, in microseconds.
const defaultPeriod = 100000

func (t *v2) cpu(l *limits, c *specs.LinuxCPU, g *Group) {
	if c == nil {
		return
	}
	if c.Shares != nil && *c.Shares != 0 {
		l.set("", "cpu.weight", uintText(weightOf(*c.Shares)))
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
	l.setUint("", "cpu.max.burst", c.Burst)
	l.setInt("", "cpu.idle", c.Idle)
	l.setText("", "cpuset.cpus", c.Cpus)
	l.setText("", "cpuset.mems", c.Mems)
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

func (t *v2) io(l *limits, b *specs.LinuxBlockIO, g *Group) {
	if b == nil {
		return
	}
	file, scale := "io.weight", ioWeight
	if d := g.dirs[0].path; exists(d, "io.bfq.weight") {
		file, scale = "io.bfq.weight", func(w uint16) uint64 { return uint64(w) }
	}
	if b.Weight != nil && *b.Weight != 0 {
		l.set("", file, "default "+uintText(scale(*b.Weight)))
	}
	for _, w := range b.WeightDevice {
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
}

// ioWeight turns a weight of 10 to 1000 into one of 1 to 10000.
func ioWeight(w uint16) uint64 { return 1 + (max(uint64(w), 10)-10)*9999/990 }

func (t *v2) freeze(g *Group, frozen bool) error {
	d := g.dirs[0].path
	value := "0"
	if frozen {
		value = "1"
	}
	if err := t.write(d, "cgroup.freeze", value); err != nil || !frozen {
		return err
	}
	end := time.Now().Add(freezeTime)
	for pause := 20 * time.Microsecond; ; pause = min(2*pause, 10*time.Millisecond) {
		ok, err := t.frozen(g)
		if ok || err != nil {
			return err
		}
		if time.Now().After(end) {
			return errors.Join(errors.New("processes do not freeze"), t.write(d, "cgroup.freeze", "0"))
		}
		time.Sleep(pause)
	}
}

func (t *v2) frozen(g *Group) (bool, error) {
	m, err := readFlat(g.dirs[0].path, "cgroup.events")
	return m["frozen"] == 1, err
}

func (t *v2) kill(g *Group) error {
	d := g.dirs[0].path
	if exists(d, "cgroup.kill") { // since 5.14
		return t.write(d, "cgroup.kill", "1")
	}
	errFreeze := t.freeze(g, true)
	if errors.Is(errFreeze, os.ErrNotExist) {
		return nil
	}
	pids, err := g.Pids()
	for _, pid := range pids {
		if e := unix.Kill(pid, syscall.SIGKILL); e != nil && e != unix.ESRCH {
			err = errors.Join(err, e)
		}
	}
	return errors.Join(err, t.freeze(g, false))
}

func (t *v2) oomKills(g *Group) (uint64, error) {
	m, err := readFlat(g.dirs[0].path, "memory.events")
	if errors.Is(err, os.ErrNotExist) && exists(g.dirs[0].path, "cgroup.procs") {
		return 0, nil // no memory controller
	}
	return m["oom_kill"], err
}

func (t *v2) features(parent string) Features {
	on, _ := read(t.root+"/"+parent, "cgroup.subtree_control")
	has := func(c string) bool { return slices.Contains(strings.Fields(on), c) }
	return Features{
		Version: 2, Memory: has("memory"), Reservation: has("memory"), Swap: has("memory") && exists("/proc", "swaps"),
		CPUShares: has("cpu"), CPUQuota: has("cpu"), Cpuset: has("cpuset"), Pids: has("pids"),
		Weight: has("io"), WeightDevice: has("io"), Throttle: has("io"), Huge: has("hugetlb"), Freeze: true,
	}
}

func (t *v2) stats(g *Group) (*Stats, error) {
	d := g.dirs[0].path
	s := &Stats{}
	m, err := readFlat(d, "cpu.stat")
	if err != nil {
		return nil, err
	}
	micro := func(k string) time.Duration { return time.Duration(m[k]) * time.Microsecond }
	s.CPU = CPUStats{Total: micro("usage_usec"), User: micro("user_usec"), System: micro("system_usec"),
		Periods: m["nr_periods"], ThrottledPeriods: m["nr_throttled"], Throttled: micro("throttled_usec")}
	if exists(d, "memory.current") {
		if err := t.memoryStats(d, &s.Memory); err != nil {
			return nil, err
		}
	}
	if exists(d, "pids.current") {
		if err := pidsStats(d, &s.Pids); err != nil {
			return nil, err
		}
	}
	s.IO = t.ioStats(d)
	return s, nil
}

func (t *v2) memoryStats(p string, m *MemoryStats) (err error) {
	if m.Usage, err = readUint(p, "memory.current"); err != nil {
		return err
	}
	if m.Limit, err = readUint(p, "memory.max"); err != nil {
		return err
	}
	m.Peak, _ = readUint(p, "memory.peak") // since 5.19
	events, err := readFlat(p, "memory.events")
	if err != nil {
		return err
	}
	m.Failures = events["max"]
	m.Detail, err = readFlat(p, "memory.stat")
	return err
}

// ioStats reads lines such as 8:0 rbytes=4096 wbytes=0 rios=1 wios=0.
func (t *v2) ioStats(p string) []IOStats {
	s, err := read(p, "io.stat")
	if err != nil {
		return nil // no io controller
	}
	var list []IOStats
	for line := range strings.Lines(s) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		major, minor, ok := deviceOf(f[0])
		if !ok {
			continue
		}
		v := map[string]uint64{}
		for _, kv := range f[1:] {
			k, n, _ := strings.Cut(kv, "=")
			v[k] = parseUint(n)
		}
		list = append(list,
			IOStats{major, minor, "read", v["rbytes"], v["rios"]},
			IOStats{major, minor, "write", v["wbytes"], v["wios"]})
	}
	return list
}
