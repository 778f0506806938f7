//go:build root

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// setting is a resource with the file that shows it, as "controller file
// value", on either version ("": that version has nothing like it).
type setting struct {
	name   string
	r      specs.LinuxResources
	v1, v2 string
	has    func(Features) bool
}

func settings(device string, major, minor int64) []setting {
	dev := specs.LinuxBlockIODevice{Major: major, Minor: minor}
	throttle := []specs.LinuxThrottleDevice{{LinuxBlockIODevice: dev, Rate: 1 << 20}}
	mem := func(m specs.LinuxMemory) specs.LinuxResources { return specs.LinuxResources{Memory: &m} }
	cpu := func(c specs.LinuxCPU) specs.LinuxResources { return specs.LinuxResources{CPU: &c} }
	blk := func(b specs.LinuxBlockIO) specs.LinuxResources { return specs.LinuxResources{BlockIO: &b} }
	throttled := func(f Features) bool { return f.Throttle }
	return []setting{
		{"memory", mem(specs.LinuxMemory{Limit: ptr(int64(64 << 20))}), "memory memory.limit_in_bytes 67108864", "memory.max 67108864",
			func(f Features) bool { return f.Memory }},
		{"swap", mem(specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Swap: ptr(int64(96 << 20))}), "memory memory.memsw.limit_in_bytes 100663296",
			"memory.swap.max 33554432", func(f Features) bool { return f.Swap }},
		{"no swap", mem(specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Swap: ptr(int64(64 << 20))}), "memory memory.memsw.limit_in_bytes 67108864",
			"memory.swap.max 0", func(f Features) bool { return f.Swap }},
		{"reservation", mem(specs.LinuxMemory{Reservation: ptr(int64(32 << 20))}), "memory memory.soft_limit_in_bytes 33554432", "memory.low 33554432",
			func(f Features) bool { return f.Reservation }},
		{"swappiness", mem(specs.LinuxMemory{Swappiness: ptr(uint64(7))}), "memory memory.swappiness 7", "", func(f Features) bool { return f.Swappiness }},
		{"oom killer", mem(specs.LinuxMemory{DisableOOMKiller: ptr(true)}), "memory memory.oom_control oom_kill_disable 1", "",
			func(f Features) bool { return f.OOMDisable }},
		{"shares", cpu(specs.LinuxCPU{Shares: ptr(uint64(512))}), "cpu cpu.shares 512", "cpu.weight 59", func(f Features) bool { return f.CPUShares }},
		{"quota", cpu(specs.LinuxCPU{Quota: ptr(int64(20000)), Period: ptr(uint64(50000))}), "cpu cpu.cfs_quota_us 20000", "cpu.max 20000 50000",
			func(f Features) bool { return f.CPUQuota }},
		{"burst", cpu(specs.LinuxCPU{Quota: ptr(int64(20000)), Burst: ptr(uint64(10000))}), "cpu cpu.cfs_burst_us 10000", "cpu.max.burst 10000",
			func(f Features) bool { return f.CPUBurst }},
		{"idle", cpu(specs.LinuxCPU{Idle: ptr(int64(1)), Shares: ptr(uint64(512))}), "cpu cpu.idle 1", "cpu.idle 1", func(f Features) bool { return f.CPUIdle }},
		{"rt period", cpu(specs.LinuxCPU{RealtimePeriod: ptr(uint64(500000)), RealtimeRuntime: ptr(int64(0))}), "cpu cpu.rt_period_us 500000", "",
			func(f Features) bool { return f.CPURealtime }},
		{"cpus", cpu(specs.LinuxCPU{Cpus: "0"}), "cpuset cpuset.cpus 0", "cpuset.cpus 0", func(f Features) bool { return f.Cpuset }},
		{"mems", cpu(specs.LinuxCPU{Mems: "0"}), "cpuset cpuset.mems 0", "cpuset.mems 0", func(f Features) bool { return f.Cpuset }},
		{"pids", specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(33))}}, "pids pids.max 33", "pids.max 33", func(f Features) bool { return f.Pids }},
		{"no pids", specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(-1))}}, "pids pids.max max", "pids.max max", func(f Features) bool { return f.Pids }},
		{"weight", blk(specs.LinuxBlockIO{Weight: ptr(uint16(10))}), "blkio blkio.weight 10", "io.weight default 1", func(f Features) bool { return f.Weight }},
		{"read bps", blk(specs.LinuxBlockIO{ThrottleReadBpsDevice: throttle}), "blkio blkio.throttle.read_bps_device " + device + " 1048576",
			"io.max " + device + " rbps=1048576", throttled},
		{"write bps", blk(specs.LinuxBlockIO{ThrottleWriteBpsDevice: throttle}), "blkio blkio.throttle.write_bps_device " + device + " 1048576",
			"io.max wbps=1048576", throttled},
		{"read iops", blk(specs.LinuxBlockIO{ThrottleReadIOPSDevice: throttle}), "blkio blkio.throttle.read_iops_device " + device + " 1048576",
			"io.max riops=1048576", throttled},
		{"write iops", blk(specs.LinuxBlockIO{ThrottleWriteIOPSDevice: throttle}), "blkio blkio.throttle.write_iops_device " + device + " 1048576",
			"io.max wiops=1048576", throttled},
		{"huge pages", specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}}},
			"hugetlb hugetlb.2MB.limit_in_bytes 4194304", "hugetlb.2MB.max 4194304", func(f Features) bool { return f.Huge }},
		{"unified", specs.LinuxResources{Unified: map[string]string{"memory.high": "50331648"}}, "", "memory.high 50331648",
			func(f Features) bool { return f.Version == 2 && f.Memory }},
	}
}

// blockDevice is any whole disk: its limits are only set, never felt.
func blockDevice(t *testing.T) (text string, major, minor int64) {
	t.Helper()
	entries, err := os.ReadDir("/sys/block")
	if err != nil || len(entries) == 0 {
		t.Fatalf("no block device: %v", err)
	}
	text, err = read("/sys/block/"+entries[0].Name(), "dev")
	if err != nil {
		t.Fatal(err)
	}
	a, b, _ := deviceOf(text)
	return text, int64(a), int64(b)
}

// TestRootEveryResource sets each resource when a group is made and on a
// living one, and looks it up in the kernel. What the host does not have must
// be refused by name, as its features tell.
func TestRootEveryResource(t *testing.T) {
	f, err := HostFeatures()
	if err != nil {
		t.Fatal(err)
	}
	p := parent(t)
	living, err := p.Create("living", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := living.Remove(); err != nil {
			t.Error(err)
		}
	}()
	cmd, out := inside(t, living, "echo up; sleep 1000")
	if _, err := out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	defer func() { living.Kill(); cmd.Wait() }()
	for i, s := range settings(blockDevice(t)) {
		t.Run(s.name, func(t *testing.T) {
			fresh, err := p.Create(strconv.Itoa(i), &s.r)
			if err == nil {
				defer func() {
					if err := fresh.Remove(); err != nil {
						t.Error(err)
					}
				}()
			}
			checkSetting(t, f, fresh, s, err)
			checkSetting(t, f, living, s, living.Update(&s.r))
		})
	}
}

func checkSetting(t *testing.T, f Features, g *Group, s setting, err error) {
	t.Helper()
	want := s.v2
	if f.Version == 1 {
		want = s.v1
	}
	if want == "" || !s.has(f) {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("not offered here: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	controller := ""
	if f.Version == 1 {
		controller, want, _ = strings.Cut(want, " ")
	}
	file, value, _ := strings.Cut(want, " ")
	d, _ := g.limitDir(controller)
	if file == "io.weight" && exists(d.path, "io.bfq.weight") {
		file, value = "io.bfq.weight", "default 10"
	}
	if file == "blkio.weight" && !exists(d.path, file) {
		file = "blkio.bfq.weight"
	}
	got, err := read(d.path, file)
	if err != nil || !strings.Contains(got, value) {
		t.Errorf("%s: %q, %v, want %q", file, got, err, value)
	}
}

// TestRootUpdateGoesEitherWay moves limits that bound each other up and down.
func TestRootUpdateGoesEitherWay(t *testing.T) {
	f, err := HostFeatures()
	if err != nil {
		t.Fatal(err)
	}
	g := group(t, nil)
	for _, size := range []int64{64 << 20, 512 << 20, 16 << 20, -1, 32 << 20} {
		m := &specs.LinuxMemory{Limit: &size}
		if f.Swap && size > 0 {
			m.Swap = ptr(2 * size)
		}
		if err := g.Update(&specs.LinuxResources{Memory: m}); err != nil {
			t.Errorf("%d: %v", size, err)
		}
		s, err := g.Stats()
		if err != nil {
			t.Fatal(err)
		}
		want := uint64(size)
		if size < 0 {
			want = noLimit
		}
		if s.Memory.Limit != want || f.Swap && s.Memory.SwapLimit != want {
			t.Errorf("%d: %d, swap %d", size, s.Memory.Limit, s.Memory.SwapLimit)
		}
	}
	for _, q := range []int64{20000, 90000, 10000} {
		c := &specs.LinuxCPU{Quota: &q}
		if f.CPUBurst {
			c.Burst = ptr(uint64(q))
		}
		if err := g.Update(&specs.LinuxResources{CPU: c}); err != nil {
			t.Errorf("quota %d: %v", q, err)
		}
	}
}

// TestRootCheckBeforeUpdate: version 2 would kill instead.
func TestRootCheckBeforeUpdate(t *testing.T) {
	g := group(t, nil)
	cmd, out := inside(t, g, `x=$(head -c 20000000 /dev/zero | tr '\0' x); echo up; sleep 1000; echo $x`)
	defer func() { g.Kill(); cmd.Wait() }()
	if _, err := out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	err := g.Update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(8 << 20)), CheckBeforeUpdate: ptr(true)}})
	if err == nil || !strings.Contains(err.Error(), "unable to set memory limit") {
		t.Error(err)
	}
	if n, err := g.OOMKills(); n != 0 || err != nil {
		t.Errorf("%d killed, %v", n, err)
	}
}

// TestRootStatsCount reads counters that the group's own work has moved.
func TestRootStatsCount(t *testing.T) {
	g := group(t, &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(10000)), Period: ptr(uint64(100000))}})
	cmd, out := inside(t, g, `sleep 1000 & echo up; while :; do :; done`)
	if _, err := out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	defer func() { g.Kill(); cmd.Wait() }()
	var s *Stats
	for end := time.Now().Add(30 * time.Second); s == nil || s.CPU.Periods == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		var err error
		if s, err = g.Stats(); err != nil {
			t.Fatal(err)
		}
	}
	after, _, err := HostCPU()
	if err != nil {
		t.Fatal(err)
	}
	if s.CPU.Total <= 0 || s.CPU.Total > after || s.CPU.Periods == 0 {
		t.Errorf("%+v of %v", s.CPU, after)
	}
	if s.Memory.Usage == 0 || len(s.Memory.Detail) == 0 || s.Memory.Kernel == 0 {
		t.Errorf("%+v", s.Memory)
	}
	if s.Pids.Current != 2 { // the shell, and sleep
		t.Errorf("%+v", s.Pids)
	}
}

func BenchmarkRootStats(b *testing.B) {
	p := Parent(fmt.Sprintf("tare-bench%d", os.Getpid()))
	g, err := p.Create("x", nil)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := g.Stats(); err != nil {
			b.Fatal(err)
		}
	}
	if err := errors.Join(g.Remove(), p.Remove()); err != nil {
		b.Error(err)
	}
}
