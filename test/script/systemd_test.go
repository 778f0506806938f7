//go:build root

package script

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// systemdRoot is a root directory with the host's systemd and units of the test.
func systemdRoot(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat("/usr/lib/systemd/systemd"); err != nil {
		t.Fatalf("%v: run make deps first", err)
	}
	root := hostRootCopy(t)
	units := filepath.Join(root, "etc/systemd/system")
	if err := os.MkdirAll(units, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"probe.target":  "[Unit]\nRequires=probe.service systemd-journald.service\nAfter=probe.service systemd-journald.service\n",
		"probe.service": "[Service]\nExecStart=/bin/sh -c 'echo the unit runs; exec sleep infinity'\nExecStop=/bin/sh -c 'echo stopped in order > /var/probe'\nMemoryMax=50M\n",
	} {
		if err := os.WriteFile(filepath.Join(units, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// booted waits until systemd runs the test's unit: an emulated machine takes a
// minute.
func (e *engine) booted(t *testing.T, name string) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		out, err := exec.Command(e.docker, "-H", "unix://"+e.socket, "exec", name, "systemctl", "is-active", "probe.service").CombinedOutput()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("systemd does not run its unit: %v: %s", err, out)
		}
	}
}

// hostLimit reads a container's memory limit where the container cannot reach it.
func hostLimit(t *testing.T, id string) string {
	t.Helper()
	for _, pattern := range []string{"/sys/fs/cgroup/memory/*/" + id + "/memory.limit_in_bytes", "/sys/fs/cgroup/*/" + id + "/memory.max"} {
		files, _ := filepath.Glob(pattern)
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(string(b))
		}
	}
	t.Fatalf("no memory limit of %s", id)
	return ""
}

// TestSystemd: systemd is the first process of a container without privilege,
// runs units in groups of its own, keeps to the container's limits, and ends in
// order when it is asked to.
func TestSystemd(t *testing.T) {
	e := startTared(t)
	e.docker = filepath.Join(e.bin, "tare")
	root := systemdRoot(t)
	const command = "/usr/lib/systemd/systemd"
	id := e.output(t, "run", "-d", "--name", "sys", "--systemd", "auto", "-m", "300m", "--pids-limit", "200", "--rootfs", root, command, "--unit=probe.target")
	if got := e.output(t, "inspect", "-f", "{{.Config.StopSignal}} {{json .HostConfig.Annotations}}", "sys"); got != `SIGRTMIN+3 {"tare.systemd":"auto"}` {
		t.Errorf("inspect: %s", got)
	}
	e.booted(t, "sys")
	e.shows(t, "running", "exec", "sys", "systemctl", "is-system-running")
	e.shows(t, "the unit runs", "exec", "sys", "journalctl", "--no-pager", "-u", "probe.service")
	e.shows(t, "/system.slice/probe.service", "exec", "sys", "sh", "-c", "cat /proc/$(systemctl show -P MainPID probe.service)/cgroup")
	if got := e.output(t, "exec", "sys", "sh", "-c", `tr "\0" "\n" < /proc/1/environ | grep ^container`); got != "container=tare\ncontainer_uuid="+id[:32] {
		t.Errorf("environment: %s", got)
	}
	for _, dir := range []string{"/run", "/run/lock", "/tmp", "/var/log/journal"} {
		if got := e.output(t, "exec", "sys", "findmnt", "-n", "-o", "FSTYPE", dir); got != "tmpfs" {
			t.Errorf("%s is on %s", dir, got)
		}
	}
	e.output(t, "exec", "sys", "sh", "-c", "for f in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do echo 4000000000 > $f; done 2>/dev/null; true")
	if got := hostLimit(t, id); got != "314572800" {
		t.Errorf("the container has changed its limit to %s", got)
	}
	e.output(t, "pause", "sys")
	e.output(t, "unpause", "sys")

	e.kill(t)
	e.rise(t)
	e.booted(t, "sys")
	e.output(t, "stop", "-t", "60", "sys")
	if got := e.output(t, "inspect", "-f", "{{.State.ExitCode}}", "sys"); got != "0" {
		t.Errorf("exit code %s", got)
	}
	if b, err := os.ReadFile(filepath.Join(root, "var/probe")); err != nil || string(b) != "stopped in order\n" {
		t.Errorf("the unit was not stopped: %q, %v", b, err)
	}
	e.output(t, "rm", "sys")
	left, err := exec.Command("find", "/sys/fs/cgroup", "-name", id).Output()
	if err != nil || len(left) > 0 {
		t.Errorf("groups left: %s, %v", left, err)
	}
}

// TestSystemdModes: who gets what systemd needs, and what is refused.
func TestSystemdModes(t *testing.T) {
	e := startTared(t)
	e.docker = filepath.Join(e.bin, "tare")
	e.load(t, "busybox.tar")
	const look = `echo "container=$container"; grep -c " /run tmpfs " /proc/mounts; true`
	for _, tc := range []struct{ mode, want string }{
		{"", "container=\n0"}, {"false", "container=\n0"}, {"auto", "container=\n0"}, {"always", "container=tare\n1"},
	} {
		args := []string{"run", "--rm"}
		if tc.mode != "" {
			args = append(args, "--systemd", tc.mode)
		}
		if got := e.output(t, append(args, "busybox", "sh", "-c", look)...); got != tc.want {
			t.Errorf("--systemd %q: %q, want %q", tc.mode, got, tc.want)
		}
	}
	// A mount of the user's stays, also below one of ours.
	got := e.output(t, "run", "--rm", "--systemd", "always", "-v", "/etc/hostname:/run/name:ro", "--tmpfs", "/tmp:size=1m", "busybox", "sh", "-c", `test -s /run/name && grep " /tmp tmpfs " /proc/mounts | grep -c size=1024k`)
	if got != "1" {
		t.Errorf("user's mounts: %q", got)
	}
	for _, tc := range []struct{ args, want string }{
		{"--systemd maybe", `invalid tare.systemd "maybe": must be auto, always or false`},
		{"--systemd always --cgroupns host", "systemd needs a cgroup namespace of its own"},
		{"--systemd always --init", "only one of them can be the first process"},
	} {
		args := append([]string{"-H", "unix://" + e.socket, "create"}, append(strings.Fields(tc.args), "busybox")...)
		out, err := exec.Command(e.docker, args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), tc.want) {
			t.Errorf("%s: %v, %s; want %q", tc.args, err, out, tc.want)
		}
	}
}

// TestSystemdByAnotherRuntime: runc starts it in the delegated group.
func TestSystemdByAnotherRuntime(t *testing.T) {
	e, execRoot := startExternal(t)
	root := systemdRoot(t)
	id := e.output(t, "run", "-d", "--name", "sysr", "--runtime", "runc", "--systemd", "always", "-m", "300m", "--rootfs", root, "/usr/lib/systemd/systemd", "--unit=probe.target")
	e.booted(t, "sysr")
	e.shows(t, "/system.slice/probe.service", "exec", "sysr", "sh", "-c", "cat /proc/$(systemctl show -P MainPID probe.service)/cgroup")
	e.output(t, "exec", "sysr", "sh", "-c", "for f in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do echo 4000000000 > $f; done 2>/dev/null; true")
	if got := hostLimit(t, "runtimes/"+id); got != "314572800" {
		t.Errorf("the container has changed its limit to %s", got)
	}
	e.output(t, "stop", "-t", "60", "sysr")
	if got := e.output(t, "inspect", "-f", "{{.State.ExitCode}}", "sysr"); got != "0" {
		t.Errorf("exit code %s", got)
	}
	e.output(t, "rm", "sysr")
	leftNothing(t, execRoot)
	left, err := exec.Command("find", "/sys/fs/cgroup", "-name", id).Output()
	if err != nil || len(left) > 0 {
		t.Errorf("groups left: %s, %v", left, err)
	}
}

// TestSystemdOfMappedRoot: systemd owns its groups where the container's root is
// another user of the host.
func TestSystemdOfMappedRoot(t *testing.T) {
	e := startTared(t)
	e.docker = filepath.Join(e.bin, "tare")
	e.load(t, "busybox.tar")
	const look = `for d in /sys/fs/cgroup/systemd /sys/fs/cgroup; do test -e $d/cgroup.procs && break; done; cd $d && mkdir below && echo $$ > below/cgroup.procs && cut -d: -f3 /proc/self/cgroup | grep -c "^/below$"`
	if got := e.output(t, "run", "--rm", "--userns", "auto", "--systemd", "always", "busybox", "sh", "-c", look); got != "1" {
		t.Errorf("in a group of its own: %q", got)
	}
	got := e.output(t, "run", "--rm", "--userns", "auto", "-m", "64m", "--systemd", "always", "busybox", "sh", "-c",
		`for f in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do test -e $f && echo 4000000000 > $f && echo changed; done 2>/dev/null; echo done`)
	if got != "done" {
		t.Errorf("its own limit: %q", got)
	}
}
