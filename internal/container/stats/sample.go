package stats

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/linux/cgroup"
)

// Target is a container as it is measured.
type Target struct {
	ID, Name string // the name with its slash
	Group    *cgroup.Group
	Pid      int  // of a process in its network namespace
	HostNet  bool // it uses the host's network, whose traffic is not its own
}

// empty is what is said of a container that does not run.
func empty(t Target) *container.StatsResponse {
	return &container.StatsResponse{ID: t.ID, Name: t.Name, OSType: "linux"}
}

// sample reads a running container's counters. A container that ends meanwhile
// gives an error.
func sample(t Target, host hostCounters) (*container.StatsResponse, error) {
	g, err := t.Group.Stats()
	if err != nil {
		return nil, fmt.Errorf("statistics of container %s: %w", t.ID, err)
	}
	r := empty(t)
	r.Read = time.Now().UTC()
	r.CPUStats = cpu(&g.CPU, host)
	r.MemoryStats = container.MemoryStats{
		Usage: g.Memory.Usage, MaxUsage: g.Memory.Peak, Failcnt: g.Memory.Failures, Stats: g.Memory.Detail,
		Limit: min(g.Memory.Limit, host.memory),
	}
	r.PidsStats = container.PidsStats(g.Pids)
	r.BlkioStats = blkio(g.IO)
	if !t.HostNet {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(t.Pid) + "/net/dev")
		if err != nil {
			return nil, fmt.Errorf("statistics of container %s: %w", t.ID, err)
		}
		r.Networks = interfaces(string(b))
	}
	return r, nil
}

func cpu(c *cgroup.CPUStats, host hostCounters) container.CPUStats {
	s := container.CPUStats{
		CPUUsage: container.CPUUsage{
			TotalUsage: uint64(c.Total), UsageInKernelmode: uint64(c.System), UsageInUsermode: uint64(c.User),
		},
		SystemUsage: uint64(host.cpu), OnlineCPUs: uint32(host.online),
		ThrottlingData: container.ThrottlingData{Periods: c.Periods, ThrottledPeriods: c.ThrottledPeriods, ThrottledTime: uint64(c.Throttled)},
	}
	for _, d := range c.PerCPU {
		s.CPUUsage.PercpuUsage = append(s.CPUUsage.PercpuUsage, uint64(d))
	}
	return s
}

func blkio(io []cgroup.IOStats) container.BlkioStats {
	none := []container.BlkioStatEntry{}
	b := container.BlkioStats{
		IoServiceBytesRecursive: none, IoServicedRecursive: none, IoQueuedRecursive: none, IoServiceTimeRecursive: none,
		IoWaitTimeRecursive: none, IoMergedRecursive: none, IoTimeRecursive: none, SectorsRecursive: none,
	}
	for _, e := range io {
		entry := container.BlkioStatEntry{Major: e.Major, Minor: e.Minor, Op: e.Op}
		entry.Value = e.Bytes
		b.IoServiceBytesRecursive = append(b.IoServiceBytesRecursive, entry)
		entry.Value = e.Ops
		b.IoServicedRecursive = append(b.IoServicedRecursive, entry)
	}
	return b
}

// interfaces reads /proc/PID/net/dev: two lines of headings, then for each link
// its name and eight counters of each direction. The loopback is left out.
func interfaces(dev string) map[string]container.NetworkStats {
	out := map[string]container.NetworkStats{}
	for line := range strings.Lines(dev) {
		name, counters, ok := strings.Cut(line, ":")
		f := strings.Fields(counters)
		name = strings.TrimSpace(name)
		if !ok || len(f) < 16 || name == "lo" {
			continue
		}
		at := func(i int) uint64 {
			n, _ := strconv.ParseUint(f[i], 10, 64)
			return n
		}
		out[name] = container.NetworkStats{
			RxBytes: at(0), RxPackets: at(1), RxErrors: at(2), RxDropped: at(3),
			TxBytes: at(8), TxPackets: at(9), TxErrors: at(10), TxDropped: at(11),
		}
	}
	return out
}

// hostCounters are the host's, against which a container's are read.
type hostCounters struct {
	cpu    time.Duration // of all processors since the boot
	online int           // processors
	memory uint64        // bytes
}

func readHost() (h hostCounters, err error) {
	if h.cpu, h.online, err = cgroup.HostCPU(); err != nil {
		return h, err
	}
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return h, err
	}
	first, _, _ := strings.Cut(string(b), "\n") // MemTotal: 1234 kB
	f := strings.Fields(first)
	if len(f) < 2 || f[0] != "MemTotal:" {
		return h, fmt.Errorf("/proc/meminfo: unexpected form %q", first)
	}
	kb, err := strconv.ParseUint(f[1], 10, 64)
	h.memory = kb << 10
	return h, err
}
