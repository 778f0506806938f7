//go:build root

package main

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Row 1 of the attack list (CVE-2019-5736): an image whose program is
// /proc/self/exe, as such, by a link or as an interpreter.
func TestProgramOfTheRuntimeIsOutOfReach(t *testing.T) {
	l := newLab(t)
	before := sum(t, program)
	if err := os.Symlink("/proc/self/exe", l.rootfs+"/bin/self"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.rootfs+"/bin/script", []byte("#!/proc/self/exe\n"), 0755); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"/proc/self/exe", "/bin/self", "/bin/script", "/proc/1/exe"} {
		out, err := l.run("run", "--bundle", l.bundle("e", nil, p), "e")
		if err == nil || strings.Contains(out, "COMMANDS") || !strings.Contains(out, "exec format error") {
			t.Errorf("%s: %v %s", p, err, out)
		}
		l.gone("e")
	}
	b := l.bundle("e", nil, "sleep", "1000")
	if err := l.create("e", b); err != nil {
		t.Fatal(err)
	}
	s := l.state("e")
	exe, err := os.Readlink("/proc/" + strconv.Itoa(s.Pid) + "/exe")
	if err != nil || strings.Contains(exe, "tare-runtime") {
		t.Errorf("a created container's executable is %q %v", exe, err)
	}
	l.must("start", "e")
	l.fails("exec format error", "exec", "e", "/proc/self/exe")
	if sum(t, program) != before {
		t.Fatal("the program changed")
	}
}

func sum(t *testing.T, name string) [sha256.Size]byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(b)
}

// Row 2 (CVE-2024-21626): a working directory that is a leaked descriptor.
func TestWorkingDirectoryIsNoDescriptor(t *testing.T) {
	l := newLab(t)
	for n := 3; n <= 24; n++ {
		for _, cwd := range []string{"/proc/self/fd/" + strconv.Itoa(n), "/proc/self/fd/" + strconv.Itoa(n) + "/../.."} {
			out, err := l.run("run", "--bundle", l.bundle("w", func(s *specs.Spec) { s.Process.Cwd = cwd }, "sh", "-c", "pwd -P; ls"), "w")
			if err == nil {
				t.Fatalf("%s: %s", cwd, out)
			}
		}
	}
	if err := l.create("w", l.bundle("w", nil, "sleep", "1000")); err != nil {
		t.Fatal(err)
	}
	l.must("start", "w")
	for n := 3; n <= 12; n++ {
		if out, err := l.run("exec", "--cwd", "/proc/self/fd/"+strconv.Itoa(n), "w", "ls"); err == nil {
			t.Fatalf("exec in %d: %s", n, out)
		}
	}
}

// Rows 3 to 8: the image has links where the runtime mounts and makes files.
func TestLinksOfTheImageLeadNowhere(t *testing.T) {
	for name, target := range map[string]string{"dev": "/outside", "proc": "/outside", "sys": "/tmp", "m": "/outside", "dev/null": "/outside/null", "dev/console": "/outside/console"} {
		l := newLab(t)
		outside := filepath.Join(l.dir, "outside")
		if err := os.Mkdir(outside, 0755); err != nil {
			t.Fatal(err)
		}
		// The link names a place that exists on the host, not in the root.
		link := strings.Replace(target, "/outside", outside, 1)
		p := filepath.Join(l.rootfs, name)
		_ = os.RemoveAll(p)
		if err := os.MkdirAll(filepath.Dir(p), 0755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(link, p); err != nil {
			t.Fatal(err)
		}
		b := l.bundle("a", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/m/x", Type: "tmpfs", Source: "tmpfs"})
			s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/etc")
		}, "true")
		_, _ = l.run("run", "--bundle", b, "a") // refused or harmless
		entries, err := os.ReadDir(outside)
		if err != nil || len(entries) > 0 {
			t.Errorf("%s -> %s: %v %v", name, target, entries, err)
		}
		l.gone("a")
	}
}

// Row 6 (CVE-2026-41579): nodes of a bundle whose /dev is a link.
func TestDevicesAreNotMadeOnTheHost(t *testing.T) {
	l := newLab(t)
	canary := filepath.Join(l.dir, "canary")
	if err := os.Mkdir(canary, 0755); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(l.rootfs + "/dev"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(canary, l.rootfs+"/dev"); err != nil {
		t.Fatal(err)
	}
	b := l.bundle("d", func(s *specs.Spec) {
		s.Mounts = s.Mounts[:1] // no /dev of its own
		s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/evil", Type: "b", Major: 254, Minor: 0}}
	}, "true")
	_, _ = l.run("run", "--bundle", b, "d")
	if entries, err := os.ReadDir(canary); err != nil || len(entries) > 0 {
		t.Errorf("%v %v", entries, err)
	}
}

// Rows 11, 12, 13, 17, 19, 22: what a process in a plain bundle has and may.
func TestRightsOfAPlainBundle(t *testing.T) {
	l := newLab(t)
	out := l.sh("p", nil, `grep CapInh /proc/self/status; id -G; mknod /tmp/disk b 254 0; cat /tmp/disk; echo x >/proc/sys/kernel/core_pattern; ls /proc/kcore /sys/firmware; mount -t tmpfs x /m; true`)
	for _, want := range []string{"CapInh:\t0000000000000000"} {
		if !strings.Contains(out, want) {
			t.Errorf("got %s", out)
		}
	}
	for _, line := range []string{"mknod: /tmp/disk: Operation not permitted", "can't create /proc/sys/kernel/core_pattern: Read-only file system", "mount: permission denied"} {
		if !strings.Contains(out, line) {
			t.Errorf("no %q in\n%s", line, out)
		}
	}
	for key, value := range map[string]string{"kernel.core_pattern": "|/x", "net/../kernel.core_pattern": "x", "kernel.shmmax": "1\n2"} {
		err := l.create("p", l.bundle("p", func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{key: value} }, "true"))
		if err == nil || !strings.Contains(err.Error(), "sysctl") {
			t.Errorf("%s: %v", key, err)
		}
		l.gone("p")
	}
}

// Malformed bundles and names are refused, and leave nothing.
func TestMalformedBundles(t *testing.T) {
	l := newLab(t)
	for text, change := range map[string]func(*specs.Spec){
		"unsupported spec version":           func(s *specs.Spec) { s.Version = "2.0.0" },
		"Cwd must be an absolute path":       func(s *specs.Spec) { s.Process.Cwd = "tmp" },
		"args must not be empty":             func(s *specs.Spec) { s.Process.Args = nil },
		"process property must not be empty": func(s *specs.Spec) { s.Process = nil },
		"invalid rootfs":                     func(s *specs.Spec) { s.Root.Path = "nosuch" },
		"root must be specified":             func(s *specs.Spec) { s.Root = nil },
		"private UTS namespace":              func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[:3] },
		"cannot be mounted because":          func(s *specs.Spec) { s.Mounts[0].Type = "tmpfs" },
		"unknown type":                       func(s *specs.Spec) { s.Process.Rlimits[0].Type = "RLIMIT_NOSUCH" },
		"is there twice":                     func(s *specs.Spec) { s.Linux.Namespaces = append(s.Linux.Namespaces, s.Linux.Namespaces[0]) },
		"is not a namespace":                 func(s *specs.Spec) { s.Linux.Namespaces[1].Path = "/etc/passwd" },
		"NUL byte":                           func(s *specs.Spec) { s.Process.Env = []string{"A=\x00"} },
		"need a user namespace":              func(s *specs.Spec) { s.Linux.UIDMappings = []specs.LinuxIDMapping{{Size: 1}} },
		"no such network device":             func(s *specs.Spec) { s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"nosuch": {}} },
		"invalid cgroup path":                func(s *specs.Spec) { s.Linux.CgroupsPath = "/a\nb" },
		"default action":                     func(s *specs.Spec) { s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActNotify} },
		"selinux label is specified":         func(s *specs.Spec) { s.Process.SelinuxLabel = "x" },
	} {
		err := l.create("x", l.bundle("x", change, "true"))
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
		l.gone("x")
	}
	for _, id := range []string{"..", ".", "a/b", "../x", "", "a b", strings.Repeat("x", 2000)} {
		l.fails("invalid container ID format", "state", id)
		l.fails("invalid container ID format", "delete", "--force", id)
	}
}
