//go:build root

package script

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// ownEtc puts a copy of /etc that takes changes over it, in the tests' mount
// namespace, with a user that has ranges of ids.
func ownEtc(t *testing.T) {
	t.Helper()
	dir := workdir(t)
	for _, d := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mount("overlay", "/etc", "overlay", 0, "lowerdir=/etc,upperdir="+dir+"/upper,workdir="+dir+"/work"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount("/etc", syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	for file, text := range map[string]string{
		"passwd": "sam:x:7654:7654::/:/bin/sh\nbare:x:7655:7655::/:/bin/sh\n", "group": "sam:x:7654:\nbare:x:7655:\n",
		"subuid": "sam:200000:65536\n", "subgid": "sam:300000:65536\n",
	} {
		b, err := os.ReadFile("/etc/" + file)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if err := os.WriteFile("/etc/"+file, append(b, text...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// remapped starts a tared on the directory dir.
func remapped(t *testing.T, dir string, args ...string) *engine {
	t.Helper()
	bin := programs(t)
	args = append([]string{"--data-root", dir + "/data", "--exec-root", dir + "/run", "--log-level", "warn"}, args...)
	e := start(t, &engine{socket: dir + "/engine.sock", bin: bin}, dir, filepath.Join(bin, "tared"), args...)
	e.docker = dockerCLI(t)
	return e
}

func expect(t *testing.T, what, got string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(got, want) {
			t.Errorf("%s: %q has no %q", what, got, want)
		}
	}
}

func (e *engine) fails(t *testing.T, want string, args ...string) {
	t.Helper()
	out, err := exec.Command(e.docker, append([]string{"-H", "unix://" + e.socket}, args...)...).CombinedOutput()
	if err == nil {
		t.Errorf("%v: succeeded", args)
	}
	expect(t, strings.Join(args, " "), string(out), want)
}

func TestRemap(t *testing.T) {
	ownEtc(t)
	dir := workdir(t)
	t.Cleanup(func() {
		out, err := exec.Command(filepath.Join(programs(t), "tared"), "--data-root", dir+"/data", "--exec-root", dir+"/run", "--uninstall").CombinedOutput()
		if err != nil {
			t.Errorf("uninstall: %v: %s", err, out)
		}
	})
	t.Run("mapped", func(t *testing.T) { testRemapped(t, remapped(t, dir, "--userns-remap", "sam")) })
	// The map is the container's, whatever the engine is told now.
	t.Run("kept", func(t *testing.T) {
		e := remapped(t, dir)
		expect(t, "exec", e.output(t, "exec", "kept", "sh", "-c", "cat /proc/self/uid_map; touch /more; stat -c %u /file /more"), "200000", "65536\n0\n0")
		e.output(t, "restart", "-t", "0", "kept")
		expect(t, "exec", e.output(t, "exec", "kept", "sh", "-c", "cat /proc/self/uid_map; stat -c %u /file /more"), "200000", "65536\n0\n0")
		expect(t, "without", e.output(t, "run", "--rm", "busybox", "cat", "/proc/self/uid_map"), "4294967295")
		e.output(t, "rm", "-f", "kept")
		testRanges(t, e)
	})
	t.Run("default", func(t *testing.T) {
		e := remapped(t, dir, "--userns-remap", "default")
		expect(t, "run", e.output(t, "run", "--rm", "busybox", "cat", "/proc/self/uid_map"), "65536")
		b, err := os.ReadFile("/etc/subuid")
		if err != nil {
			t.Fatal(err)
		}
		expect(t, "/etc/subuid", string(b), "dockremap:")
	})
}

func testRemapped(t *testing.T, e *engine) {
	e.load(t, "busybox.tar")
	expect(t, "info", e.output(t, "info", "--format", "{{.SecurityOptions}}"), "name=userns")
	maps := []string{"0     200000      65536", "0     300000      65536", "\n0:0\n0:0"}
	expect(t, "run", e.output(t, "run", "--rm", "busybox", "sh", "-c", "cat /proc/self/uid_map /proc/self/gid_map; stat -c %u:%g / /bin/busybox"), maps...)
	for what, want := range map[string]string{
		"--privileged":   "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode",
		"--network=host": "cannot share the host's network namespace when user namespaces are enabled",
		"--pid=host":     "cannot share the host PID namespace when user namespaces are enabled",
	} {
		e.fails(t, want, "run", what, "busybox", "true")
		expect(t, what, e.output(t, "run", "--rm", what, "--userns", "host", "busybox", "cat", "/proc/self/uid_map"), "4294967295")
	}
	e.output(t, "run", "--rm", "--ipc", "host", "busybox", "true")
	testRemappedJoins(t, e)
	e.auto(t, "-d", "--name", "own", "busybox", "sleep", "1000")
	id := e.output(t, "run", "-d", "--name", "kept", "busybox", "sh", "-c", "touch /file; sleep 1000")
	e.output(t, "exec", "kept", "sh", "-c", "while ! test -e /file; do sleep .1; done")
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(filepath.Dir(e.socket), "data", "containers", id, "rw", "file"), &st); err != nil || st.Uid != 200000 || st.Gid != 300000 {
		t.Errorf("the file on the host: %d:%d, %v", st.Uid, st.Gid, err)
	}
}

// testRemappedJoins: those with the same map join each other's namespaces. Who
// does is in the other's user namespace, so it cannot join two that have one each.
func testRemappedJoins(t *testing.T, e *engine) {
	look := func(name string) string {
		return e.output(t, "exec", name, "stat", "-L", "-c", "%i", "/proc/self/ns/user", "/proc/self/ns/net", "/proc/self/ns/ipc", "/proc/1/ns/pid")
	}
	e.output(t, "run", "-d", "--name", "donor", "--ipc", "shareable", "busybox", "sleep", "1000")
	e.output(t, "run", "-d", "--name", "other", "--ipc", "shareable", "busybox", "sleep", "1000")
	joins := []string{"--network", "container:donor", "--ipc", "container:donor", "--pid", "container:donor", "busybox", "sleep", "1000"}
	e.output(t, append([]string{"run", "-d", "--name", "joins"}, joins...)...)
	if got, want := look("joins"), look("donor"); got != want {
		t.Errorf("namespaces %q, not %q", got, want)
	}
	e.fails(t, "they are in different user namespaces", "run", "--network", "container:donor", "--ipc", "container:other", "busybox", "true")
	// One that joins can be joined, and both by a third.
	expect(t, "third", e.output(t, "run", "--rm", "--network", "container:donor", "--pid", "container:joins", "busybox", "sh", "-c", "ps; stat -c %u /proc/1/root"), "sleep 1000", "\n0")
	expect(t, "of the host's", e.output(t, "run", "--rm", "--userns", "host", "--network", "container:donor", "busybox", "cat", "/proc/self/uid_map"), "4294967295")
	e.kill(t)
	e.rise(t)
	e.output(t, "restart", "-t", "0", "donor", "joins")
	if got, want := look("joins"), look("donor"); got != want {
		t.Errorf("after an engine's death and restarts: namespaces %q, not %q", got, want)
	}
	e.output(t, "rm", "-f", "donor", "joins", "other")
}

// auto runs a container with a range of ids of its own; docker's command line
// refuses the word.
func (e *engine) auto(t *testing.T, args ...string) string {
	t.Helper()
	tare := *e
	tare.docker = filepath.Join(e.bin, "tare")
	return tare.output(t, append([]string{"run", "--userns=auto"}, args...)...)
}

// testRanges: the range of a container of an earlier engine is nobody else's
// until it is removed.
func testRanges(t *testing.T, e *engine) {
	own := e.output(t, "exec", "own", "cat", "/proc/self/uid_map")
	if other := e.auto(t, "--rm", "busybox", "cat", "/proc/self/uid_map"); other == own {
		t.Errorf("two containers have the ids %q", own)
	}
	e.output(t, "rm", "-f", "own")
	if next := e.auto(t, "--rm", "busybox", "cat", "/proc/self/uid_map"); next != own {
		t.Errorf("a new container has the ids %q, not the free %q", next, own)
	}
}

func TestRemapRefused(t *testing.T) {
	ownEtc(t)
	bin, dir := programs(t), workdir(t)
	for value, want := range map[string]string{
		"nosuch":    `Error during uid lookup for "nosuch": no matching entries in passwd file`,
		"bare":      `Can't create ID mappings: no subuid ranges found for user "bare" in /etc/subuid`,
		"sam:x":     `Error during groupname lookup for "x": no matching entries in group file`,
		"sam":       "overlayfs on id-mapped layers needs kernel 5.19",
		"1:2:3":     `Invalid user/group specification in --userns-remap: "1:2:3"`,
		"987654321": "Uid 987654321 has no entry in /etc/passwd",
	} {
		cmd := exec.Command(filepath.Join(bin, "tared"), "--data-root", dir+"/data", "--exec-root", dir+"/run", "-H", "unix://"+dir+"/s", "--userns-remap", value)
		cmd.Env = append(os.Environ(), "TARE_PROBE=5.10")
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Errorf("%s: started", value)
		}
		expect(t, value, strings.ReplaceAll(string(out), `\"`, `"`), want)
	}
	if out, err := exec.Command(filepath.Join(bin, "tared"), "--data-root", dir+"/data", "--exec-root", dir+"/run", "--uninstall").CombinedOutput(); err != nil {
		t.Errorf("uninstall: %v: %s", err, out)
	}
}
