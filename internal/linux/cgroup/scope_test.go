package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestSlicePath(t *testing.T) {
	for slice, want := range map[string]string{
		"system.slice": "system.slice", "a-b-c.slice": "a.slice/a-b.slice/a-b-c.slice", "-.slice": "", "a.b.slice": "a.b.slice",
	} {
		if got, err := SlicePath(slice); err != nil || got != want {
			t.Errorf("%s: %q, %v", slice, got, err)
		}
	}
	for _, slice := range []string{"", ".slice", "a", "a.scope", "a/b.slice", "../a.slice", "a--b.slice", "-a.slice", "a-.slice", "a\n.slice", "--.slice"} {
		if got, err := SlicePath(slice); err == nil {
			t.Errorf("%q is a slice at %q", slice, got)
		}
	}
}

func TestScopePath(t *testing.T) {
	for _, c := range []struct{ slice, name, want string }{
		{"system.slice", "tare-1.scope", "system.slice/tare-1.scope"},
		{"a-b.slice", "x.scope", "a.slice/a-b.slice/x.scope"},
		{"-.slice", "x.scope", "x.scope"},
		{"system.slice", "x.service", ""},
		{"system.slice", "../x.scope", ""},
		{"system", "x.scope", ""},
	} {
		if got, err := (Scope{Slice: c.slice, Name: c.name}).Path(); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}

func TestPropertiesOfLimits(t *testing.T) {
	const none = uint64(math.MaxUint64)
	two, one := &v2{root: t.TempDir()}, &v1{trees: []dir{{t.TempDir(), []string{"cpu", "memory", "cpuset", "pids", "blkio"}}}}
	all := specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(100 << 20)), Swap: ptr(int64(150 << 20)), Reservation: ptr(int64(50 << 20))},
		CPU:    &specs.LinuxCPU{Shares: ptr(uint64(2048)), Quota: ptr(int64(12345)), Period: ptr(uint64(50000)), Cpus: "0-2,9", Mems: "0"},
		Pids:   &specs.LinuxPids{Limit: ptr(int64(77))}, BlockIO: &specs.LinuxBlockIO{Weight: ptr(uint16(1000))},
	}
	for name, c := range map[string]struct {
		tree tree
		r    specs.LinuxResources
		now  bandwidth
		want map[string]any
	}{
		"version 2": {two, all, bandwidth{}, map[string]any{
			"MemoryMax": uint64(100 << 20), "MemorySwapMax": uint64(50 << 20), "MemoryLow": uint64(50 << 20), "CPUWeight": weightOf(2048),
			"CPUQuotaPerSecUSec": uint64(250000), "CPUQuotaPeriodUSec": uint64(50000), "AllowedCPUs": []byte{7, 2}, "AllowedMemoryNodes": []byte{1},
			"TasksMax": uint64(77), "IOWeight": uint64(10000),
		}},
		"version 1": {one, all, bandwidth{}, map[string]any{
			"MemoryLimit": uint64(100 << 20), "CPUShares": uint64(2048), "CPUQuotaPerSecUSec": uint64(250000), "CPUQuotaPeriodUSec": uint64(50000),
			"TasksMax": uint64(77), "BlockIOWeight": uint64(1000),
		}},
		"nothing": {two, specs.LinuxResources{}, bandwidth{-1, 5000}, map[string]any{}},
		"no limit": {two, specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: ptr(int64(-1))}, CPU: &specs.LinuxCPU{Quota: ptr(int64(-1))}, Pids: &specs.LinuxPids{Limit: ptr(int64(-1))},
		}, bandwidth{5000, 100000}, map[string]any{
			"MemoryMax": none, "MemorySwapMax": none, "CPUQuotaPerSecUSec": none, "CPUQuotaPeriodUSec": uint64(100000), "TasksMax": none,
		}},
		"the other half is in force": {one, specs.LinuxResources{CPU: &specs.LinuxCPU{Period: ptr(uint64(20000))}}, bandwidth{10000, 100000},
			map[string]any{"CPUQuotaPerSecUSec": uint64(500000), "CPUQuotaPeriodUSec": uint64(20000)}},
		"a period without a quota": {one, specs.LinuxResources{CPU: &specs.LinuxCPU{Period: ptr(uint64(20000))}}, bandwidth{0, 100000}, map[string]any{}},
		"unified": {two, specs.LinuxResources{Unified: map[string]string{
			"memory.high": "4096", "memory.min": "max", "cpu.max": "5000", "cpuset.cpus": "17", "cpu.weight": "idle", "io.max": "8:0 rbps=1", "misc.max": "x 1", "cpuset.mems": "a-b",
		}}, bandwidth{-1, 100000}, map[string]any{
			"MemoryHigh": uint64(4096), "MemoryMin": none, "CPUQuotaPerSecUSec": uint64(50000), "CPUQuotaPeriodUSec": uint64(100000), "AllowedCPUs": []byte{0, 0, 2},
		}},
		"a list that ends before it begins": {two, specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "3-1"}}, bandwidth{}, map[string]any{}},
	} {
		g := &Group{path: "x", tree: c.tree, dirs: c.tree.layout("x", nil, false)}
		l, err := c.tree.limits(g, &c.r, true)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := cmp.Diff(c.want, propertiesOf(l, c.now)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestPropertiesOfDevices(t *testing.T) {
	rules := append(DefaultDevices(), specs.LinuxDeviceCgroup{Allow: true, Type: "b", Major: ptr(int64(8)), Minor: ptr(int64(1)), Access: "rw"},
		specs.LinuxDeviceCgroup{Allow: false, Type: "c", Major: ptr(int64(5)), Minor: ptr(int64(2)), Access: "rwm"})
	got, err := deviceProperties(rules)
	if err != nil || got["DevicePolicy"] != "strict" {
		t.Fatalf("%v, %v", got, err)
	}
	list := fmt.Sprint(got["DeviceAllow"])
	want := "[{char-* m} {block-* m} {/dev/char/1:3 rwm} {/dev/char/1:5 rwm} {/dev/char/1:7 rwm} {/dev/char/1:8 rwm} {/dev/char/1:9 rwm} {/dev/char/5:0 rwm} {char-pts rwm} {/dev/block/8:1 rw}]"
	if list != want {
		t.Errorf("%s\nwant\n%s", list, want)
	}
	for name, rules := range map[string][]specs.LinuxDeviceCgroup{"all": AllDevices(), "none": nil} {
		if got, err := deviceProperties(rules); err != nil || len(got) > 0 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// units plays systemd in a tree of version 2: it makes a scope's directory.
type units struct {
	tree      *v2
	delegated bool // the kernel's files are made below, too
	calls     []string
	last      map[string]any
	err       error
}

func (u *units) StartScope(name string, pid int, properties map[string]any) error {
	u.calls, u.last = append(u.calls, fmt.Sprintf("start %s %d", name, pid)), properties
	if u.err != nil {
		return u.err
	}
	p, err := (Scope{Slice: properties["Slice"].(string), Name: name}).Path()
	if err != nil {
		return err
	}
	if u.delegated {
		p += "/" + payload
	}
	d := u.tree.root
	for name := range strings.SplitSeq(p, "/") {
		d += "/" + name
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
		for _, f := range []string{"cgroup.controllers", "cgroup.subtree_control", "cgroup.procs"} {
			if err := os.WriteFile(d+"/"+f, nil, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

func (u *units) Set(name string, p map[string]any) error {
	u.calls, u.last = append(u.calls, "set "+name), p
	return u.err
}

func (u *units) Stop(name string) error {
	u.calls = append(u.calls, "stop "+name)
	return u.err
}

func TestScopeBeginsWithItsFirstProcess(t *testing.T) {
	tree := fake(t, "memory pids")
	u := &units{tree: tree}
	g, err := newScope(tree, Scope{Units: u, Slice: "a-b.slice", Name: "x.scope", Description: "d", Properties: map[string]any{"KillSignal": int32(9)}},
		&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(4096))}, Unified: map[string]string{"memory.oom.group": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	dir := tree.root + "/a.slice/a-b.slice/x.scope"
	if g.Begun() || g.FD() != nil || exists(dir, ".") || !slices.Equal(g.ProcsPaths(), []string{dir + "/cgroup.procs"}) || g.Path() != "a.slice/a-b.slice/x.scope" {
		t.Errorf("before: %+v, %q", g, g.ProcsPaths())
	}
	if err := errors.Join(g.Kill(), g.Enter(7), g.Enter(8)); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"Description": "d", "Slice": "a-b.slice", "Delegate": true, "DefaultDependencies": false, "KillSignal": int32(9), "MemoryMax": uint64(4096),
		"MemoryAccounting": true, "CPUAccounting": true, "TasksAccounting": true, "IOAccounting": true,
	}
	if d := cmp.Diff(want, u.last); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]string{"cgroup.controllers": "", "cgroup.subtree_control": "", "cgroup.procs": "8", "memory.max": "4096", "memory.oom.group": "1"}, files(t, dir)); d != "" {
		t.Error(d)
	}
	if err := g.Update(&specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(5))}}); err != nil || u.last["TasksMax"] != uint64(5) || files(t, dir)["pids.max"] != "5" {
		t.Errorf("update: %v, %v", err, u.last)
	}
	if err := g.Update(&specs.LinuxResources{Unified: map[string]string{"memory.oom.group": "0"}}); err != nil || files(t, dir)["memory.oom.group"] != "10" {
		t.Errorf("what systemd does not know: %v", err)
	}
	if !g.Begun() || g.FD() == nil {
		t.Error("nobody can be born in it")
	}
	if err := os.RemoveAll(dir); err != nil { // systemd does
		t.Fatal(err)
	}
	if err := errors.Join(g.Remove(), AbsentScope(u, "a.slice/y.scope").Remove()); err != nil {
		t.Error(err)
	}
	if want := []string{"start x.scope 7", "set x.scope", "stop x.scope", "stop y.scope"}; !slices.Equal(u.calls, want) {
		t.Errorf("%q", u.calls)
	}
}

func TestScopeThatSystemdRefuses(t *testing.T) {
	tree := fake(t, "memory")
	u := &units{tree: tree, err: errors.New("refused")}
	s := Scope{Units: u, Slice: "a.slice", Name: "x.scope"}
	g, err := newScope(tree, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Enter(7); !errors.Is(err, u.err) || g.Begun() {
		t.Errorf("%v", err)
	}
	if _, err := newScope(tree, s, &specs.LinuxResources{CPU: &specs.LinuxCPU{RealtimeRuntime: ptr(int64(1))}}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("what version 2 cannot do is found out at the end: %v", err)
	}
	u.err = nil
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := open(tree, g.Path()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestScopeIsDelegatedWhenItBegins(t *testing.T) {
	tree := fake(t, "memory")
	u := &units{tree: tree, delegated: true}
	g, err := newScope(tree, Scope{Units: u, Slice: "a.slice", Name: "x.scope"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	at := tree.root + "/a.slice/x.scope/"
	if err := g.Delegate(os.Getuid(), os.Getgid()); err != nil || g.InitPath() != "a.slice/x.scope/payload" || !slices.Equal(g.ProcsPaths(), []string{at + "payload/cgroup.procs"}) {
		t.Errorf("%v, %q", err, g.ProcsPaths())
	}
	if err := g.Enter(7); err != nil {
		t.Fatal(err)
	}
	if got := files(t, at+payload)["cgroup.procs"]; got != "7" {
		t.Errorf("processes: %q", got)
	}
	if !exists(at, joining) || len(g.JoinPaths()) != 1 {
		t.Errorf("%q", g.JoinPaths())
	}

	named := t.TempDir()
	one := &v1{trees: []dir{{t.TempDir(), []string{"memory"}}, {named, []string{namedTree}}}}
	if g, err = newScope(one, Scope{Units: u, Slice: "a.slice", Name: "x.scope"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := g.Delegate(os.Getuid(), os.Getgid()); err != nil || !exists(named, "a.slice/x.scope") {
		t.Errorf("the container's own hierarchy is not there: %v", err)
	}
}
