package cgroup

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Stats are a group's counters, the groups below it included. Fields of
// controllers that the host lacks are zero; a limit that is not set is the
// largest number. Reading takes some ten small files and nothing else: no
// process, no goroutine, no state kept between two readings.
type Stats struct {
	Memory MemoryStats
	CPU    CPUStats
	Pids   PidsStats
	IO     []IOStats
	Huge   map[string]HugeStats // by page size: 2MB
}

// MemoryStats are bytes, except for Failures, which counts how often the limit
// was met. Swap is without memory, SwapLimit too; version 1, which bounds the
// sum, gives their differences. Peak is 0 on version 2 before 5.19. Detail is
// memory.stat.
type MemoryStats struct {
	Usage, Peak, Limit uint64
	Swap, SwapLimit    uint64
	Kernel             uint64 // of Usage
	Failures           uint64
	Detail             map[string]uint64
}

// CPUStats are sums over all processors.
type CPUStats struct {
	Total, User, System       time.Duration
	Periods, ThrottledPeriods uint64
	Throttled                 time.Duration
	PerCPU                    []time.Duration // version 1 only
}

// PidsStats counts tasks.
type PidsStats struct{ Current, Limit uint64 }

// HugeStats are bytes of huge pages; Failures counts refused ones.
type HugeStats struct{ Usage, Peak, Failures uint64 }

// IOStats are the transfers with one device. Op is "read", "write", ...
type IOStats struct {
	Major, Minor uint64
	Op           string
	Bytes, Ops   uint64
}

func (t *v1) stats(g *Group) (*Stats, error) {
	s := &Stats{}
	if d, ok := g.dir("memory"); ok {
		if err := t.memoryStats(d.path, &s.Memory); err != nil {
			return nil, err
		}
	}
	if d, ok := g.dir("cpuacct"); ok {
		if err := t.cpuacct(d.path, &s.CPU); err != nil {
			return nil, err
		}
	}
	if d, ok := g.dir("cpu"); ok {
		m, err := readFlat(d.path, "cpu.stat")
		if err != nil {
			return nil, err
		}
		s.CPU.Periods, s.CPU.ThrottledPeriods, s.CPU.Throttled = m["nr_periods"], m["nr_throttled"], time.Duration(m["throttled_time"])
	}
	if d, ok := g.dir("pids"); ok {
		if err := pidsStats(d.path, &s.Pids); err != nil {
			return nil, err
		}
	}
	if d, ok := g.dir("blkio"); ok {
		s.IO = t.io(d.path)
	}
	if d, ok := g.dir("hugetlb"); ok {
		s.Huge = hugeStats(d.path, ".usage_in_bytes", func(size string) (h HugeStats) {
			h.Usage, _ = readUint(d.path, "hugetlb."+size+".usage_in_bytes")
			h.Peak, _ = readUint(d.path, "hugetlb."+size+".max_usage_in_bytes")
			h.Failures, _ = readUint(d.path, "hugetlb."+size+".failcnt")
			return h
		})
	}
	return s, nil
}

// pageSizes are those of the host, found once: 2MB, 1GB.
var pageSizes = sync.OnceValue(func() []string {
	entries, err := os.ReadDir("/sys/kernel/mm/hugepages")
	if err != nil {
		return nil // a kernel without
	}
	var sizes []string
	for _, e := range entries {
		kb, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(e.Name(), "hugepages-"), "kB"), 10, 64)
		switch {
		case err != nil:
		case kb >= 1<<20:
			sizes = append(sizes, strconv.FormatUint(kb>>20, 10)+"GB")
		case kb >= 1<<10:
			sizes = append(sizes, strconv.FormatUint(kb>>10, 10)+"MB")
		default:
			sizes = append(sizes, strconv.FormatUint(kb, 10)+"KB")
		}
	}
	return sizes
})

// hugeStats reads the counters of the page sizes that have the file.
func hugeStats(d, file string, of func(size string) HugeStats) map[string]HugeStats {
	var m map[string]HugeStats
	for _, size := range pageSizes() {
		if !exists(d, "hugetlb."+size+file) {
			continue
		}
		if m == nil {
			m = map[string]HugeStats{}
		}
		m[size] = of(size)
	}
	return m
}

func (t *v1) memoryStats(p string, m *MemoryStats) (err error) {
	if m.Usage, err = readUint(p, "memory.usage_in_bytes"); err != nil {
		return err
	}
	if m.Peak, err = readUint(p, "memory.max_usage_in_bytes"); err != nil {
		return err
	}
	if m.Limit, err = readUint(p, "memory.limit_in_bytes"); err != nil {
		return err
	}
	if m.Failures, err = readUint(p, "memory.failcnt"); err != nil {
		return err
	}
	m.SwapLimit = noLimit
	if sum, err := readUint(p, "memory.memsw.usage_in_bytes"); err == nil { // not without swap accounting
		m.Swap = sum - min(sum, m.Usage) // two readings: the sum may be the older one
		bound, err := readUint(p, "memory.memsw.limit_in_bytes")
		if err != nil {
			return err
		}
		if m.SwapLimit = bound - min(bound, m.Limit); bound >= unlimited {
			m.SwapLimit = noLimit
		}
	}
	if m.Limit >= unlimited {
		m.Limit = noLimit
	}
	m.Kernel, _ = readUint(p, "memory.kmem.usage_in_bytes")
	m.Detail, err = readFlat(p, "memory.stat")
	return err
}

// noLimit stands for a limit that is not set.
const noLimit = ^uint64(0)

// unlimited is what version 1 shows for it, or a little less: the largest
// signed number in whole pages, which are up to 64 KB.
const unlimited = 1<<63 - 64<<10

// userHZ is the unit of cpuacct.stat, the same on all of Linux's systems.
const userHZ = 100

func (t *v1) cpuacct(p string, c *CPUStats) error {
	total, err := readUint(p, "cpuacct.usage")
	if err != nil {
		return err
	}
	c.Total = time.Duration(total)
	ticks, err := readFlat(p, "cpuacct.stat")
	if err != nil {
		return err
	}
	c.User = time.Duration(ticks["user"]) * time.Second / userHZ
	c.System = time.Duration(ticks["system"]) * time.Second / userHZ
	each, err := read(p, "cpuacct.usage_percpu")
	if err != nil {
		return err
	}
	for f := range strings.FieldsSeq(each) {
		c.PerCPU = append(c.PerCPU, time.Duration(parseUint(f)))
	}
	return nil
}

func pidsStats(p string, s *PidsStats) (err error) {
	if s.Current, err = readUint(p, "pids.current"); err != nil {
		return err
	}
	s.Limit, err = readUint(p, "pids.max")
	return err
}

// io reads the counters of the throttling layer, which counts with any
// scheduler.
func (t *v1) io(p string) []IOStats {
	var list []IOStats
	index := map[[3]string]int{}
	each := func(file string, set func(*IOStats, uint64)) {
		s, err := read(p, file)
		if err != nil {
			return // not offered: no counters
		}
		for line := range strings.Lines(s) {
			f := strings.Fields(line) // 8:0 Read 4096
			if len(f) != 3 {
				continue
			}
			major, minor, ok := deviceOf(f[0])
			if !ok {
				continue
			}
			key := [3]string{f[0], f[1]}
			i, seen := index[key]
			if !seen {
				i = len(list)
				index[key] = i
				list = append(list, IOStats{Major: major, Minor: minor, Op: strings.ToLower(f[1])})
			}
			set(&list[i], parseUint(f[2]))
		}
	}
	each("blkio.throttle.io_service_bytes_recursive", func(s *IOStats, v uint64) { s.Bytes = v })
	each("blkio.throttle.io_serviced_recursive", func(s *IOStats, v uint64) { s.Ops = v })
	return list
}

// deviceOf reads major:minor.
func deviceOf(s string) (major, minor uint64, ok bool) {
	a, b, ok := strings.Cut(s, ":")
	if !ok {
		return 0, 0, false
	}
	major, errA := strconv.ParseUint(a, 10, 32)
	minor, errB := strconv.ParseUint(b, 10, 32)
	return major, minor, errA == nil && errB == nil
}
