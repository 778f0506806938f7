package cgroup

import (
	"strings"
	"time"
)

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
	s.Huge = hugeStats(d, ".current", func(size string) (h HugeStats) {
		h.Usage, _ = readUint(d, "hugetlb."+size+".current")
		events, _ := readFlat(d, "hugetlb."+size+".events")
		h.Failures = events["max"]
		return h
	})
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
	m.SwapLimit = noLimit
	if m.Swap, err = readUint(p, "memory.swap.current"); err == nil { // not in a kernel without swap
		if m.SwapLimit, err = readUint(p, "memory.swap.max"); err != nil {
			return err
		}
	}
	if m.Detail, err = readFlat(p, "memory.stat"); err != nil {
		return err
	}
	if kernel, ok := m.Detail["kernel"]; ok { // since 5.18
		m.Kernel = kernel
	} else {
		m.Kernel = m.Detail["kernel_stack"] + m.Detail["slab"] + m.Detail["percpu"]
	}
	return nil
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
