//go:build root

package runtime

import (
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/linux/process"
)

// sleeper starts a container that sleeps, and returns it with its pidfd.
func (l *lab) sleeper(dir string, change func(*specs.Spec)) (running, *os.File) {
	l.t.Helper()
	s := dockerSpec(l.t, "sleep", "1000")
	if change != nil {
		change(s)
	}
	r, err := l.start(Config{ID: "sleeper", Spec: s, Root: cloneRoot(l.t, dir), CgroupProcs: l.cgroups})
	if err != nil {
		l.t.Fatal(err)
	}
	f, err := process.Open(r.pid)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		process.Signal(f, syscall.SIGKILL)
		reap(r.pid)
		f.Close()
		r.out.Close()
	})
	return r, f
}

// exec runs p in the container of pidfd.
func (l *lab) exec(c ExecConfig) result {
	l.t.Helper()
	c.CgroupProcs, c.CgroupFD = l.cgroups, l.group.OpenToJoin()
	e, err := NewExec(c)
	if err != nil {
		return result{err: err}
	}
	defer e.Close()
	slab := l.region.Get()
	defer slab.Put()
	if err := slab.Load(e.First); err != nil {
		l.t.Fatal(err)
	}
	if err := slab.Pair(e.Second); err != nil {
		l.t.Fatal(err)
	}
	r, report, first := l.clone(slab, 0, e.CgroupFD, e.FDs, c.Process.Terminal)
	defer r.out.Close()
	ws := reap(first)
	if len(report) > 0 {
		if pid := slab.SecondPid(); pid != 0 {
			reap(pid)
		}
		rep := slab.ReadReport(report)
		l.t.Logf("step %d of second %v: %v", rep.Step, rep.Second, rep.Errno)
		return result{err: e.Explain(&keeper.StepError{Errno: rep.Errno, Step: rep.Step, Second: rep.Second})}
	}
	if ws.ExitStatus() != 0 {
		l.t.Fatalf("first half ended with %v", ws)
	}
	out := r.out
	if r.master != nil {
		out = r.master
		defer r.master.Close()
	}
	b, _ := io.ReadAll(out) // of a pty: EIO at the end
	return result{out: string(b), status: reap(slab.SecondPid())}
}

func execOf(t testing.TB, args ...string) *specs.Process {
	return dockerSpec(t, args...).Process
}

func TestExecIsInTheContainer(t *testing.T) {
	l := newLab(t)
	dir := rootDir(t)
	r, fd := l.sleeper(dir, nil)
	p := execOf(t, "sh", "-c", `hostname; pwd; id -u; id -G; grep -E '^(Cap|Seccomp:|NSsid)' /proc/self/status; echo fds $(ls /proc/self/fd); cat /proc/1/cmdline; echo; cat /proc/self/cgroup; cat /proc/self/oom_score_adj; env; exit 5`)
	p.Cwd, p.Env = "/tmp", []string{"PATH=/bin", "A=b"}
	got := l.exec(ExecConfig{Process: p, Seccomp: dockerSpec(t).Linux.Seccomp, PidFD: fd, Pid: r.pid})
	if got.err != nil {
		t.Fatal(got.err)
	}
	if got.status.ExitStatus() != 5 {
		t.Errorf("status %v", got.status)
	}
	group := ":pids:/\n"
	if unified() {
		group = "\n0::/\n"
	}
	for _, want := range []string{"box\n/tmp\n0\n0 10\n", "CapInh:\t0000000000000000", "CapEff:\t00000000a80425fb", "CapBnd:\t00000000a80425fb", "Seccomp:\t2", "fds 0 1 2 3\n", "sleep", group, "\n0\n", "A=b"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("no %q in\n%s", want, got.out)
		}
	}
}

func TestExecTerminal(t *testing.T) {
	l := newLab(t)
	dir := rootDir(t)
	r, fd := l.sleeper(dir, nil)
	p := execOf(t, "sh", "-c", "tty; stty size; echo via > /dev/tty")
	p.Terminal = true
	got := l.exec(ExecConfig{Process: p, PidFD: fd, Pid: r.pid, Rows: 33, Cols: 77})
	if got.err != nil || got.out != "/dev/pts/0\r\n33 77\r\nvia\r\n" {
		t.Errorf("%q %v", got.out, got.err)
	}
}

func TestExecTellsWhatIsWrong(t *testing.T) {
	l := newLab(t)
	dir := rootDir(t)
	if err := os.WriteFile(dir+"/plain", []byte("x"), 0644); err != nil {
		t.Fatal(err)
	}
	r, fd := l.sleeper(dir, nil)
	for _, c := range []struct {
		arg, cwd, text string
		code           int
	}{
		{"nosuch", "/", `exec: "nosuch": executable file not found in $PATH`, 127},
		{"/no/such", "/", `exec: "/no/such": stat /no/such: no such file or directory`, 127},
		{"/etc", "/", `exec: "/etc": is a directory`, 126},
		{"/plain", "/", `exec: "/plain": permission denied`, 126},
		{"true", "/nowhere", `chdir to cwd ("/nowhere") set in config.json failed: no such file or directory`, 127},
		// The first clone is not in the container's PID namespace: no "self" there.
		{"true", "/proc/self/fd/1", `chdir to cwd ("/proc/self/fd/1") set in config.json failed: no such file or directory`, 127},
		{"true", "/proc/1/root", "current working directory is outside of container mount namespace root", 128},
	} {
		p := execOf(t, c.arg)
		p.Cwd = c.cwd
		got := l.exec(ExecConfig{Process: p, PidFD: fd, Pid: r.pid})
		if got.err == nil || !strings.HasPrefix(got.err.Error(), execFailed+c.text) || codeOf(got.err) != c.code {
			t.Errorf("%s in %s: %d %v", c.arg, c.cwd, codeOf(got.err), got.err)
		}
	}
}

func TestExecAsUser(t *testing.T) {
	l := newLab(t)
	dir := rootDir(t)
	r, fd := l.sleeper(dir, nil)
	p := execOf(t, "sh", "-c", "id -u; id -g; id -G; grep -E '^Cap(Eff|Prm|Bnd)' /proc/self/status")
	p.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{1002}}
	p.Capabilities = &specs.LinuxCapabilities{Bounding: dockerCaps}
	p.NoNewPrivileges = true
	got := l.exec(ExecConfig{Process: p, Seccomp: dockerSpec(t).Linux.Seccomp, PidFD: fd, Pid: r.pid})
	want := "1000\n1001\n1001 1002\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\n"
	if got.err != nil || got.out != want {
		t.Errorf("%q %v", got.out, got.err)
	}
}
