//go:build root

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/linux/systemd"
)

// show is what systemd says of a unit's properties, one a line.
func show(t *testing.T, unit string, properties ...string) string {
	t.Helper()
	out, err := exec.Command("systemctl", "show", "--property="+strings.Join(properties, ","), unit).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func pointer[T any](v T) *T { return &v }

// groupOf is the directory in which a process's limits of a controller are.
func groupOf(t *testing.T, pid int, controller string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	unified := ""
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if strings.Contains(","+f[1]+",", ","+controller+",") {
			return "/sys/fs/cgroup/" + f[1] + f[2]
		}
		if f[1] == "" {
			unified = "/sys/fs/cgroup" + f[2]
		}
	}
	return unified
}

func contents(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// TestBundleUnderSystemd leads a container with --systemd-cgroup through its life.
func TestBundleUnderSystemd(t *testing.T) {
	if !systemd.Running() {
		t.Skip("systemd is not process 1 here")
	}
	l := newLab(t)
	b := l.bundle("s", func(s *specs.Spec) {
		s.Linux.CgroupsPath = "tare-oci.slice:test:s"
		s.Process.Args = []string{"sleep", "1000"}
		for _, set := range []*[]string{&s.Process.Capabilities.Bounding, &s.Process.Capabilities.Effective, &s.Process.Capabilities.Permitted} {
			*set = append(*set, "CAP_MKNOD")
		}
		s.Annotations = map[string]string{"org.systemd.property.TimeoutStopSec": "7"}
		s.Linux.Resources = &specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: pointer(int64(64 << 20))}, Pids: &specs.LinuxPids{Limit: pointer(int64(50))},
			CPU: &specs.LinuxCPU{Quota: pointer(int64(50000)), Period: pointer(uint64(100000)), Cpus: "0"},
		}
	})
	const unit = "test-s.scope"
	if err := l.create("s", b, "--systemd-cgroup"); err != nil {
		t.Fatal(err)
	}
	st := l.state("s")
	memory, limit := "MemoryMax", "memory.max"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil { // version 1
		memory, limit = "MemoryLimit", "memory.limit_in_bytes"
		if got := show(t, unit, "DevicePolicy", "DeviceAllow"); !strings.Contains(got, "DevicePolicy=strict") || !strings.Contains(got, "DeviceAllow=/dev/char/1:3 rwm") {
			t.Errorf("devices: %s", got)
		}
	}
	want := "Slice=tare-oci.slice\nControlGroup=/tare.slice/tare-oci.slice/" + unit + "\n" + memory + "=67108864\nTasksMax=50\nDescription=container s\nDelegate=yes"
	if got := show(t, unit, "Slice", "ControlGroup", memory, "TasksMax", "Description", "Delegate"); !sameLines(got, want) {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if got := show(t, unit, "CPUQuotaPerSecUSec", "TimeoutStopUSec"); !sameLines(got, "CPUQuotaPerSecUSec=500ms\nTimeoutStopUSec=7s") {
		t.Error(got)
	}
	l.must("start", "s")
	at := groupOf(t, st.Pid, "memory")
	if !strings.HasSuffix(at, "/tare.slice/tare-oci.slice/"+unit) || contents(t, at+"/"+limit) != "67108864" {
		t.Errorf("the process is in %s", at)
	}
	if got := contents(t, groupOf(t, st.Pid, "cpuset")+"/cpuset.cpus"); got != "0" {
		t.Errorf("processors %q", got)
	}
	if got := l.must("exec", "s", "cat", "/proc/self/cgroup"); strings.Contains(got, unit) || !strings.Contains(got, ":/\n") {
		t.Errorf("an exec is in %s", got)
	}
	if got := l.must("exec", "s", "sh", "-c", ": < /dev/null && echo null; mknod /tmp/kmsg c 1 11 && (: < /tmp/kmsg) 2>/dev/null && echo kmsg; exit 0"); got != "null\n" {
		t.Errorf("devices: %q", got)
	}
	l.must("update", "--memory", "32m", "--pids-limit", "20", "s")
	if out, err := exec.Command("systemctl", "daemon-reload").CombinedOutput(); err != nil { // it writes what it knows
		t.Fatalf("%v: %s", err, out)
	}
	if got := show(t, unit, memory, "TasksMax"); !sameLines(got, memory+"=33554432\nTasksMax=20") || contents(t, at+"/"+limit) != "33554432" {
		t.Errorf("after an update: %s", got)
	}
	if got := l.must("exec", "s", "sh", "-c", "mknod /tmp/kmsg2 c 1 11 && (: < /tmp/kmsg2) 2>/dev/null && echo kmsg; exit 0"); got != "" {
		t.Errorf("devices after a daemon-reload: %q", got)
	}
	if got := l.must("ps", "s"); strings.Count(got, "\n") != 2 {
		t.Errorf("ps: %s", got)
	}
	if got := l.must("events", "--stats", "s"); !strings.Contains(got, `"limit":33554432`) {
		t.Errorf("events: %s", got)
	}
	l.must("pause", "s")
	l.await("s", "paused")
	l.must("resume", "s")
	l.must("kill", "s", "KILL")
	l.await("s", "stopped")
	l.must("delete", "s")
	if got := show(t, unit, "LoadState"); got != "LoadState=not-found" {
		t.Errorf("after delete: %s", got)
	}
	if _, err := os.Stat(at); err == nil {
		t.Errorf("%s is left", at)
	}
	if out, err := exec.Command("find", "/sys/fs/cgroup", "-name", unit).Output(); err != nil || len(out) > 0 {
		t.Errorf("groups left: %s, %v", out, err)
	}
}

// sameLines compares without order: systemctl has its own.
func sameLines(a, b string) bool {
	count := map[string]int{}
	for line := range strings.SplitSeq(a, "\n") {
		count[line]++
	}
	for line := range strings.SplitSeq(b, "\n") {
		count[line]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

// TestFailedCreateUnderSystemd: nothing is left of a container that could not be
// made, and names that are no scope's are refused.
func TestFailedCreateUnderSystemd(t *testing.T) {
	if !systemd.Running() {
		t.Skip("systemd is not process 1 here")
	}
	l := newLab(t)
	for name, c := range map[string]struct {
		path string
		args []string
		want string
	}{
		"form":  {"/a/b", []string{"true"}, "expected cgroupsPath to be of form"},
		"slice": {"a.b:c:d", []string{"true"}, "invalid slice name: a.b"},
		"late":  {"system.slice:test:late", []string{"/nothing"}, "no such file"},
	} {
		b := l.bundle(name, func(s *specs.Spec) { s.Linux.CgroupsPath, s.Process.Args = c.path, c.args })
		out, err := l.command("--systemd-cgroup", "run", "--bundle", b, name).CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		l.fails("does not exist", "state", name)
	}
	if got := show(t, "test-late.scope", "LoadState"); got != "LoadState=not-found" {
		t.Errorf("a unit is left: %s", got)
	}
	// The default name, and a run that removes the container.
	b := l.bundle("d", func(s *specs.Spec) {
		s.Linux.CgroupsPath, s.Process.Args = "", []string{"sh", "-c", "echo runs"}
	})
	if out, err := l.command("--systemd-cgroup", "run", "--bundle", b, "d").CombinedOutput(); err != nil || string(out) != "runs\n" {
		t.Errorf("%v: %s", err, out)
	}
	if got := show(t, "tare-d.scope", "LoadState"); got != "LoadState=not-found" {
		t.Errorf("a unit is left: %s", got)
	}
}

func TestWithoutSystemd(t *testing.T) {
	if systemd.Running() {
		t.Skip("systemd is process 1 here")
	}
	l := newLab(t)
	b := l.bundle("n", func(s *specs.Spec) { s.Linux.CgroupsPath = "" }, "true")
	l.fails("systemd not running on this host, cannot use systemd cgroups manager", "--systemd-cgroup", "create", "--bundle", b, "n")
	l.fails("does not exist", "state", "n")
}
