//go:build root

package script

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startExternal starts an engine with runtimes of the test's own: one that is
// not there, one that fails, and a slow runc.
func startExternal(t *testing.T) (e *engine, execRoot string) {
	t.Helper()
	dir, bin := workdir(t), programs(t)
	if err := os.Chmod(dir, 0o711); err != nil { // as /run is: roots of user namespaces go through it
		t.Fatal(err)
	}
	slow := script(t, dir+"/slow", "case \" $* \" in *' create '*) touch "+dir+"/begun; sleep 1;; esac\nexec runc \"$@\"\n")
	says := script(t, dir+"/says", "echo this runtime has no idea >&2\nexit 3\n")
	config := dir + "/daemon.json"
	text := `{"runtimes": {"slow": {"path": "` + slow + `"}, "says": {"path": "` + says + `"}, "logs": {"path": "runc", "runtimeArgs": ["--debug"]}}}`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	execRoot = dir + "/run"
	args := []string{"--data-root", dir + "/data", "--exec-root", execRoot, "--config-file", config}
	t.Cleanup(func() {
		if out, err := exec.Command(filepath.Join(bin, "tared"), append(args, "--uninstall")...).CombinedOutput(); err != nil {
			t.Errorf("uninstall: %v: %s", err, out)
		}
	})
	e = start(t, &engine{socket: dir + "/engine.sock", bin: bin, docker: filepath.Join(bin, "tare")}, dir, filepath.Join(bin, "tared"), append(args, "--log-level", "warn")...)
	return e, execRoot
}

func script(t *testing.T, path, body string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// await polls until a condition holds.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// kill ends the engine by SIGKILL.
func (e *engine) kill(t *testing.T) {
	t.Helper()
	if err := e.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	e.cmd.Wait()
}

// rise starts an engine that was killed again.
func (e *engine) rise(t *testing.T) {
	t.Helper()
	c := exec.Command(e.cmd.Path, e.cmd.Args[1:]...)
	c.Stdout, c.Stderr = e.cmd.Stdout, e.cmd.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	e.cmd = c
	e.shows(t, "Server:", "version")
}

// killKeeper ends the keeper of the exec root by SIGKILL.
func killKeeper(t *testing.T, execRoot string) {
	t.Helper()
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		line, err := os.ReadFile("/proc/" + d.Name() + "/cmdline")
		if err != nil || !strings.Contains(string(line), "tare-keeper\x00") || !strings.Contains(string(line), "\x00"+execRoot+"\x00") {
			continue
		}
		if pid, err := strconv.Atoi(d.Name()); err == nil {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// groupOf is the parent of the control groups of an engine whose roots lie in one
// directory.
func groupOf(t *testing.T, execRoot string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(filepath.Dir(execRoot), "data", "engine.json"))
	var identity struct{ ID string }
	if err := errors.Join(err, json.Unmarshal(b, &identity)); err != nil {
		t.Fatal(err)
	}
	return "tare-" + identity.ID
}

// leftNothing waits until no trace of other runtimes' containers is left.
func leftNothing(t *testing.T, execRoot string) {
	t.Helper()
	var left []string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		left = nil
		for _, pattern := range []string{execRoot + "/bundles/*", execRoot + "/runtimes/*/*"} {
			found, _ := filepath.Glob(pattern)
			left = append(left, found...)
		}
		groups, _ := exec.Command("find", "/sys/fs/cgroup", "-mindepth", "3", "-path", "*/"+groupOf(t, execRoot)+"/runtimes/*/cgroup.procs",
			"(", "-fstype", "cgroup", "-o", "-fstype", "cgroup2", ")").Output() // crun writes files of that name where no tree is
		left = append(left, strings.Fields(string(groups))...)
		if len(left) == 0 {
			return
		}
	}
	t.Errorf("left: %q", left)
}

const asked = `trap "echo asked; exit 3" TERM; echo begun; while :; do sleep 0.05; done`

// TestExternalOutlivesDeaths: a container of another runtime goes on when the
// engine or the keeper is killed, and how it ends is known.
func TestExternalOutlivesDeaths(t *testing.T) {
	e, execRoot := startExternal(t)
	e.load(t, "busybox.tar")
	const state = "{{.State.Status}} {{.State.ExitCode}}"
	for _, tc := range []struct {
		name, want string
		death      func()
	}{
		// First: kernels before 6.15 tell the status to the keeper's ancestor only.
		{"keeper", "exited 3", func() { killKeeper(t, execRoot); e.shows(t, "ok", "exec", "keeper", "echo", "ok") }},
		{"engine", "exited 3", func() { e.kill(t); e.rise(t) }},
		{"both", "exited", func() { e.kill(t); killKeeper(t, execRoot); e.rise(t) }},
	} {
		e.output(t, "run", "-d", "--name", tc.name, "--runtime", "runc", "busybox", "sh", "-c", asked)
		e.shows(t, "begun", "logs", tc.name)
		pid := e.output(t, "inspect", "-f", "{{.State.Pid}}", tc.name)
		tc.death()
		if got := e.output(t, "inspect", "-f", "{{.State.Status}} {{.State.Pid}}", tc.name); got != "running "+pid {
			t.Errorf("%s: after its death %q, before it ran with pid %s", tc.name, got, pid)
		}
		e.shows(t, "inside", "exec", tc.name, "echo", "inside")
		e.output(t, "stop", tc.name)
		if got := e.output(t, "inspect", "-f", state, tc.name); !strings.HasPrefix(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
		e.shows(t, "asked", "logs", tc.name)
		e.output(t, "rm", tc.name)
	}
	leftNothing(t, execRoot)
}

// TestExternalEndsWithoutEngine: what ended while no engine was there is known to
// the next one, which clears it away.
func TestExternalEndsWithoutEngine(t *testing.T) {
	e, execRoot := startExternal(t)
	e.load(t, "busybox.tar")
	e.output(t, "run", "-d", "--name", "alone", "--runtime", "runc", "busybox", "sh", "-c", "sleep 1; exit 7")
	e.kill(t)
	await(t, "the exit is written down", func() bool {
		exits, _ := filepath.Glob(execRoot + "/exits/*.json")
		return len(exits) == 1
	})
	e.rise(t)
	e.shows(t, "exited 7", "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "alone")
	e.output(t, "rm", "alone")
	leftNothing(t, execRoot)
}

// TestExternalStartCutOff: a kill while the runtime makes the container leaves
// nothing of it, and it can be started again.
func TestExternalStartCutOff(t *testing.T) {
	e, execRoot := startExternal(t)
	e.load(t, "busybox.tar")
	for name, death := range map[string]func(){
		"engine": func() { e.kill(t); e.rise(t) },
		"keeper": func() { killKeeper(t, execRoot) },
	} {
		begun := filepath.Join(filepath.Dir(execRoot), "begun")
		os.Remove(begun)
		e.output(t, "create", "--name", name, "--runtime", "slow", "busybox", "sh", "-c", asked)
		c := exec.Command(e.docker, "-H", "unix://"+e.socket, "start", name)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		await(t, "the runtime is at it", func() bool {
			_, err := os.Stat(begun)
			return err == nil
		})
		death()
		c.Wait()
		time.Sleep(1500 * time.Millisecond) // in which the slow one may not come about later
		// Either it has come about, or nothing of it is left.
		if got := e.output(t, "inspect", "-f", "{{.State.Status}}", name); got != "running" {
			leftNothing(t, execRoot)
			e.shows(t, name, "start", name) // once the end of what was killed is told
		}
		e.shows(t, "begun", "logs", name)
		e.output(t, "rm", "-f", name)
		leftNothing(t, execRoot)
	}
}

// TestExternalFailures: what a runtime says when it fails reaches the client.
func TestExternalFailures(t *testing.T) {
	e, execRoot := startExternal(t)
	e.load(t, "busybox.tar")
	const failed = "failed to create task for container: failed to create shim task: OCI runtime create failed: "
	for runtime, want := range map[string]string{
		"says": failed + "the runtime did not terminate successfully: exit status 3: this runtime has no idea",
		"nope": "unknown or invalid runtime name: nope",
	} {
		for _, tty := range []string{"-d", "-dt"} {
			out, err := exec.Command(e.docker, "-H", "unix://"+e.socket, "run", tty, "--rm", "--runtime", runtime, "busybox", "true").CombinedOutput()
			if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 125 || !strings.Contains(string(out), want) {
				t.Errorf("%s: %v: %q, want 125 and %q", runtime, err, out, want)
			}
		}
	}
	if got := e.output(t, "run", "--rm", "--runtime", "logs", "busybox", "echo", "hello"); got != "hello" {
		t.Errorf("with runtimeArgs: %q", got)
	}
	leftNothing(t, execRoot)
}

// ends runs the command line, which must end with a code.
func (e *engine) ends(t *testing.T, code int, args ...string) {
	t.Helper()
	out, err := exec.Command(e.docker, append([]string{"-H", "unix://" + e.socket}, args...)...).CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != code {
		t.Errorf("%q: %v, want %d: %s", args, err, code, out)
	}
}

// withoutUnified puts something else over the second tree of control groups of a
// hybrid host, until the test is over: crun refuses to look at both. The mount
// namespace is the tests' own.
func withoutUnified(t *testing.T) {
	t.Helper()
	const unified = "/sys/fs/cgroup/unified"
	err := syscall.Mount("tmpfs", unified, "tmpfs", 0, "")
	if errors.Is(err, syscall.ENOENT) {
		return // there is none
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(unified, 0); err != nil {
			t.Error(err)
		}
	})
}

// TestExternalRuntimes: what any runtime has to do, by those that Debian has.
func TestExternalRuntimes(t *testing.T) {
	for _, name := range []string{"runc", "crun"} {
		t.Run(name, func(t *testing.T) {
			if name == "crun" {
				withoutUnified(t)
			}
			e, execRoot := startExternal(t)
			e.load(t, "busybox.tar")
			if got := e.output(t, "run", "--rm", "--runtime", name, "--user", "5:6", "-e", "A=b", "busybox", "sh", "-c", `echo "$A $(id -u)"`); got != "b 5" {
				t.Errorf("run: %q", got)
			}
			e.output(t, "run", "-d", "--name", name, "--runtime", name, "--pids-limit", "50", "busybox", "sh", "-c", asked)
			e.shows(t, "begun", "logs", name)
			e.shows(t, "inside", "exec", name, "echo", "inside")
			e.shows(t, "/dev/pts/", "exec", "-t", name, "tty")
			for _, c := range []struct {
				code    int
				program string
			}{{127, "nosuch"}, {127, "/no/such"}, {126, "/etc"}, {126, "/etc/passwd"}} {
				e.ends(t, c.code, "run", "--rm", "--runtime", name, "busybox", c.program)
				e.ends(t, c.code, "run", "--rm", "-t", "--runtime", name, "busybox", c.program)
				e.ends(t, c.code, "exec", name, c.program)
			}
			e.output(t, "pause", name)
			e.output(t, "unpause", name)
			e.output(t, "update", "--pids-limit", "60", name)
			if limits, _ := exec.Command("sh", "-c", `cat $(find /sys/fs/cgroup -path "*/`+groupOf(t, execRoot)+`/runtimes/*/pids.max")`).Output(); strings.TrimSpace(string(limits)) != "60" {
				t.Errorf("the limit of tasks is %q", limits)
			}
			e.output(t, "stop", name)
			if got := e.output(t, "inspect", "-f", "{{.State.ExitCode}}", name); got != "3" {
				t.Errorf("exit code %s", got)
			}
			e.output(t, "rm", name)
			testExternalMapped(t, e, name)
			leftNothing(t, execRoot)
		})
	}
}

// testExternalMapped: a container with ids of its own, by another runtime.
func testExternalMapped(t *testing.T, e *engine, runtime string) {
	look := "id -u; cat /proc/self/uid_map; touch /f; stat -c %u:%g /f /etc/hosts /dev/shm; ls /sys/class/net; ip link set lo mtu 9000; cat /sys/class/net/lo/mtu /proc/sys/net/ipv4/ping_group_range"
	expect(t, runtime, e.auto(t, "--rm", "--runtime", runtime, "--cap-add", "NET_ADMIN", "busybox", "sh", "-c", look), "0\n", "65536\n0:0\n0:0\n0:0\neth0\nlo\n9000\n0\t65535")
	expect(t, "tty", e.auto(t, "--rm", "-t", "--runtime", runtime, "busybox", "sh", "-c", "stat -c %u:%g /dev/console $(tty)"), "0:5\r\n0:5")
	e.auto(t, "-d", "--name", "mapped", "--runtime", runtime, "--ipc", "shareable", "busybox", "sh", "-c", asked)
	ids := e.output(t, "exec", "mapped", "sh", "-c", "cat /proc/self/uid_map; stat -L -c %i /proc/self/ns/user /proc/self/ns/net")
	for _, r := range []string{runtime, "tare"} { // both in its user namespace
		got := e.auto(t, "--rm", "--runtime", r, "--network", "container:mapped", "--ipc", "container:mapped", "busybox", "sh", "-c", "cat /proc/self/uid_map; stat -L -c %i /proc/self/ns/user /proc/self/ns/net")
		if got != ids {
			t.Errorf("%s joins %q, not %q", r, got, ids)
		}
	}
	expect(t, "exec", e.output(t, "exec", "-t", "-u", "33", "mapped", "sh", "-c", "id -u; tty"), "33\r\n/dev/pts/")
	e.kill(t)
	e.rise(t)
	e.output(t, "restart", "-t", "0", "mapped")
	e.shows(t, "inside", "exec", "mapped", "echo", "inside")
	e.output(t, "rm", "-f", "mapped")
	e.auto(t, "-d", "--name", "mapped", "busybox", "sleep", "1000")
	e.fails(t, "a container in the user namespace of another needs that one's network as well", "run", "--userns=auto", "--runtime", runtime, "--pid", "container:mapped", "busybox", "true")
	e.output(t, "rm", "-f", "mapped")
}
