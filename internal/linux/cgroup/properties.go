package cgroup

import (
	"math"
	"strconv"
	"strings"
)

// unitProperties are the files whose values systemd has properties for; see
// systemd.resource-control(5). Those of version 1 come before the line.
var unitProperties = map[string]string{
	"memory.limit_in_bytes": "MemoryLimit",
	"cpu.shares":            "CPUShares",
	"blkio.weight":          "BlockIOWeight",

	"memory.min":      "MemoryMin",
	"memory.low":      "MemoryLow",
	"memory.high":     "MemoryHigh",
	"memory.max":      "MemoryMax",
	"memory.swap.max": "MemorySwapMax",
	"cpu.weight":      "CPUWeight",
	"pids.max":        "TasksMax",
}

// bandwidth is a quota of processor time in a period, both in microseconds; of
// quotas -1 is no limit, 0 nothing that was said.
type bandwidth struct{ quota, period int64 }

// propertiesOf are the properties by which systemd knows limits. What it has none
// for, or what it could not read, is left out: the files have it. now is what is
// in force: a limit may change one half of it.
func propertiesOf(l limits, now bandwidth) map[string]any {
	p := map[string]any{}
	b, changed := now, false
	for _, x := range l {
		name, known := unitProperties[x.file]
		switch {
		case known:
			if v, ok := unitNumber(x.value); ok {
				p[name] = v
			}
		case x.file == "cpu.max": // QUOTA PERIOD, in microseconds
			quota, period, both := strings.Cut(x.value, " ")
			b.quota, changed = microseconds(quota), true
			if both {
				b.period = microseconds(period)
			}
		case x.file == "cpu.cfs_quota_us":
			b.quota, changed = microseconds(x.value), true
		case x.file == "cpu.cfs_period_us":
			b.period, changed = microseconds(x.value), true
		case x.file == "io.weight" && strings.HasPrefix(x.value, "default "):
			if v, ok := unitNumber(x.value[len("default "):]); ok {
				p["IOWeight"] = v
			}
		case x.controller != "": // systemd has no property of version 1's cpuset
		case x.file == "cpuset.cpus":
			setBits(p, "AllowedCPUs", x.value)
		case x.file == "cpuset.mems":
			setBits(p, "AllowedMemoryNodes", x.value)
		}
	}
	if changed && b.quota != 0 && b.period > 0 {
		p["CPUQuotaPerSecUSec"], p["CPUQuotaPeriodUSec"] = b.perSecond(), uint64(b.period)
	}
	return p
}

// perSecond is the quota in microseconds for each second. systemd keeps whole
// percents: it is rounded up to one, so that the file's value is within it.
func (b bandwidth) perSecond() uint64 {
	const second, percent = 1_000_000, 10_000
	if b.quota < 0 || b.quota > math.MaxInt64/second {
		return math.MaxUint64 // no limit
	}
	us := uint64(b.quota) * second / uint64(b.period)
	return (us + percent - 1) / percent * percent
}

// bandwidthNow is what the group has; of one without files the kernel's default.
func (g *Group) bandwidthNow() bandwidth {
	b := bandwidth{period: defaultPeriod}
	switch t := g.tree.(type) {
	case *v1:
		if d, ok := g.dir("cpu"); ok {
			if s, err := read(d.path, "cpu.cfs_quota_us"); err == nil {
				b.quota = microseconds(s)
			}
			if s, err := read(d.path, "cpu.cfs_period_us"); err == nil {
				b.period = microseconds(s)
			}
		}
	case *v2:
		quota, period := t.bandwidth(g)
		b = bandwidth{microseconds(quota), microseconds(period)}
	}
	return b
}

// microseconds is -1 for no limit, 0 for what is no number.
func microseconds(s string) int64 {
	if s == "max" {
		return -1
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// unitNumber is a value as systemd has it: no limit is its largest number.
func unitNumber(s string) (uint64, bool) {
	if s == "max" || s == "-1" {
		return math.MaxUint64, true
	}
	v, err := strconv.ParseUint(s, 10, 64)
	return v, err == nil
}

// setBits sets a property to the bits of a list such as "0-2,7"; bit 0 is the
// lowest of the first byte. Of what is no list the property is not set.
func setBits(p map[string]any, name, list string) {
	var bits []byte
	for part := range strings.SplitSeq(strings.TrimSpace(list), ",") {
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		if err != nil {
			return
		}
		to, err := strconv.ParseUint(last, 10, 16)
		if err != nil || to < from {
			return
		}
		for n := from; n <= to; n++ {
			for int(n/8) >= len(bits) {
				bits = append(bits, 0)
			}
			bits[n/8] |= 1 << (n % 8)
		}
	}
	p[name] = bits
}
