//go:build root

package runtime

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/linux/caps"
	"github.com/tare-engine/tare/internal/linux/cgroup"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/linux/seccomp"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// lab starts plans as the keeper does, without a keeper: the test is the
// parent of the containers.
type lab struct {
	t       testing.TB
	region  *spawn.Region
	nursery *spawn.Nursery
	group   *cgroup.Group
	cgroups []string // the files by which a process enters it
}

func newLab(t testing.TB) *lab {
	t.Helper()
	r, err := spawn.NewRegion(8)
	if err != nil {
		t.Fatal(err)
	}
	n, err := r.NewNursery()
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, region: r, nursery: n}
	t.Cleanup(func() {
		n.Close()
		reap(n.Pid())
		n.Free()
		r.Close()
	})
	l.makeCgroups()
	return l
}

// makeCgroups makes a cgroup in each hierarchy, or the one of version 2.
func (l *lab) makeCgroups() {
	l.t.Helper()
	parent := fmt.Sprintf("runtime-test-%d", os.Getpid())
	g, err := cgroup.Create(parent+"/x", &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}})
	if err != nil {
		l.t.Fatal(err)
	}
	l.group, l.cgroups = g, g.ProcsPaths()
	l.t.Cleanup(func() {
		if err := errors.Join(g.Close(), g.Kill(), g.Remove(), cgroup.Parent(parent).Remove()); err != nil {
			l.t.Error(err)
		}
	})
}

// cgroupNames are the names in a container's /sys/fs/cgroup.
func (l *lab) cgroupNames() (names []string) {
	if !unified() {
		for _, c := range l.cgroups {
			names = append(names, hierarchyOf(c))
		}
	} else if list, err := os.ReadDir(filepath.Dir(l.cgroups[0])); err != nil {
		l.t.Fatal(err)
	} else {
		for _, e := range list {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names
}

// cgroupPath is where a container sees its group with the controller.
func (l *lab) cgroupPath(controller string) string {
	if unified() {
		return cgroupRoot
	}
	return cgroupRoot + "/" + controller
}

func removeCgroup(t testing.TB, dir string) {
	for range 100 {
		err := syscall.Rmdir(dir)
		if err == nil || err == syscall.ENOENT {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%s stays", dir)
}

func reap(pid int) syscall.WaitStatus {
	var ws syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(pid, &ws, 0, nil); err != syscall.EINTR {
			return ws
		}
	}
}

// rootDir makes a root file system of busybox.
func rootDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"bin", "etc", "tmp", "dev", "proc", "sys", "run"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0755); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal("busybox-static must be installed:", err)
	}
	if err := os.WriteFile(dir+"/bin/busybox", b, 0755); err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields("sh cat ls id mount hostname mkdir mknod touch readlink stat echo grep head wc tty stty sleep true umount kill dd chmod nc ip") {
		if err := os.Symlink("busybox", dir+"/bin/"+name); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// cloneRoot returns the detached mount of a root directory.
func cloneRoot(t testing.TB, dir string) *os.File {
	t.Helper()
	f, err := mount.Clone(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

var dockerCaps = []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE"}

// dockerSpec is what Docker makes of a container without options.
func dockerSpec(t testing.TB, args ...string) *specs.Spec {
	t.Helper()
	filter, err := seccomp.Default(dockerCaps)
	if err != nil {
		t.Fatal(err)
	}
	return &specs.Spec{
		Version:  specs.Version,
		Hostname: "box",
		Process: &specs.Process{
			Args: args, Cwd: "/", Env: []string{"PATH=/bin"},
			Capabilities: &specs.LinuxCapabilities{Bounding: dockerCaps, Effective: dockerCaps, Permitted: dockerCaps},
			User:         specs.User{AdditionalGids: []uint32{0, 10}},
			Rlimits:      []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 4096}},
		},
		Root: &specs.Root{},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=67108864"}},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{{Type: "mount"}, {Type: "network"}, {Type: "uts"}, {Type: "pid"}, {Type: "ipc"}, {Type: "cgroup"}},
			MaskedPaths: []string{"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
				"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
			Seccomp:       filter,
		},
	}
}

// result is how a program ended.
type result struct {
	out    string
	status syscall.WaitStatus
	err    error // it did not start
}

// running is a started program.
type running struct {
	pid    int
	out    *os.File
	master *os.File
}

// run starts the spec on a fresh detached mount of dir and waits for its end.
func (l *lab) run(dir string, s *specs.Spec) result {
	l.t.Helper()
	return l.runConfig(Config{ID: "test", Spec: s, Root: cloneRoot(l.t, dir), CgroupProcs: l.cgroups})
}

func (l *lab) runConfig(c Config) result {
	l.t.Helper()
	r, err := l.start(c)
	if err != nil {
		return result{err: err}
	}
	defer r.out.Close()
	b, err := io.ReadAll(r.out)
	if err != nil {
		l.t.Fatal(err)
	}
	return result{out: string(b), status: reap(r.pid)}
}

func (l *lab) start(c Config) (running, error) {
	l.t.Helper()
	if c.CgroupProcs != nil {
		c.CgroupFD = l.group.FD()
	}
	s, err := NewStart(c)
	if err != nil {
		return running{}, err
	}
	defer s.Close()
	slab := l.region.Get()
	defer slab.Put()
	if err := slab.Load(s.Image); err != nil {
		l.t.Fatal(err)
	}
	if len(s.Second.Bytes) > 0 {
		if err := slab.Pair(s.Second); err != nil {
			l.t.Fatal(err)
		}
	}
	r, report, pid := l.clone(slab, s.Flags, s.CgroupFD, s.FDs, c.Spec.Process.Terminal)
	r.pid = pid
	if len(s.Second.Bytes) > 0 {
		if ws := reap(pid); ws.ExitStatus() != 0 && len(report) == 0 {
			l.t.Fatalf("first half ended with %v", ws)
		}
		r.pid = slab.SecondPid()
	}
	if len(report) > 0 {
		if r.pid != 0 {
			reap(r.pid)
		}
		r.out.Close()
		rep := slab.ReadReport(report)
		l.t.Logf("step %d %q: %v", rep.Step, s.Plan.StepName(rep.Step), rep.Errno)
		return running{}, s.Explain(&keeper.StepError{Errno: rep.Errno, Step: rep.Step, Second: rep.Second})
	}
	return r, nil
}

// clone starts what the slab holds and waits for the exec or its failure.
func (l *lab) clone(slab *spawn.Slab, flags uint64, born int, own []*os.File, tty bool) (r running, report []byte, pid int) {
	l.t.Helper()
	rep, repw, err := os.Pipe()
	if err != nil {
		l.t.Fatal(err)
	}
	fds, ours := l.streams(&r, tty)
	if born >= 0 {
		born += 1 + len(fds)
	}
	pid, err = l.nursery.Start(slab, spawn.Options{Flags: flags, Cgroup: born}, append(append([]*os.File{repw}, fds...), own...))
	repw.Close()
	for _, f := range fds {
		f.Close()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	report, err = io.ReadAll(rep)
	rep.Close()
	if err != nil {
		l.t.Fatal(err)
	}
	if tty && len(report) == 0 {
		r.master = receiveMaster(l.t, ours)
	}
	if ours != nil {
		ours.Close()
	}
	return r, report, pid
}

// streams makes stdin, stdout and stderr of a child.
func (l *lab) streams(r *running, tty bool) (fds []*os.File, ours *os.File) {
	l.t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	out, outw, err := os.Pipe()
	if err != nil {
		l.t.Fatal(err)
	}
	r.out = out
	if !tty {
		outw2, err := dup(outw)
		if err != nil {
			l.t.Fatal(err)
		}
		return []*os.File{null, outw, outw2}, nil
	}
	outw.Close()
	ours, theirs, err := spawn.ParkSocket() // any pair of sockets
	if err != nil {
		l.t.Fatal(err)
	}
	null2, err := dup(null)
	if err != nil {
		l.t.Fatal(err)
	}
	return []*os.File{theirs, null, null2}, ours
}

func dup(f *os.File) (*os.File, error) {
	n, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		return nil, err
	}
	syscall.CloseOnExec(n)
	return os.NewFile(uintptr(n), f.Name()), nil
}

func receiveMaster(t testing.TB, sock *os.File) *os.File {
	t.Helper()
	b, oob := make([]byte, 8), make([]byte, 64)
	_, n, _, _, err := syscall.Recvmsg(int(sock.Fd()), b, oob, syscall.MSG_CMSG_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	ms, err := syscall.ParseSocketControlMessage(oob[:n])
	if err != nil || len(ms) != 1 {
		t.Fatal(ms, err)
	}
	fds, err := syscall.ParseUnixRights(&ms[0])
	if err != nil || len(fds) != 1 {
		t.Fatal(fds, err)
	}
	return os.NewFile(uintptr(fds[0]), "master")
}

// codeOf returns a start error's exit code.
func codeOf(err error) int {
	if e, ok := errors.AsType[*StartError](err); ok {
		return e.Code
	}
	return 0
}

// sh is a spec that runs a shell script.
func sh(t testing.TB, script string) *specs.Spec {
	return dockerSpec(t, "sh", "-c", script)
}

func capNames() []string { return caps.Supported() }
