//go:build root

package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// parent returns a parent of its own for a test, removed afterwards.
func parent(t *testing.T) Parent {
	t.Helper()
	p := Parent(fmt.Sprintf("tare-test%d-%d", os.Getpid(), time.Now().UnixNano()))
	t.Cleanup(func() {
		if err := p.Remove(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func group(t *testing.T, r *specs.LinuxResources) *Group {
	t.Helper()
	g, err := parent(t).Create("x", r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Remove(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// inside starts a shell command in the group.
func inside(t *testing.T, g *Group, script string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	var enter strings.Builder
	for _, p := range g.ProcsPaths() {
		fmt.Fprintf(&enter, "echo $$ > '%s' || exit 99\n", p)
	}
	cmd := exec.Command("sh", "-c", enter.String()+script)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewReader(out)
}

func TestRootLimitsArriveInTheKernel(t *testing.T) {
	g := group(t, &specs.LinuxResources{
		Devices: DefaultDevices(),
		Memory:  &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Swap: ptr(int64(128 << 20)), Reservation: ptr(int64(32 << 20))},
		CPU:     &specs.LinuxCPU{Shares: ptr(uint64(512)), Quota: ptr(int64(50000)), Period: ptr(uint64(100000)), Cpus: "0"},
		Pids:    &specs.LinuxPids{Limit: ptr(int64(77))},
	})
	s, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if s.Memory.Limit != 64<<20 || s.Pids.Limit != 77 {
		t.Errorf("%+v", s)
	}
	if err := g.Update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(256 << 20)), Swap: ptr(int64(512 << 20))}}); err != nil {
		t.Error(err)
	}
	if err := g.Update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: ptr(int64(32 << 20)), Swap: ptr(int64(32 << 20))}}); err != nil {
		t.Error(err)
	}
	if s, err = g.Stats(); err != nil || s.Memory.Limit != 32<<20 {
		t.Errorf("%+v, %v", s, err)
	}
	names, err := Parent(path.Dir(g.Path())).List()
	if err != nil || !slices.Equal(names, []string{"x"}) {
		t.Errorf("%v, %v", names, err)
	}
}

func TestRootDeviceRulesHold(t *testing.T) {
	major, minor := int64(1), int64(11)
	more := append(DefaultDevices(), specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &major, Minor: &minor, Access: "r"})
	for _, c := range []struct {
		rules []specs.LinuxDeviceCgroup
		want  string
	}{{DefaultDevices(), "null\n"}, {more, "null\nkmsg\n"}, {AllDevices(), "null\nkmsg\n"}} {
		g := group(t, &specs.LinuxResources{Devices: c.rules})
		cmd, out := inside(t, g, `: < /dev/null && echo null; (: < /dev/kmsg) 2>/dev/null && echo kmsg; exit 0`)
		var got strings.Builder
		out.WriteTo(&got)
		if err := cmd.Wait(); err != nil || got.String() != c.want {
			t.Errorf("%d rules: %q, %v", len(c.rules), got.String(), err)
		}
	}
}

func TestRootFreezeThawKill(t *testing.T) {
	g := group(t, &specs.LinuxResources{Devices: DefaultDevices()})
	cmd, out := inside(t, g, `sleep 100 & echo up; while :; do echo .; sleep 0.01; done`)
	if _, err := out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := g.Freeze(); err != nil {
		t.Fatal(err)
	}
	if frozen, err := g.Frozen(); !frozen || err != nil {
		t.Errorf("%v, %v", frozen, err)
	}
	if pids, err := g.Pids(); err != nil || len(pids) < 2 {
		t.Errorf("%v, %v", pids, err)
	}
	if err := g.Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := g.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := g.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if st := cmd.ProcessState.Sys().(syscall.WaitStatus); st.Signal() != syscall.SIGKILL {
		t.Errorf("%v", cmd.ProcessState)
	}
}

func TestRootRemoveTakesGroupsBelow(t *testing.T) {
	g := group(t, nil)
	for _, d := range g.dirs {
		for _, sub := range []string{"/a", "/a/b", "/c"} {
			if err := os.Mkdir(d.path+sub, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := g.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(g.Path()); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestRootOOMKillOfAChildIsCounted(t *testing.T) {
	g := group(t, &specs.LinuxResources{Devices: DefaultDevices(), Memory: &specs.LinuxMemory{Limit: ptr(int64(16 << 20)), Swap: ptr(int64(16 << 20))}})
	cmd, _ := inside(t, g, `head -c 100000000 /dev/zero | tail -c 90000000 > /dev/null 2>&1; exit 0`)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if n, err := g.OOMKills(); n == 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func TestRootOOMIsToldWhileTheGroupRuns(t *testing.T) {
	g := group(t, &specs.LinuxResources{Devices: DefaultDevices(), Memory: &specs.LinuxMemory{Limit: ptr(int64(16 << 20)), Swap: ptr(int64(16 << 20))}})
	o, err := g.WatchOOM()
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if told, err := o.Happened(); told || err != nil {
		t.Fatal("told before anything ran", err)
	}
	cmd, _ := inside(t, g, `head -c 100000000 /dev/zero | tail -c 90000000 > /dev/null 2>&1; sleep 1000`)
	in, told := []unix.PollFd{{Fd: int32(o.FD()), Events: unix.POLLPRI}}, false
	if _, ok := g.tree.(*v1); ok {
		in[0].Events = unix.POLLIN
	}
	for !told {
		if n, err := unix.Poll(in, 10_000); n == 0 || err != nil && err != unix.EINTR {
			t.Fatal("nothing is told", err)
		}
		if told, err = o.Happened(); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
}

func TestRootHostFeatures(t *testing.T) {
	f, err := HostFeatures()
	if err != nil || !f.Memory || !f.Pids || !f.CPUQuota {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestRootCreateLeavesNothingOnError(t *testing.T) {
	p := parent(t)
	if _, err := p.Create("x", &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "4000"}}); err == nil {
		t.Error("cpu 4000 accepted")
	}
	if _, err := Open(string(p) + "/x"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestRootDeviceProgramLoads attaches a program in the version 2 tree of a
// hybrid host.
func TestRootDeviceProgramLoads(t *testing.T) {
	root := "/sys/fs/cgroup/unified"
	if !exists(root, "cgroup.procs") {
		if root = "/sys/fs/cgroup"; !exists(root, "cgroup.procs") {
			t.Skip("no version 2 tree is mounted")
		}
	}
	tree := &v2{root: root}
	p := fmt.Sprintf("tare-test%d-v2", os.Getpid())
	g, err := create(tree, p+"/x", &specs.LinuxResources{Devices: DefaultDevices()}, true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := g.Remove(); err != nil {
			t.Error(err)
		}
		if err := removeParent(tree, p); err != nil {
			t.Error(err)
		}
	}()
	cmd, out := inside(t, g, `: < /dev/null && echo null; (: < /dev/kmsg) 2>/dev/null && echo kmsg; exit 0`)
	var got strings.Builder
	out.WriteTo(&got)
	if err := cmd.Wait(); err != nil || got.String() != "null\n" {
		t.Errorf("%q, %v", got.String(), err)
	}
	cmd, out = inside(t, g, `echo up; sleep 100`)
	out.ReadString('\n')
	if err := g.Kill(); err != nil {
		t.Error(err)
	}
	cmd.Wait()
}

func BenchmarkRootCreateRemove(b *testing.B) {
	p := Parent(fmt.Sprintf("tare-bench%d", os.Getpid()))
	r := &specs.LinuxResources{Devices: DefaultDevices(), Pids: &specs.LinuxPids{Limit: ptr(int64(4096))}}
	for b.Loop() {
		g, err := p.Create("x", r)
		if err != nil {
			b.Fatal(err)
		}
		if err := g.Remove(); err != nil {
			b.Fatal(err)
		}
	}
	if err := p.Remove(); err != nil {
		b.Error(err)
	}
}
