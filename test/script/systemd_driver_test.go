//go:build root

package script

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

const systemdDriver = "native.cgroupdriver=systemd"

// underSystemd starts an engine whose containers' groups systemd makes.
func underSystemd(t *testing.T) (e *engine, dir string) {
	t.Helper()
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		t.Skip("systemd is not process 1 here")
	}
	dir = workdir(t)
	if err := os.Chmod(dir, 0o711); err != nil { // as /run is: roots of user namespaces go through it
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if out, err := exec.Command(filepath.Join(programs(t), "tared"), "--data-root", dir+"/data", "--exec-root", dir+"/run", "--uninstall").CombinedOutput(); err != nil {
			t.Errorf("uninstall: %v: %s", err, out)
		}
	})
	e = remapped(t, dir, "--exec-opt", systemdDriver)
	e.docker = filepath.Join(e.bin, "tare")
	e.load(t, "busybox.tar")
	return e, dir
}

// unit is what systemd says of a container's unit: properties, as NAME=VALUE.
func unit(t *testing.T, id string, properties ...string) string {
	t.Helper()
	out, err := exec.Command("systemctl", "show", "--property="+strings.Join(properties, ","), "tare-"+id+".scope").Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(out))
	slices.Sort(lines)
	return strings.Join(lines, " ")
}

// nothingOf checks that no unit and no group is left of a container.
func nothingOf(t *testing.T, id string) {
	t.Helper()
	await(t, "nothing is left of "+id, func() bool {
		groups, err := exec.Command("find", "/sys/fs/cgroup", "-name", "*"+id+"*").Output()
		return err == nil && len(groups) == 0 && unit(t, id, "LoadState") == "LoadState=not-found"
	})
}

// memoryLimit names systemd's property and the kernel's file.
func memoryLimit() (property, file string) {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil {
		return "MemoryLimit", "/sys/fs/cgroup/memory/%s/memory.limit_in_bytes"
	}
	return "MemoryMax", "/sys/fs/cgroup/%s/memory.max"
}

// TestDriverUnderSystemd has one engine for all: on an emulated machine it starts
// slowly.
func TestDriverUnderSystemd(t *testing.T) {
	e, dir := underSystemd(t)
	ok := t.Run("life", func(t *testing.T) { driverLife(t, e, dir) })
	ok = t.Run("kinds", func(t *testing.T) { driverKinds(t, e) }) && ok
	if ok {
		t.Run("another driver", func(t *testing.T) { driverChanges(t, e) })
	}
}

// driverLife leads a container through its life.
func driverLife(t *testing.T, e *engine, dir string) {
	if got := e.output(t, "info", "-f", "{{.CgroupDriver}}"); got != "systemd" {
		t.Errorf("driver %s", got)
	}
	id := e.output(t, "run", "-d", "--name", "aa", "-m", "64m", "--cpus", "0.5", "--pids-limit", "60", "busybox", "sleep", "1000")
	memory, file := memoryLimit()
	path := "system.slice/tare-" + id + ".scope"
	file = fmt.Sprintf(file, path)
	limit := func(want string) {
		t.Helper()
		if b, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(b)) != want {
			t.Errorf("%s: %q, %v; want %s", file, b, err, want)
		}
	}
	want := "ActiveState=active CPUQuotaPerSecUSec=500ms ControlGroup=/" + path + " Delegate=yes " + memory + "=67108864 Slice=system.slice TasksMax=60"
	if got := unit(t, id, "ActiveState", "CPUQuotaPerSecUSec", "ControlGroup", "Delegate", memory, "Slice", "TasksMax"); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	limit("67108864")
	e.shows(t, ":/\n", "exec", "aa", "cat", "/proc/self/cgroup")
	e.shows(t, "sleep 1000", "top", "aa")
	e.shows(t, "64MiB", "stats", "--no-stream", "aa")
	e.output(t, "pause", "aa")
	e.output(t, "unpause", "aa")
	e.output(t, "update", "-m", "32m", "--memory-swap", "32m", "aa")
	if out, err := exec.Command("systemctl", "daemon-reload").CombinedOutput(); err != nil { // it writes what it knows
		t.Fatalf("%v: %s", err, out)
	}
	if got := unit(t, id, memory); got != memory+"=33554432" {
		t.Error(got)
	}
	limit("33554432")
	if out, err := exec.Command(e.docker, "-H", "unix://"+e.socket, "exec", "aa", "sh", "-c", "mknod /tmp/kmsg c 1 11 && : < /tmp/kmsg").CombinedOutput(); err == nil {
		t.Errorf("a device beyond the rules is open: %s", out)
	}

	e.kill(t)
	e.rise(t)
	if got := e.output(t, "inspect", "-f", "{{.State.Status}}", "aa"); got != "running" {
		t.Errorf("after a kill of the engine it is %s", got)
	}
	e.output(t, "update", "-m", "48m", "--memory-swap", "48m", "aa")
	if got := unit(t, id, memory); got != memory+"=50331648" {
		t.Error(got)
	}
	e.output(t, "kill", "aa")
	nothingOf(t, id)
	e.output(t, "start", "aa")
	limit("50331648")

	// It ends while no engine is there.
	pid := e.output(t, "inspect", "-f", "{{.State.Pid}}", "aa")
	e.kill(t)
	if err := exec.Command("kill", "-9", pid).Run(); err != nil {
		t.Fatal(err)
	}
	e.rise(t)
	await(t, "the container has exited", func() bool { return e.output(t, "inspect", "-f", "{{.State.ExitCode}}", "aa") == "137" })
	nothingOf(t, id)

	// Its record is lost.
	e.output(t, "start", "aa")
	e.kill(t)
	if err := os.RemoveAll(filepath.Join(dir, "data/containers", id)); err != nil {
		t.Fatal(err)
	}
	e.rise(t)
	nothingOf(t, id)
}

// driverKinds has containers of many kinds, and what the driver refuses.
func driverKinds(t *testing.T, e *engine) {
	for _, parent := range []string{"foo", "/foo", "a/b.slice", ".slice", "a--b.slice"} {
		e.fails(t, `cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"`, "create", "--cgroup-parent", parent, "busybox", "true")
	}
	id := e.output(t, "run", "-d", "--name", "pp", "--cgroup-parent", "tare-own.slice", "busybox", "sleep", "1000")
	if got, want := unit(t, id, "ControlGroup"), "ControlGroup=/tare.slice/tare-own.slice/tare-"+id+".scope"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := e.output(t, "run", "--rm", "--pid", "container:pp", "busybox", "cat", "/proc/1/cmdline"); got != "sleep\x001000\x00" {
		t.Errorf("--pid: %q", got)
	}
	if got := e.output(t, "run", "--rm", "--userns", "auto", "-m", "40m", "busybox", "sh", "-c", "id -u; grep -c : /proc/net/dev"); !strings.HasPrefix(got, "0\n") {
		t.Errorf("--userns: %q", got)
	}
	e.output(t, "run", "-d", "--name", "uu", "--userns", "auto", "busybox", "sleep", "1000")
	same := []string{"busybox", "stat", "-L", "-c", "%i", "/proc/self/ns/user", "/proc/self/ns/net"}
	want := e.output(t, append([]string{"exec", "uu"}, same[1:]...)...)
	if got := e.output(t, append([]string{"run", "--rm", "--userns", "auto", "--network", "container:uu", "--pid", "container:uu", "-m", "40m"}, same...)...); got != want {
		t.Errorf("joined: %q, want %q", got, want)
	}
	if got := e.output(t, "run", "--rm", "--runtime", "runc", "--userns", "auto", "-m", "40m", "busybox", "sh", "-c", "id -u; grep -c : /proc/net/dev"); !strings.HasPrefix(got, "0\n") {
		t.Errorf("runc, --userns: %q", got)
	}
	e.output(t, "rm", "-f", "uu")
	e.fails(t, "executable file not found", "run", "--name", "nn", "busybox", "nothing")
	nothingOf(t, e.output(t, "inspect", "-f", "{{.ID}}", "nn"))
	e.fails(t, "", "run", "--name", "oo", "-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c", "tail /dev/zero")
	if got := e.output(t, "inspect", "-f", "{{.State.OOMKilled}}", "oo"); got != "true" {
		t.Errorf("OOMKilled %s", got)
	}
	look := `for d in /sys/fs/cgroup/systemd /sys/fs/cgroup; do test -e $d/cgroup.procs && break; done; cd $d && mkdir below && echo $$ > below/cgroup.procs && cut -d: -f3 /proc/self/cgroup | grep -c "^/below$"`
	if got := e.output(t, "run", "--rm", "-m", "64m", "--systemd", "always", "busybox", "sh", "-c", look); got != "1" {
		t.Errorf("systemd inside: %q", got)
	}
	if got := e.output(t, "run", "--rm", "--privileged", "busybox", "sh", "-c", "mknod /tmp/kmsg c 1 11 && : < /tmp/kmsg && echo open"); got != "open" {
		t.Errorf("--privileged: %q", got)
	}

	other := e.output(t, "run", "-d", "--name", "xx", "--runtime", "runc", "-m", "64m", "busybox", "sleep", "1000")
	memory, _ := memoryLimit()
	if got, want := unit(t, other, "ControlGroup", memory), "ControlGroup=/system.slice/tare-"+other+".scope "+memory+"=67108864"; got != want {
		t.Errorf("another runtime: %s, want %s", got, want)
	}
	e.output(t, "exec", "xx", "true")
	e.output(t, "rm", "-f", "xx", "pp", "nn", "oo")
	nothingOf(t, id)
	nothingOf(t, other)
}

// driverChanges: an engine that makes its own groups finds scopes that one before
// it has had made.
func driverChanges(t *testing.T, e *engine) {
	id := e.output(t, "run", "-d", "--name", "aa", "busybox", "sleep", "1000")
	e.cmd.Process.Signal(syscall.SIGTERM)
	e.cmd.Wait()
	at := slices.Index(e.cmd.Args, systemdDriver)
	e.cmd.Args[at] = "native.cgroupdriver=cgroupfs"
	e.rise(t)
	if got := e.output(t, "info", "-f", "{{.CgroupDriver}}"); got != "cgroupfs" {
		t.Errorf("driver %s", got)
	}
	e.output(t, "update", "--pids-limit", "33", "aa")
	if got := unit(t, id, "TasksMax"); got != "TasksMax=33" {
		t.Error(got)
	}
	e.output(t, "restart", "-t", "0", "aa")
	if got := unit(t, id, "LoadState"); got != "LoadState=not-found" {
		t.Errorf("the new run has a unit: %s", got)
	}
	e.output(t, "rm", "-f", "aa")
	nothingOf(t, id)
}

// TestDriverWithoutSystemd: the engine says what is missing.
func TestDriverWithoutSystemd(t *testing.T) {
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		t.Skip("systemd is process 1 here")
	}
	dir := workdir(t)
	out, err := exec.Command(filepath.Join(programs(t), "tared"), "--data-root", dir+"/data", "--exec-root", dir+"/run", "-H", "unix://"+dir+"/s", "--exec-opt", systemdDriver).CombinedOutput()
	if err == nil {
		t.Error("it runs")
	}
	expect(t, "tared", string(out), "native.cgroupdriver=systemd: systemd is not process 1 of this machine (there is no /run/systemd/system): leave the option away")
}
