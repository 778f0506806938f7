//go:build root

package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/mount"
)

// expect runs the spec and compares what it prints.
func (l *lab) expect(dir string, s *specs.Spec, want string) {
	l.t.Helper()
	r := l.run(dir, s)
	if r.err != nil {
		l.t.Fatal(r.err)
	}
	if r.out != want {
		l.t.Errorf("got\n%s\nwant\n%s", r.out, want)
	}
}

func TestDefaultContainer(t *testing.T) {
	l := newLab(t)
	dir := rootDir(t)
	s := sh(t, `echo $$ $(hostname) $(id -u):$(id -g):$(id -G | sed 's/ /,/g') $(pwd)
grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | while read k v; do echo $k $v; done
echo $(ls /proc/self/fd) $(ulimit -Sn) $(ulimit -Hn) $(umask) $(cat /proc/self/oom_score_adj)
echo $(ls /dev)
echo $(ls /dev/pts /dev/shm /dev/mqueue)
echo $(ls -A /) $(ls /sys/fs/cgroup)
ip -o addr show lo | grep -c 127.0.0.1
env | grep PATH
exit 7`)
	os.Symlink("busybox", dir+"/bin/sed")
	r := l.run(dir, s)
	if r.err != nil {
		t.Fatal(r.err)
	}
	groups := l.cgroupNames()
	want := `1 box 0:0:0,10 /
CapInh: 0000000000000000
CapPrm: 00000000a80425fb
CapEff: 00000000a80425fb
CapBnd: 00000000a80425fb
CapAmb: 0000000000000000
NoNewPrivs: 0
Seccomp: 2
0 1 2 3 1024 4096 0022 0
full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero`
	want = strings.Replace(want, "full mqueue", "fd full mqueue", 1)
	if _, err := os.Lstat("/proc/kcore"); err == nil {
		want = strings.Replace(want, "fd full", "core fd full", 1)
	}
	want += "\n/dev/mqueue: /dev/pts: ptmx /dev/shm:\nbin dev etc proc run sys tmp " + strings.Join(groups, " ") + "\n1\nPATH=/bin\n"
	got := strings.Split(r.out, "\n")
	for i, w := range strings.Split(want, "\n") {
		if i >= len(got) || got[i] != w {
			t.Errorf("line %d: want %q in\n%s", i, w, r.out)
			break
		}
	}
	if r.status.ExitStatus() != 7 {
		t.Errorf("status %v", r.status)
	}
}

func TestMasksAndReadOnlyPaths(t *testing.T) {
	l := newLab(t)
	dir := rootDir(t)
	s := sh(t, `wc -c < /proc/interrupts; wc -c < /proc/keys; ls /sys/firmware | wc -l
for f in /proc/sys/kernel/hostname /proc/irq/x /sys/x /sys/fs/cgroup/x `+l.cgroupPath("pids")+`/pids.max `+l.cgroupPath("memory")+`/cgroup.procs; do echo 1 > $f; done 2>&1 | grep -cE 'Read-only|nonexistent|Permission'
mount -t tmpfs x /tmp 2>&1 | grep -c denied
mknod /tmp/disk b 254 0 && dd if=/tmp/disk of=/dev/null count=1 2>&1 | head -1`)
	r := l.run(dir, s)
	if r.err != nil {
		t.Fatal(r.err)
	}
	if !strings.HasPrefix(r.out, "0\n0\n0\n6\n1\n") {
		t.Error(r.out)
	}
}

// TestPlacesOfHierarchiesAreShared by those who cannot change them, and by nobody
// else (version 1 of control groups).
func TestPlacesOfHierarchiesAreShared(t *testing.T) {
	if unified() || mount.Legacy() || !mount.TakesMountsDetached() {
		return // there are none, or they are each container's own
	}
	l := newLab(t)
	look := func(change func(*specs.Spec)) string {
		s := sh(t, "stat -c %d /sys/fs/cgroup; mkdir /sys/fs/cgroup/made 2>/dev/null && echo made; mount -o remount,rw /sys/fs/cgroup 2>/dev/null && echo writable; ls /sys/fs/cgroup >/dev/null")
		change(s)
		r := l.run(rootDir(t), s)
		if r.err != nil {
			t.Fatal(r.err)
		}
		return r.out
	}
	plain := func(*specs.Spec) {}
	admin := func(s *specs.Spec) {
		for _, set := range []*[]string{&s.Process.Capabilities.Bounding, &s.Process.Capabilities.Effective, &s.Process.Capabilities.Permitted} {
			*set = append(*set, "CAP_SYS_ADMIN")
		}
		s.Linux.Seccomp = nil
	}
	first, second, other := look(plain), look(plain), look(admin)
	if first != second || strings.Count(first, "\n") != 1 {
		t.Errorf("devices %q and %q", first, second)
	}
	if !strings.HasSuffix(other, "\nwritable\n") || strings.HasPrefix(other, first) {
		t.Errorf("with CAP_SYS_ADMIN %q beside %q", other, first)
	}
}

func TestReadOnlyRootAndLimits(t *testing.T) {
	l := newLab(t)
	dir := rootDir(t)
	s := sh(t, `touch /x 2>&1 | grep -c Read-only; touch /run/y && echo ok; cat /proc/sys/kernel/shmmax; umask; cat /proc/self/oom_score_adj; grep NoNewPrivs /proc/self/status; cat /proc/sys/net/ipv4/ip_forward`)
	umask, oom := uint32(077), 500
	s.Root.Readonly = true
	s.Process.User.Umask, s.Process.OOMScoreAdj, s.Process.NoNewPrivileges = &umask, &oom, true
	s.Linux.Sysctl = map[string]string{"kernel.shmmax": "4096", "net.ipv4.ip_forward": "1"}
	s.Mounts = append(s.Mounts, specs.Mount{Destination: "/run", Type: "tmpfs", Source: "tmpfs", Options: []string{"size=1m"}})
	l.expect(dir, s, "1\nok\n4096\n0077\n500\nNoNewPrivs:\t1\n1\n")
}

func TestBinds(t *testing.T) {
	l := newLab(t)
	dir := rootDir(t)
	host := t.TempDir()
	os.MkdirAll(host+"/d/inner", 0755)
	os.WriteFile(host+"/f", []byte("file\n"), 0644)
	os.Symlink("/run", dir+"/var")
	bind := func(src, dst string, opts ...string) specs.Mount {
		return specs.Mount{Destination: dst, Source: src, Type: "bind", Options: append([]string{"rbind", "rprivate"}, opts...)}
	}
	s := sh(t, `touch /data/made; touch /ro/x 2>&1 | grep -c Read-only; cat /etc/new /var/link/f /data/inner/f /scratch/deep/f; ls -ld /scratch | cut -c1-10; echo > /dev/mine && echo dev; cat /scratch/list/f`)
	os.Symlink("busybox", dir+"/bin/cut")
	s.Mounts = append(s.Mounts,
		bind(host+"/d", "/data"), bind(host+"/d", "/ro", "ro"), bind(host+"/f", "/etc/new"),
		bind(host, "/var/link"), // through a link of the image
		bind(host+"/f", "/data/inner/f"),
		specs.Mount{Destination: "/scratch", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=1777", "ro"}},
		bind(host+"/f", "/scratch/deep/f"), bind(host, "/scratch/list"), bind("/dev/null", "/dev/mine"))
	l.expect(dir, s, "1\nfile\nfile\nfile\nfile\ndrwxrwxrwt\ndev\nfile\n")
	if _, err := os.Stat(host + "/d/made"); err != nil {
		t.Error("a bind is not writable:", err)
	}
	if _, err := os.Stat(host + "/d/inner/f"); err != nil {
		t.Error("a mount point inside a bind is made in its source:", err)
	}
	if _, err := os.Stat(dir + "/run/link"); err != nil {
		t.Error("the mount point goes where the link leads:", err)
	}
}

// TestBindOverALink: the link is covered, what it leads to is not touched.
func TestBindOverALink(t *testing.T) {
	l := newLab(t)
	dir := rootDir(t)
	host := t.TempDir()
	os.WriteFile(host+"/f", []byte("bound\n"), 0o644)
	os.WriteFile(dir+"/etc/target", []byte("target\n"), 0o644)
	os.Symlink("target", dir+"/etc/link")
	os.Symlink("/etc/nosuch", dir+"/etc/dangling")
	os.Symlink("../etc", dir+"/var")
	s := sh(t, `cat /etc/link /etc/target /etc/dangling /etc/new; ls /etc/nosuch 2>/dev/null || echo not made; echo x 2>/dev/null >/etc/link || echo read-only`)
	for _, at := range []string{"/etc/link", "/var/dangling", "/etc/new"} {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: at, Source: host + "/f", Type: "bind", Options: []string{"rbind", "ro", "dest-nofollow"}})
	}
	l.expect(dir, s, "bound\ntarget\nbound\nbound\nnot made\nread-only\n")
}

func TestPrivileged(t *testing.T) {
	l := newLab(t)
	dir := rootDir(t)
	s := sh(t, `grep -E '^(CapEff|Seccomp:)' /proc/self/status; for f in /dev/snd/timer /dev/fuse; do ls -l $f; done | while read m a b c d e; do echo $m $d; done; mount -t tmpfs x /tmp && echo mounted; mkdir `+l.cgroupPath("pids")+`/sub && echo sub`)
	all := capNames()
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
	s.Linux.Seccomp, s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil, nil
	mode := os.FileMode(0640)
	s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/snd/timer", Type: "c", Major: 116, Minor: 33, FileMode: &mode}, {Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}, {Path: "/extra/null", Type: "c", Major: 1, Minor: 3}}
	for i, m := range s.Mounts {
		s.Mounts[i].Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "ro" })
	}
	r := l.run(dir, s)
	for _, c := range l.cgroups {
		if unified() || hierarchyOf(c) == "pids" {
			defer removeCgroup(t, filepath.Dir(c)+"/sub")
		}
	}
	if r.err != nil {
		t.Fatal(r.err)
	}
	cap := strings.TrimSpace(strings.TrimPrefix(grep(t, "/proc/self/status", "CapBnd:"), "CapBnd:"))
	want := fmt.Sprintf("CapEff:\t%s\nSeccomp:\t0\ncrw-r----- 116,\ncrw-rw-rw- 10,\nmounted\nsub\n", cap)
	if r.out != want {
		t.Errorf("got %q\nwant %q", r.out, want)
	}
	if _, err := os.Lstat(dir + "/extra/null"); err != nil {
		t.Error(err)
	}
}

func grep(t *testing.T, file, prefix string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, prefix) {
			return line
		}
	}
	t.Fatal("no", prefix, "in", file)
	return ""
}

func TestNamespacesOfOthers(t *testing.T) {
	l := newLab(t)
	dir := rootDir(t)
	r, _ := l.sleeper(dir, nil)
	path := func(ns string) string { return fmt.Sprintf("/proc/%d/ns/%s", r.pid, ns) }
	s := sh(t, `hostname; cat /proc/1/cmdline; echo; for n in net ipc pid; do readlink /proc/self/ns/$n; done; ls /proc/self/fd; exit 3`)
	s.Hostname = ""
	s.Linux.Namespaces = []specs.LinuxNamespace{{Type: "mount"}, {Type: "network", Path: path("net")}, {Type: "uts", Path: path("uts")}, {Type: "pid", Path: path("pid")}, {Type: "ipc", Path: path("ipc")}}
	got := l.run(dir, s)
	if got.err != nil {
		t.Fatal(got.err)
	}
	var links []string
	for _, ns := range []string{"net", "ipc", "pid"} {
		to, err := os.Readlink(path(ns))
		if err != nil {
			t.Fatal(err)
		}
		links = append(links, to)
	}
	want := "box\nsleep\x001000\x00\n" + strings.Join(links, "\n") + "\n0\n1\n2\n3\n"
	if got.out != want || got.status.ExitStatus() != 3 {
		t.Errorf("%q, want %q; %v", got.out, want, got.status)
	}
	s.Linux.Namespaces[1].Path = path("uts")
	if got := l.run(dir, s); got.err == nil || !strings.Contains(got.err.Error(), "another type") {
		t.Error(got.err)
	}
}

func TestHostNamespaces(t *testing.T) {
	l := newLab(t)
	dir := rootDir(t)
	s := sh(t, `for n in net ipc pid uts; do readlink /proc/self/ns/$n; done; ls -d /proc/$$ >/dev/null && echo ok`)
	s.Hostname = ""
	s.Linux.Namespaces = []specs.LinuxNamespace{{Type: "mount"}}
	var want string
	for _, ns := range []string{"net", "ipc", "pid", "uts"} {
		to, _ := os.Readlink("/proc/self/ns/" + ns)
		want += to + "\n"
	}
	l.expect(dir, s, want+"ok\n")
}

func TestTerminal(t *testing.T) {
	l := newLab(t)
	dir := rootDir(t)
	for _, uid := range []uint32{0, 1000} {
		s := sh(t, `tty; stty size; ls -ln /dev/console /dev/pts/0 | grep -c " $(id -u) "; echo c > /dev/console; echo t > /dev/tty; echo $(ls /proc/self/fd); read x; echo got $x; exit 4`)
		s.Process.Terminal = true
		s.Process.User = specs.User{UID: uid, GID: uid}
		r, err := l.start(Config{ID: "t", Spec: s, Root: cloneRoot(t, dir), CgroupProcs: l.cgroups, Rows: 40, Cols: 100})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(r.master, "in\n")
		var out strings.Builder
		b := make([]byte, 1024)
		for {
			n, err := r.master.Read(b)
			out.Write(b[:n])
			if err != nil {
				break
			}
		}
		ws := reap(r.pid)
		r.master.Close()
		r.out.Close()
		got := strings.ReplaceAll(strings.ReplaceAll(out.String(), "\r", ""), "in\n", "")
		want := "/dev/pts/0\n40 100\n2\nc\nt\n0 1 2 3\ngot in\n"
		if strings.ReplaceAll(want, "in\n", "") != got || ws.ExitStatus() != 4 {
			t.Errorf("uid %d: %q, want %q; %v", uid, got, want, ws)
		}
	}
}

func TestStartTellsWhatIsWrong(t *testing.T) {
	l := newLab(t)
	dir := rootDir(t)
	for name, mode := range map[string]os.FileMode{"plain": 0644, "bad": 0755, "script": 0755} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(map[string]string{"plain": "x", "bad": "\x01\x02", "script": "#!/no/interp\n"}[name]), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, arg string
		change    func(*specs.Spec)
		code      int
		text      string
	}{
		{"missing", "nosuch", nil, 127, createFailed + `exec: "nosuch": executable file not found in $PATH`},
		{"missing path", "/no/such", nil, 127, createFailed + `exec: "/no/such": stat /no/such: no such file or directory`},
		{"directory", "/etc", nil, 126, createFailed + `exec: "/etc": is a directory`},
		{"not executable", "/plain", nil, 126, createFailed + `exec: "/plain": permission denied`},
		{"no format", "/bad", nil, 126, createFailed + `exec /bad: exec format error`},
		{"no interpreter", "/script", nil, 127, createFailed + `exec /script: no such file or directory`},
		{"cwd is a file", "true", func(s *specs.Spec) { s.Process.Cwd = "/plain" }, 126, createFailed + `chdir to cwd ("/plain") set in config.json failed: not a directory`},
		{"bind of nothing", "true", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Source: "/no/such", Type: "bind", Options: []string{"rbind"}})
		}, 127, `no such file or directory`},
		{"file on directory", "true", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/etc", Source: "/etc/passwd", Type: "bind", Options: []string{"rbind"}})
		}, 127, typeHint},
		{"unknown rlimit", "true", func(s *specs.Spec) { s.Process.Rlimits[0].Type = "RLIMIT_NO" }, 0, `process.rlimits: unknown type "RLIMIT_NO"`},
		{"limit too high", "true", func(s *specs.Spec) { s.Process.Rlimits[0].Hard = 1 << 40 }, 128, "error setting rlimit type RLIMIT_NOFILE"},
		{"tmpfs option", "true", func(s *specs.Spec) { s.Mounts[6].Options = []string{"size=nonsense"} }, 128, `error mounting "shm" to rootfs at "/dev/shm": invalid argument`},
	} {
		s := dockerSpec(t, c.arg)
		if c.change != nil {
			c.change(s)
		}
		got := l.run(dir, s)
		if got.err == nil || !strings.Contains(got.err.Error(), c.text) || codeOf(got.err) != c.code {
			t.Errorf("%s: %d %v", c.name, codeOf(got.err), got.err)
		}
	}
}

func TestStartLeavesNothingBehind(t *testing.T) {
	l := newLab(t)
	dir := rootDir(t)
	count := func() int {
		e, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(e)
	}
	l.run(dir, sh(t, "true"))
	fds, mounts := count(), grepCount(t)
	for i := range 20 {
		s := sh(t, "true")
		if i%2 == 1 {
			s.Process.Args = []string{"nosuch"}
		}
		l.run(dir, s)
	}
	// The roots are closed at the test's end.
	if n := count() - 20; n > fds+1 {
		t.Errorf("descriptors: %d before, %d after", fds, n)
	}
	if n := grepCount(t); n != mounts {
		t.Errorf("mounts: %d before, %d after", mounts, n)
	}
}

func grepCount(t testing.TB) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), "\n")
}

// BenchmarkStart is a whole default container, from the request to the exec.
func BenchmarkStart(b *testing.B) {
	l := newLab(b)
	dir := rootDir(b)
	for b.Loop() {
		r, err := l.start(Config{ID: "q", Spec: dockerSpec(b, "true"), Root: cloneRoot(b, dir), CgroupProcs: l.cgroups})
		if err != nil {
			b.Fatal(err)
		}
		reap(r.pid)
		r.out.Close()
	}
}

// TestHostsRootAsRoot is `--rootfs /`: a copy of the mount of "/" alone.
func TestHostsRootAsRoot(t *testing.T) {
	l := newLab(t)
	s := sh(t, `echo $$; cat /proc/sys/kernel/hostname; touch /x 2>&1 | grep -c Read-only; ls /dev | grep -c vda; wc -l < /proc/net/dev`)
	s.Root.Readonly = true
	l.expect("/", s, "1\nbox\n1\n0\n3\n")
}
