package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func ptr[T any](v T) *T { return &v }

const hybrid = `30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/devices rw shared:9 - cgroup cgroup rw,devices
34 30 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
35 30 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
36 30 0:32 / /mnt/memory rw - cgroup cgroup rw,memory
`

func TestDetectFindsTrees(t *testing.T) {
	got, err := detect(strings.NewReader(hybrid), false)
	if err != nil {
		t.Fatal(err)
	}
	want := []dir{
		{"/sys/fs/cgroup/cpu,cpuacct", []string{"cpu", "cpuacct"}},
		{"/sys/fs/cgroup/memory", []string{"memory"}},
		{"/sys/fs/cgroup/devices", []string{"devices"}},
	}
	if d := cmp.Diff(want, got.(*v1).trees, cmp.AllowUnexported(dir{})); d != "" {
		t.Error(d)
	}
	got, err = detect(strings.NewReader(hybrid), true)
	if err != nil || got.(*v1).trees[3].controllers[0] != "systemd" {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = detect(strings.NewReader("30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n"), false)
	if err != nil || got.(*v2).root != "/sys/fs/cgroup" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := detect(strings.NewReader(""), false); err == nil {
		t.Error("no error without trees")
	}
}

func TestDefaultRulesAreInherited(t *testing.T) {
	tree, err := detect(strings.NewReader(hybrid), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path  string
		rules []specs.LinuxDeviceCgroup
		own   bool
		want  string
	}{
		{"tare-1/x", DefaultDevices(), true, "/sys/fs/cgroup/devices/tare-1/d/x"},
		{"tare/x", AllDevices(), true, "/sys/fs/cgroup/devices/tare/p/x"},
		{"tare/x", append(DefaultDevices(), specs.LinuxDeviceCgroup{Allow: true, Type: "c", Access: "r"}), true, "/sys/fs/cgroup/devices/tare/p/x"},
		{"other/x", DefaultDevices(), false, "/sys/fs/cgroup/devices/other/x"},
		{"tare/d/x", DefaultDevices(), false, "/sys/fs/cgroup/devices/tare/d/x"},
	} {
		if got := tree.layout(c.path, c.rules, c.own)[2].path; got != c.want {
			t.Errorf("%s: %s", c.path, got)
		}
	}
}

func TestPathsStayBelowTheRoot(t *testing.T) {
	for _, p := range []string{"", ".", "..", "../x", "/x", "a/../../x", "a//b", "a/", "a\nb", "a\x00"} {
		if checkPath(p) == nil {
			t.Errorf("%q accepted", p)
		}
	}
	if err := checkPath("tare-1/abc"); err != nil {
		t.Error(err)
	}
}

func TestWeightFollowsTheAgreedCurve(t *testing.T) {
	for shares, want := range map[uint64]uint64{2: 1, 1024: 100, 262144: 10000, 1: 1, 1 << 40: 10000} {
		if got := weightOf(shares); got != want {
			t.Errorf("%d: %d, want %d", shares, got, want)
		}
	}
}

// fake is a directory that looks like a version 2 tree. The kernel would make
// the files of a new group; here opening for writing does.
func fake(t *testing.T, controllers string) *v2 {
	t.Helper()
	root := t.TempDir()
	for _, d := range []string{"", "tare"} {
		for f, v := range map[string]string{"cgroup.controllers": controllers, "cgroup.subtree_control": "", "cgroup.procs": ""} {
			if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, d, f), []byte(v), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return &v2{root: root, flags: unix.O_CREAT | unix.O_APPEND}
}

// files returns what was written to the directory, but for the kernel's own.
func files(t *testing.T, p string) map[string]string {
	t.Helper()
	m := map[string]string{}
	entries, err := os.ReadDir(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if b, err := os.ReadFile(filepath.Join(p, e.Name())); err == nil {
			m[e.Name()] = string(b)
		}
	}
	return m
}

func TestV2WritesLimits(t *testing.T) {
	tree := fake(t, "cpu memory pids io cpuset")
	g, err := create(tree, "tare/x", &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(100 << 20)), Swap: ptr(int64(150 << 20)), Reservation: ptr(int64(50 << 20))},
		CPU:    &specs.LinuxCPU{Shares: ptr(uint64(1024)), Quota: ptr(int64(50000)), Period: ptr(uint64(200000)), Cpus: "0-1", Mems: "0"},
		Pids:   &specs.LinuxPids{Limit: ptr(int64(4096))},
		BlockIO: &specs.LinuxBlockIO{Weight: ptr(uint16(10)),
			WeightDevice:            []specs.LinuxWeightDevice{{LinuxBlockIODevice: specs.LinuxBlockIODevice{Major: 8}, Weight: ptr(uint16(1000))}},
			ThrottleReadBpsDevice:   []specs.LinuxThrottleDevice{{LinuxBlockIODevice: specs.LinuxBlockIODevice{Major: 8, Minor: 16}, Rate: 1 << 20}},
			ThrottleWriteIOPSDevice: []specs.LinuxThrottleDevice{{LinuxBlockIODevice: specs.LinuxBlockIODevice{Major: 8, Minor: 16}}}},
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}},
		Unified:        map[string]string{"memory.high": "90000000"},
	}, true)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"memory.max": "104857600", "memory.swap.max": "52428800", "memory.low": "52428800", "memory.high": "90000000",
		"cpu.weight": "100", "cpu.max": "50000 200000", "cpuset.cpus": "0-1", "cpuset.mems": "0", "pids.max": "4096",
		"io.weight": "default 18:0 10000", "io.max": "8:16 rbps=10485768:16 wiops=max", "hugetlb.2MB.max": "4194304", "hugetlb.2MB.rsvd.max": "4194304",
	}
	if d := cmp.Diff(want, files(t, g.dirs[0].path)); d != "" {
		t.Error(d)
	}
	if g.FD() == nil {
		t.Error("no descriptor")
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if got := g.ProcsPaths(); len(got) != 1 || got[0] != tree.root+"/tare/x/cgroup.procs" {
		t.Error(got)
	}
}

func TestV2DelegatesControllers(t *testing.T) {
	tree := fake(t, "cpu memory perf_event")
	if err := prepare(tree, "tare", true); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"", "/tare"} {
		if got := files(t, tree.root+d)["cgroup.subtree_control"]; got != "+cpu+memory" {
			t.Errorf("%q: %s", d, got)
		}
	}
}

func TestV2RefusesWhatItCannotDo(t *testing.T) {
	for name, r := range map[string]*specs.LinuxResources{
		"swappiness": {Memory: &specs.LinuxMemory{Swappiness: ptr(uint64(10))}},
		"oom killer": {Memory: &specs.LinuxMemory{DisableOOMKiller: ptr(true)}},
		"tcp":        {Memory: &specs.LinuxMemory{KernelTCP: ptr(int64(1))}},
		"real time":  {CPU: &specs.LinuxCPU{RealtimeRuntime: ptr(int64(1))}},
		"leaf":       {BlockIO: &specs.LinuxBlockIO{LeafWeight: ptr(uint16(10))}},
		"class":      {Network: &specs.LinuxNetwork{ClassID: ptr(uint32(1))}},
		"page size":  {HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "../../x", Limit: 1}}},
		"swap alone": {Memory: &specs.LinuxMemory{Swap: ptr(int64(1 << 30))}},
		"swap below": {Memory: &specs.LinuxMemory{Swap: ptr(int64(1)), Limit: ptr(int64(2))}},
		"unified":    {Unified: map[string]string{"../x.y": "1"}},
		"device":     {Devices: []specs.LinuxDeviceCgroup{{Allow: true, Type: "z", Access: "r"}}},
	} {
		tree := fake(t, "memory")
		_, err := create(tree, "tare/x", r, true)
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		var u *Unsupported
		if errors.As(err, &u) != slices.Contains([]string{"swappiness", "oom killer", "tcp", "real time", "leaf", "class"}, name) {
			t.Errorf("%s: %v", name, err)
		}
		if u != nil && (u.Version != 1 || !errors.Is(err, errors.ErrUnsupported) || !strings.HasSuffix(err.Error(), "needs cgroup v1")) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(tree.root + "/tare/x"); name == "swappiness" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: group left: %v", name, err)
		}
	}
}

func TestV2UpdateKeepsTheOtherHalfOfCPUMax(t *testing.T) {
	tree := fake(t, "cpu")
	g, err := create(tree, "tare/x", &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(5)), Period: ptr(uint64(7))}}, true)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tree.limits(g, &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(-1))}}, false)
	if err != nil || len(l) != 1 || l[0].value != "max 7" {
		t.Errorf("%+v, %v", l, err)
	}
}

// values are the files of limits with what goes into them.
func values(l limits) []string {
	var out []string
	for _, x := range l {
		out = append(out, x.file+"="+x.value)
	}
	return out
}

func TestBurstNeverExceedsQuota(t *testing.T) {
	tree := fake(t, "cpu")
	g, err := create(tree, "tare/x", &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: ptr(int64(9000)), Period: ptr(uint64(9000)), Burst: ptr(uint64(8000))}}, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		quota int64
		burst uint64
		want  []string
	}{
		{5000, 4000, []string{"cpu.max.burst=4000", "cpu.max=5000 9000"}},
		{20000, 15000, []string{"cpu.max=20000 9000", "cpu.max.burst=15000"}},
		{5000, 0, []string{"cpu.max.burst=0", "cpu.max=5000 9000"}},
	} {
		l, err := tree.limits(g, &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &c.quota, Burst: &c.burst}}, false)
		if err != nil || !slices.Equal(values(l), c.want) {
			t.Errorf("%v, %v, want %v", values(l), err, c.want)
		}
	}
}

func TestUnboundedMemoryUnboundsTheSum(t *testing.T) {
	tree := fake(t, "memory")
	g := &Group{path: "x", tree: tree, dirs: []dir{{path: t.TempDir()}}}
	r := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(-1))}}
	l, err := tree.limits(g, r, false)
	if want := []string{"memory.swap.max=max", "memory.max=max"}; err != nil || !slices.Equal(values(l), want) {
		t.Errorf("%v, %v", values(l), err)
	}
	one := &v1{trees: []dir{{path: t.TempDir(), controllers: []string{"memory"}}}}
	g = &Group{path: "x", tree: one, dirs: one.trees}
	if err := os.WriteFile(one.trees[0].path+"/memory.memsw.limit_in_bytes", []byte("4096"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []string{"memory.memsw.limit_in_bytes=-1", "memory.limit_in_bytes=-1"}
	if l, err = one.limits(g, r, false); err != nil || !slices.Equal(values(l), want) {
		t.Errorf("%v, %v", values(l), err)
	}
}

func TestHostCPU(t *testing.T) {
	total, online, err := hostCPU("cpu  1 2 3 4 5 6 7 8 900 900\ncpu0 1 1 1 1 1 1 1 1 0 0\ncpu3 0 1 2 3 4 5 6 7 0 0\nintr 5\n")
	if err != nil || online != 2 || total != 360*time.Millisecond {
		t.Errorf("%v %d %v", total, online, err)
	}
	if _, _, err := hostCPU("x"); err == nil {
		t.Error("nothing accepted")
	}
}

func TestV2ReadsCounters(t *testing.T) {
	tree := fake(t, "")
	g, err := create(tree, "tare/x", nil, true)
	if err != nil {
		t.Fatal(err)
	}
	for f, v := range map[string]string{
		"cpu.stat":       "usage_usec 10\nuser_usec 6\nsystem_usec 4\nnr_periods 3\nnr_throttled 2\nthrottled_usec 1\n",
		"memory.current": "4096\n", "memory.max": "max\n", "memory.peak": "8192\n", "memory.events": "low 0\nmax 5\noom 1\noom_kill 2\n",
		"memory.stat": "anon 1\nfile 2\nslab 4\nkernel_stack 3\n", "memory.swap.current": "512\n", "memory.swap.max": "1024\n", "pids.current": "3\n", "pids.max": "max\n", "io.stat": "8:0 rbytes=4096 wbytes=8 rios=1 wios=2\nx\n",
		"cgroup.events": "populated 1\nfrozen 1\n",
	} {
		if err := os.WriteFile(g.dirs[0].path+"/"+f, []byte(v), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	none := ^uint64(0)
	want := &Stats{
		Memory: MemoryStats{Usage: 4096, Peak: 8192, Limit: none, Swap: 512, SwapLimit: 1024, Kernel: 7, Failures: 5,
			Detail: map[string]uint64{"anon": 1, "file": 2, "slab": 4, "kernel_stack": 3}},
		CPU:  CPUStats{Total: 10000, User: 6000, System: 4000, Periods: 3, ThrottledPeriods: 2, Throttled: 1000},
		Pids: PidsStats{3, none},
		IO:   []IOStats{{8, 0, "read", 4096, 1}, {8, 0, "write", 8, 2}},
	}
	if d := cmp.Diff(want, s); d != "" {
		t.Error(d)
	}
	if n, err := g.OOMKills(); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if frozen, err := g.Frozen(); !frozen || err != nil {
		t.Errorf("%v, %v", frozen, err)
	}
	if err := g.Kill(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestListAndOpenFindGroups(t *testing.T) {
	tree := fake(t, "")
	for _, id := range []string{"b", "a"} {
		if _, err := create(tree, "tare/"+id, nil, true); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := list(tree, "tare"); err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := open(tree, "tare/c"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	g, err := open(tree, "tare/a")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds nothing
		if err := g.Remove(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := create(tree, "tare/b", nil, true); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
}

// answer interprets a device program for one access.
func answer(t *testing.T, p []ebpf, kind, access, major, minor int32) bool {
	t.Helper()
	var r [10]int64
	ctx := [3]int32{kind | access<<16, major, minor}
	for pc := 0; pc < len(p); pc++ {
		i := p[pc]
		dst, src := i.regs&15, i.regs>>4
		switch i.code {
		case bpfLoadWord:
			r[dst] = int64(uint32(ctx[i.off/4]))
		case bpfMov:
			r[dst] = r[src]
		case bpfMovImm:
			r[dst] = int64(i.imm)
		case bpfAndImm:
			r[dst] &= int64(i.imm)
		case bpfShiftR:
			r[dst] = int64(uint64(r[dst]) >> i.imm)
		case bpfJumpNe:
			if r[dst] != int64(i.imm) {
				pc += int(i.off)
			}
		case bpfJump:
			pc += int(i.off)
		case bpfExit:
			return r[rResult] == 1
		default:
			t.Fatalf("code %#x", i.code)
		}
	}
	t.Fatal("runs past its end")
	return false
}

func TestDeviceProgramFollowsTheRules(t *testing.T) {
	deny := func(kind, access string, major, minor int64) specs.LinuxDeviceCgroup {
		return specs.LinuxDeviceCgroup{Type: kind, Access: access, Major: &major, Minor: &minor}
	}
	allow := func(kind, access string, major, minor int64) specs.LinuxDeviceCgroup {
		r := deny(kind, access, major, minor)
		r.Allow = true
		return r
	}
	disk := append(DefaultDevices(), allow("b", "r", 8, -1), allow("b", "w", 8, -1), deny("c", "w", 1, 3))
	most := append(AllDevices(), deny("c", "w", 10, 200), deny("b", "rwm", -1, -1))
	for _, c := range []struct {
		rules                      []specs.LinuxDeviceCgroup
		kind, access, major, minor int32
		want                       bool
	}{
		{DefaultDevices(), kindChar, accessRead | accessWrite, 1, 3, true},
		{DefaultDevices(), kindChar, accessMknod, 10, 200, true},
		{DefaultDevices(), kindChar, accessMknod | accessRead, 10, 200, false},
		{DefaultDevices(), kindChar, accessRead, 1, 1, false}, // mem
		{DefaultDevices(), kindChar, accessRead, 5, 1, false}, // the host's console
		{DefaultDevices(), kindBlock, accessRead, 1, 3, false},
		{DefaultDevices(), kindBlock, accessMknod, 8, 0, true},
		{DefaultDevices(), kindChar, accessWrite, 136, 77, true},
		{disk, kindBlock, accessRead | accessWrite, 8, 3, true},
		{disk, kindBlock, accessRead, 9, 3, false},
		{disk, kindChar, accessWrite, 1, 3, false},
		{disk, kindChar, accessRead, 1, 3, true},
		{most, kindChar, accessRead, 10, 200, true},
		{most, kindChar, accessRead | accessWrite, 10, 200, false},
		{most, kindBlock, accessRead, 8, 0, false},
		{most, kindChar, accessWrite, 1, 1, true},
		{nil, kindChar, accessRead, 1, 3, false},
	} {
		d, err := decide(c.rules)
		if err != nil {
			t.Fatal(err)
		}
		if got := answer(t, d.program(), c.kind, c.access, c.major, c.minor); got != c.want {
			t.Errorf("kind %d access %d %d:%d: %v", c.kind, c.access, c.major, c.minor, got)
		}
	}
}

func TestCheckDevice(t *testing.T) {
	for _, access := range []string{"", "x", "rr", "rwmr", "rw m"} {
		if CheckDevice(specs.LinuxDeviceCgroup{Type: "c", Access: access}) == nil {
			t.Errorf("%q accepted", access)
		}
	}
}

func TestAbsentGroupIsHarmless(t *testing.T) {
	g := Absent("tare/gone")
	if frozen, err := g.Frozen(); frozen || err != nil {
		t.Error(err)
	}
	if n, err := g.OOMKills(); n != 0 || err != nil {
		t.Error(err)
	}
	if pids, err := g.Pids(); len(pids) != 0 || err != nil {
		t.Error(err)
	}
	if err := errors.Join(g.Kill(), g.Thaw(), g.Remove()); err != nil || g.FD() != nil || len(g.ProcsPaths()) != 0 {
		t.Error(err)
	}
}

// Other runtimes leave parents in the tree of version 2 that hybrid hosts have.
func TestRemoveParentInTreesWithoutControllers(t *testing.T) {
	tree := &v1{named: t.TempDir(), unified: t.TempDir()}
	for _, root := range []string{tree.named, tree.unified} {
		if err := os.MkdirAll(root+"/tare-1/runtimes", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{"tare-1/runtimes", "tare-1"} {
		if err := removeParent(tree, p); err != nil {
			t.Error(err)
		}
	}
	for _, root := range []string{tree.named, tree.unified} {
		if exists(root, "tare-1") {
			t.Errorf("%s/tare-1 is left", root)
		}
	}
}
