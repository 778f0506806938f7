package metrics

import (
	"fmt"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/prometheus/client_golang/prometheus"

	own "github.com/tare-engine/tare/internal/container"
	"github.com/tare-engine/tare/internal/engine"
)

// counts measures an engine whenever it is asked.
type counts struct{ engine Engine }

func newCounts(e Engine) counts { return counts{e} }

// metric is one of a fixed name.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

// descriptions are all metrics, gathered as they are declared.
var descriptions []*prometheus.Desc

func declare(kind prometheus.ValueType, name, help string, labels ...string) metric {
	d := prometheus.NewDesc(name, help, labels, nil)
	descriptions = append(descriptions, d)
	return metric{d, kind}
}

func gauge(name, help string, labels ...string) metric {
	return declare(prometheus.GaugeValue, name, help, labels...)
}

func counter(name, help string, labels ...string) metric {
	return declare(prometheus.CounterValue, name, help, labels...)
}

func (m metric) send(to chan<- prometheus.Metric, value float64, labels ...string) {
	to <- prometheus.MustNewConstMetric(m.desc, m.kind, value, labels...)
}

// Those that dockerd has too, with its names.
var (
	engineInfo   = gauge("engine_daemon_engine_info", "The information related to the engine and the OS it is running on", "version", "commit", "architecture", "graphdriver", "kernel", "os", "os_type", "os_version", "daemon_id")
	engineCPUs   = gauge("engine_daemon_engine_cpus_cpus", "The number of cpus that the host system of the engine has")
	engineMemory = gauge("engine_daemon_engine_memory_bytes", "The number of bytes of memory that the host system of the engine has")
	states       = gauge("engine_daemon_container_states_containers", "The count of containers in various states", "state")
	events       = counter("engine_daemon_events_total", "The number of events logged")
	listeners    = gauge("engine_daemon_events_subscribers_total", "The number of current subscribers to events")
	probes       = counter("engine_daemon_health_checks_total", "The total number of health checks")
	probesFailed = counter("engine_daemon_health_checks_failed_total", "The total number of failed health checks")
)

// Those of the engine.
var (
	cellsReady   = gauge("tare_cells_ready", "Halves of container starts that are done ahead and that nobody has yet.")
	cellsClaimed = gauge("tare_cells_claimed", "Halves of container starts that wait for the start of their container.")
	cellsTaken   = counter("tare_cells_asked_total", "New containers that a half done ahead would fit, by whether there was one: hit, miss.", "result")
	keeperUp     = gauge("tare_keeper_up", "1 if the keeper of the containers' processes answers, 0 while it is being replaced.")
	keeperLost   = counter("tare_keeper_losses_total", "Keepers that this engine has seen die, and has replaced.")
)

// Those of each container.
var (
	info      = containerGauge("info", "1, with what does not change.", "image", "runtime")
	state     = containerGauge("state", "1 for the state that the container is in.", "state")
	health    = containerGauge("health", "1 for the health that a container with a health check has.", "health")
	created   = containerGauge("created_timestamp_seconds", "When the container was made.")
	started   = containerGauge("started_timestamp_seconds", "When its last run began.")
	exitCode  = containerGauge("exit_code", "Exit code of the last run, of a container that does not run.")
	oomKilled = containerGauge("oom_killed", "1 if the last run, of a container that does not run, was killed for lack of memory.")
	restarts  = containerCounter("restarts_total", "Restarts by the restart policy since a user has last started the container.")

	cpu          = containerCounter("cpu_seconds_total", "Processor time.")
	cpuUser      = containerCounter("cpu_user_seconds_total", "Processor time in programs.")
	cpuSystem    = containerCounter("cpu_system_seconds_total", "Processor time in the kernel.")
	cpuPeriods   = containerCounter("cpu_periods_total", "Periods in which the container with a limit of processor time wanted some.")
	cpuThrottled = containerCounter("cpu_throttled_periods_total", "Periods in which it got less than it wanted.")
	cpuWaited    = containerCounter("cpu_throttled_seconds_total", "Time for which it got nothing because of its limit.")

	memory         = containerGauge("memory_bytes", "Memory, the page cache included.")
	memoryWorking  = containerGauge("memory_working_set_bytes", "Memory without the page cache that is not used.")
	memoryLimit    = containerGauge("memory_limit_bytes", "Limit of memory, or what the host has.")
	memoryPeak     = containerGauge("memory_peak_bytes", "Most memory of this run, where the kernel tells.")
	memoryFailures = containerCounter("memory_failures_total", "Times that the limit of memory was met, where the kernel tells.")

	pids      = containerGauge("pids", "Processes and threads.")
	pidsLimit = containerGauge("pids_limit", "Limit of processes and threads; 0: none.")

	ioBytes = containerCounter("io_bytes_total", "Bytes from and to block devices.", "device", "op")
	ioCount = containerCounter("io_operations_total", "Requests to block devices.", "device", "op")

	netBytes   = containerCounter("network_bytes_total", "Bytes by a link, seen from the container.", "interface", "direction")
	netPackets = containerCounter("network_packets_total", "Packets by a link.", "interface", "direction")
	netErrors  = containerCounter("network_errors_total", "Errors of a link.", "interface", "direction")
	netDropped = containerCounter("network_dropped_total", "Packets that a link has dropped.", "interface", "direction")
)

func containerGauge(name, help string, labels ...string) metric {
	return gauge("tare_container_"+name, help, append([]string{"id", "name"}, labels...)...)
}

func containerCounter(name, help string, labels ...string) metric {
	return counter("tare_container_"+name, help, append([]string{"id", "name"}, labels...)...)
}

var _ prometheus.Collector = counts{}

// Describe tells which metrics there are.
func (c counts) Describe(to chan<- *prometheus.Desc) {
	for _, d := range descriptions {
		to <- d
	}
}

// Collect measures.
func (c counts) Collect(to chan<- prometheus.Metric) {
	n := c.engine.Counts()
	c.engineCounts(to, n)
	names := make(map[string]string, len(n.Containers))
	for _, v := range n.Containers {
		names[v.ID] = v.Name
		record(to, v)
	}
	for _, r := range n.Running {
		if name, ok := names[r.ID]; ok { // else it is younger than the list
			measured(to, r, name)
		}
	}
}

func (c counts) engineCounts(to chan<- prometheus.Metric, n engine.Counts) {
	f := c.engine.Facts()
	engineInfo.send(to, 1, f.Version, f.Commit, f.Architecture, f.Driver, f.Kernel, f.OS, f.OSType, f.OSVersion, f.ID)
	engineCPUs.send(to, float64(f.CPUs))
	engineMemory.send(to, float64(f.Memory))
	events.send(to, float64(n.Events))
	listeners.send(to, float64(n.Listeners))
	probes.send(to, float64(n.Probes))
	probesFailed.send(to, float64(n.ProbesFailed))
	by := map[string]int{"running": 0, "paused": 0, "stopped": 0}
	for _, v := range n.Containers {
		switch {
		case v.Status == own.Paused:
			by["paused"]++
		case v.Up():
			by["running"]++
		default:
			by["stopped"]++
		}
	}
	for name, count := range by {
		states.send(to, float64(count), name)
	}
	cellsReady.send(to, float64(n.Cells.Ready))
	cellsClaimed.send(to, float64(n.Cells.Claimed))
	cellsTaken.send(to, float64(n.Cells.Hits), "hit")
	cellsTaken.send(to, float64(n.Cells.Misses), "miss")
	_, up := c.engine.KeeperPid()
	keeperUp.send(to, truth(up))
	keeperLost.send(to, float64(n.KeepersLost))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// record sends what is known of a container, running or not.
func record(to chan<- prometheus.Metric, v *own.View) {
	info.send(to, 1, v.ID, v.Name, v.Config.Image, v.HostConfig.Runtime)
	state.send(to, 1, v.ID, v.Name, string(v.Status))
	created.send(to, float64(v.Created.UnixMilli())/1000, v.ID, v.Name)
	restarts.send(to, float64(v.Last.Restarts), v.ID, v.Name)
	if !v.Started.IsZero() {
		started.send(to, float64(v.Started.UnixMilli())/1000, v.ID, v.Name)
	}
	if v.Health != "" {
		health.send(to, 1, v.ID, v.Name, string(v.Health))
	}
	if !v.Up() && !v.Started.IsZero() {
		exitCode.send(to, float64(v.Last.ExitCode), v.ID, v.Name)
		oomKilled.send(to, truth(v.Last.OOMKilled), v.ID, v.Name)
	}
}

// measured sends what a running container uses.
func measured(to chan<- prometheus.Metric, r *container.StatsResponse, name string) {
	one := func(m metric, value float64, labels ...string) {
		m.send(to, value, append([]string{r.ID, name}, labels...)...)
	}
	c := r.CPUStats
	one(cpu, seconds(c.CPUUsage.TotalUsage))
	one(cpuUser, seconds(c.CPUUsage.UsageInUsermode))
	one(cpuSystem, seconds(c.CPUUsage.UsageInKernelmode))
	one(cpuPeriods, float64(c.ThrottlingData.Periods))
	one(cpuThrottled, float64(c.ThrottlingData.ThrottledPeriods))
	one(cpuWaited, seconds(c.ThrottlingData.ThrottledTime))
	mem := r.MemoryStats
	one(memory, float64(mem.Usage))
	one(memoryWorking, float64(mem.Usage-min(mem.Usage, idleCache(mem.Stats))))
	one(memoryLimit, float64(mem.Limit))
	one(memoryPeak, float64(mem.MaxUsage))
	one(memoryFailures, float64(mem.Failcnt))
	one(pids, float64(r.PidsStats.Current))
	one(pidsLimit, float64(r.PidsStats.Limit))
	block(one, ioBytes, r.BlkioStats.IoServiceBytesRecursive)
	block(one, ioCount, r.BlkioStats.IoServicedRecursive)
	for link, n := range r.Networks {
		for m, value := range map[metric][2]uint64{
			netBytes: {n.RxBytes, n.TxBytes}, netPackets: {n.RxPackets, n.TxPackets}, netErrors: {n.RxErrors, n.TxErrors}, netDropped: {n.RxDropped, n.TxDropped},
		} {
			one(m, float64(value[0]), link, "receive")
			one(m, float64(value[1]), link, "transmit")
		}
	}
}

// block sends the numbers of block devices. Of the kernel's words only those that
// do not say the same as others.
func block(one func(m metric, value float64, labels ...string), m metric, list []container.BlkioStatEntry) {
	for _, e := range list {
		switch op := strings.ToLower(e.Op); op {
		case "read", "write", "discard":
			one(m, float64(e.Value), fmt.Sprintf("%d:%d", e.Major, e.Minor), op)
		}
	}
}

// idleCache is the part of the page cache that the kernel takes first.
func idleCache(detail map[string]uint64) uint64 {
	if n, ok := detail["total_inactive_file"]; ok { // version 1 of control groups
		return n
	}
	return detail["inactive_file"]
}

func seconds(ns uint64) float64 { return float64(ns) / 1e9 }
