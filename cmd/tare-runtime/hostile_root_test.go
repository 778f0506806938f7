//go:build root

package main

import (
	"bufio"
	"crypto/sha256"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
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

// Row 7 (CVE-2021-30465): one container swaps a directory that it shares with
// others for a link out of it while the runtime mounts there for them.
func TestMountPointsThatAreSwapped(t *testing.T) {
	l := newLab(t)
	l.withProbe()
	shared, outside := filepath.Join(l.dir, "shared"), filepath.Join(l.dir, "outside")
	for _, d := range []string{shared + "/a/b", outside} {
		if err := os.MkdirAll(d, 0777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../../../../../../.."+outside, shared+"/c"); err != nil {
		t.Fatal(err)
	}
	share := func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/m", Type: "bind", Source: shared, Options: []string{"bind", "rw"}})
	}
	if err := l.create("swapper", l.bundle("swapper", share, "probe", "swap", "/m/a", "/m/c")); err != nil {
		t.Fatal(err)
	}
	l.must("start", "swapper")
	for range 40 {
		_, _ = l.run("run", "--bundle", l.bundle("v", func(s *specs.Spec) { // refused or harmless
			share(s)
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/m/a/b", Type: "tmpfs", Source: "tmpfs"})
			s.Process.Cwd = "/m/a/new"
		}, "true"), "v")
		if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
			t.Fatalf("outside: %v %v", entries, err)
		}
		l.gone("v")
	}
	if s := l.state("swapper"); s.Status != "running" {
		t.Errorf("the swapper is %s", s.Status)
	}
}

// Row 9 (CVE-2016-9962): a container that may trace looks at all that appears in it
// while others are started there.
func TestExecShowsNothingOfTheRuntime(t *testing.T) {
	l := newLab(t)
	l.withProbe()
	watch := l.command("run", "--bundle", l.bundle("watcher", func(s *specs.Spec) {
		for _, set := range []*[]string{&s.Process.Capabilities.Bounding, &s.Process.Capabilities.Effective, &s.Process.Capabilities.Permitted} {
			*set = append(*set, "CAP_SYS_PTRACE")
		}
	}, "probe", "watch"), "watcher")
	stdin, err := watch.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := watch.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if first, err := lines.ReadString('\n'); err != nil || first != "watching\n" {
		t.Fatalf("%q %v", first, err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				if out, err := l.run("exec", "--cap", "CAP_SYS_PTRACE", "watcher", "true"); err != nil {
					t.Errorf("%v %s", err, out)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := stdin.Close(); err != nil {
		t.Error(err)
	}
	rest, err := io.ReadAll(lines)
	if said := string(rest); err != nil || strings.Contains(said, "HOLE") || !strings.Contains(said, "watched ") || strings.Contains(said, "watched 0 ") {
		t.Errorf("%v %s", err, said)
	}
	if err := watch.Wait(); err != nil {
		t.Error(err)
	}
}

// Row 22: each container has a session keyring of its own, which is not ours.
func TestKeyringsOfABundle(t *testing.T) {
	l := newLab(t)
	l.withProbe()
	keyring := func(id string) string {
		_, rest, _ := strings.Cut(l.sh(id, nil, "probe facts"), "keyring=")
		serial, _, _ := strings.Cut(rest, "\n")
		if n, err := strconv.Atoi(strings.Fields(serial + " -")[0]); err != nil || n <= 0 {
			t.Fatalf("keyring %q", serial)
		}
		return serial
	}
	if a, b := keyring("a"), keyring("b"); a == b {
		t.Errorf("two containers have the session keyring %s", a)
	}
}

// Row 24 (CVE-2022-1227, CVE-2024-5154): nothing of the image runs, and no file of
// its is read, when a container's processes are listed.
func TestListingRunsNothingOfTheImage(t *testing.T) {
	l := newLab(t)
	outside := filepath.Join(l.dir, "outside")
	for _, name := range []string{"ps", "nsenter"} {
		if err := os.WriteFile(l.rootfs+"/bin/"+name, []byte("#!/bin/sh\ntouch /tmp/ran\n"), 0755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"passwd", "mtab", "group"} {
		if err := os.Symlink(outside, l.rootfs+"/etc/"+name); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(outside, 0600); err != nil { // who opens it waits for ever
		t.Fatal(err)
	}
	if err := l.create("e", l.bundle("e", nil, "sleep", "1000")); err != nil {
		t.Fatal(err)
	}
	l.must("start", "e")
	if out := l.must("ps", "e"); !strings.Contains(out, "sleep") {
		t.Errorf("ps: %s", out)
	}
	for _, args := range [][]string{{"state", "e"}, {"list"}, {"events", "--stats", "e"}} {
		l.must(args...)
	}
	if _, err := os.Lstat(l.rootfs + "/tmp/ran"); err == nil {
		t.Error("a program of the image ran")
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

// Row 10 (CVE-2021-43784): lengths that are too much are refused, and leave nothing.
func TestLongArgumentsOfABundle(t *testing.T) {
	l := newLab(t)
	long := strings.Repeat("x", 100_000)
	for n, good := range map[int]bool{10: true, 60: false} {
		out, err := l.run("run", "--bundle", l.bundle("n", nil, append([]string{"true"}, slices.Repeat([]string{long}, n)...)...), "n")
		if err == nil != good {
			t.Errorf("%d arguments of 100,000 bytes: %v %.300s", n, err, out)
		}
		l.gone("n")
	}
}

// Row 14 (CVE-2020-15257): beside the host's abstract sockets there are none that a
// container could reach.
func TestNoAbstractSocketsOfOurs(t *testing.T) {
	l := newLab(t)
	const canary = "@tare-runtime-canary"
	listener, err := net.Listen("unix", canary)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	names := func(text string) (list []string) {
		for _, f := range strings.Fields(text) {
			if strings.HasPrefix(f, "@") {
				list = append(list, f)
			}
		}
		slices.Sort(list)
		return slices.Compact(list)
	}
	host := func(s *specs.Spec) {
		s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
	}
	before, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	inside := names(l.sh("h", host, "cat /proc/net/unix"))
	if !slices.Contains(inside, canary) { // or the test would see nothing
		t.Errorf("no %s in %q", canary, inside)
	}
	for _, n := range inside {
		if !slices.Contains(names(string(before)), n) {
			t.Errorf("a socket of the runtime: %s", n)
		}
	}
	if own := names(l.sh("o", nil, "cat /proc/net/unix")); len(own) > 0 {
		t.Errorf("in a network of its own: %q", own)
	}
}

// Rows 16 and 17 (CVE-2024-40635, CVE-2022-36109): ids do not wrap, and a process has
// the groups that the bundle says.
func TestIdsOfABundle(t *testing.T) {
	l := newLab(t)
	for what, change := range map[string]func(*specs.Spec){
		"user":  func(s *specs.Spec) { s.Process.User.UID = math.MaxUint32 },
		"group": func(s *specs.Spec) { s.Process.User.GID = math.MaxUint32 },
		"other": func(s *specs.Spec) { s.Process.User.AdditionalGids = []uint32{math.MaxUint32} },
	} {
		if out, err := l.run("run", "--bundle", l.bundle("i", change, "id"), "i"); err == nil {
			t.Errorf("a %s of 2^32-1: %s", what, out)
		}
		l.gone("i")
	}
	dir := l.bundle("i", func(s *specs.Spec) { s.Process.User.UID = 7777 }, "id")
	config, err := os.ReadFile(dir + "/config.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"4294967296", "-1", "1e10"} {
		if err := os.WriteFile(dir+"/config.json", []byte(strings.Replace(string(config), "7777", id, 1)), 0600); err != nil {
			t.Fatal(err)
		}
		if out, err := l.run("run", "--bundle", dir, "i"); err == nil {
			t.Errorf("uid %s: %s", id, out)
		}
		l.gone("i")
	}
	if err := l.create("e", l.bundle("e", nil, "sleep", "1000")); err != nil {
		t.Fatal(err)
	}
	l.must("start", "e")
	for _, user := range []string{"4294967295", "0:4294967295", "4294967296", "-1"} {
		if out, err := l.run("exec", "--user", user, "e", "id"); err == nil {
			t.Errorf("exec as %s: %s", user, out)
		}
	}
	if out := l.sh("i", func(s *specs.Spec) { s.Process.User.UID, s.Process.User.AdditionalGids = 1000, []uint32{10, 20} }, "id -G"); strings.TrimSpace(out) != "0 10 20" {
		t.Errorf("groups %q", out)
	}
	if out := l.sh("i", func(s *specs.Spec) { s.Process.User.UID, s.Process.User.GID = 1000, 1000 }, "id -u; id -G"); out != "1000\n1000\n" && out != "1000\n1000" {
		t.Errorf("user and groups %q", out)
	}
}

// Rows 20 and 21: what the bundle masks, sets read-only and filters.
func TestMasksAndFiltersOfABundle(t *testing.T) {
	l := newLab(t)
	restrict := func(s *specs.Spec) {
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = []string{"/proc/interrupts", "/sys/firmware", "/proc/nosuch"}, []string{"/proc/sys"}
		no := uint(1)
		s.Linux.Seccomp = &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86_64},
			Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno, ErrnoRet: &no}},
		}
	}
	script := `wc -c </proc/interrupts; ls /sys/firmware | wc -l; mkdir /tmp/made 2>&1; echo 1 >/proc/sys/kernel/shmmax; true`
	out := l.sh("r", restrict, script)
	for _, want := range []string{"0\n0\n", "Operation not permitted", "Read-only file system"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if free := l.sh("r", func(s *specs.Spec) { s.Linux.MaskedPaths, s.Linux.ReadonlyPaths, s.Linux.Seccomp = nil, nil, nil }, script); strings.HasPrefix(free, "0\n") || strings.Contains(free, "not permitted") {
		t.Errorf("without them: %s", free)
	}
}

// Row 25 (CVE-2026-55686): a working directory that is to be made, behind a link.
func TestWorkingDirectoryBehindALink(t *testing.T) {
	l := newLab(t)
	outside := filepath.Join(l.dir, "outside")
	if err := os.Mkdir(outside, 0755); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"w": outside, "v": "../../../../../.." + outside, "u": "/proc/self/root" + outside} {
		if err := os.Symlink(to, l.rootfs+"/"+name); err != nil {
			t.Fatal(err)
		}
		_, _ = l.run("run", "--bundle", l.bundle("c", func(s *specs.Spec) { s.Process.Cwd = "/" + name + "/made" }, "true"), "c") // refused or harmless
		if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
			t.Errorf("through %s: %v %v", to, left, err)
		}
		l.gone("c")
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
		"container process: error mounting": func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/m", Type: "bind", Source: "/nosuch", Options: []string{"bind"}})
		},
		"selinux label is specified": func(s *specs.Spec) { s.Process.SelinuxLabel = "x" },
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
