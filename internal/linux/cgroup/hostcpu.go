package cgroup

import (
	"fmt"
	"strings"
	"time"
)

// HostCPU returns the time that all processors have had since the boot, idle
// or not, and how many are on line. A group's share of the host is the growth
// of its CPUStats.Total by the growth of this one.
func HostCPU() (total time.Duration, online int, err error) {
	s, err := read("/proc", "stat")
	if err != nil {
		return 0, 0, err
	}
	return hostCPU(s)
}

// hostCPU reads lines such as "cpu0 user nice system idle iowait irq softirq
// steal guest guest_nice"; the last two are in the first two as well. The line
// "cpu" is the sum.
func hostCPU(stat string) (total time.Duration, online int, err error) {
	for line := range strings.Lines(stat) {
		f := strings.Fields(line)
		switch {
		case len(f) < 8 || !strings.HasPrefix(f[0], "cpu"):
		case f[0] != "cpu":
			online++
		default:
			var ticks uint64
			for _, v := range f[1:min(len(f), 9)] {
				ticks += parseUint(v)
			}
			total = time.Duration(ticks) * (time.Second / userHZ)
		}
	}
	if online == 0 || total == 0 {
		return 0, 0, fmt.Errorf("/proc/stat: no processors")
	}
	return total, online, nil
}
