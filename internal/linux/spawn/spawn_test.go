package spawn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// With glibc (under the race detector) rseq is registered in memory that
// nurseries unmap. The keeper sets the same.
func TestMain(m *testing.M) {
	const tunables = "GLIBC_TUNABLES"
	if os.Getenv(tunables) == "" {
		env := append(os.Environ(), tunables+"=glibc.pthread.rseq=0")
		fmt.Fprintln(os.Stderr, syscall.Exec("/proc/self/exe", os.Args, env))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// kindergarten is a region with one nursery.
type kindergarten struct {
	*Region
	n *Nursery
}

func newKindergarten(t *testing.T) *kindergarten {
	t.Helper()
	r, err := NewRegion(16)
	if err != nil {
		t.Fatal(err)
	}
	n, err := r.NewNursery()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.Close()
		if ws := wait(t, n.Pid()); ws.ExitStatus() != 0 {
			t.Errorf("nursery ended with %v", ws)
		}
		n.Free()
		r.mu.Lock()
		if len(r.free) != r.n {
			t.Errorf("%d of %d arenas are free", len(r.free), r.n)
		}
		r.mu.Unlock()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return &kindergarten{r, n}
}

func wait(t *testing.T, pid int) syscall.WaitStatus {
	t.Helper()
	var ws syscall.WaitStatus
	for {
		_, err := syscall.Wait4(pid, &ws, 0, nil)
		if err == nil {
			return ws
		}
		if err != syscall.EINTR {
			t.Fatalf("wait4(%d): %v", pid, err)
		}
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// child is what a start gave.
type child struct {
	pid    int
	report []byte
	out    *os.File // its stdout and stderr
}

// start runs the slab's plan with /dev/null as stdin and waits for the exec.
func (k *kindergarten) start(t *testing.T, s *Slab, o Options, own ...*os.File) child {
	t.Helper()
	rep, repw := pipe(t)
	out, outw := pipe(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	pid, err := k.n.Start(s, o, append([]*os.File{repw, null, outw, outw}, own...))
	repw.Close()
	outw.Close()
	if err != nil {
		t.Fatal(err)
	}
	if s.Pid() != pid {
		t.Errorf("the kernel stored pid %d, the nursery says %d", s.Pid(), pid)
	}
	b, err := io.ReadAll(rep)
	if err != nil {
		t.Fatal(err)
	}
	return child{pid, b, out}
}

func (k *kindergarten) run(t *testing.T, p *Plan) (child, *Slab) {
	t.Helper()
	s := k.Get()
	if err := s.Load(p.Image()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Put)
	return k.start(t, s, Options{Cgroup: -1}), s
}

func output(t *testing.T, c child) string {
	t.Helper()
	b, err := io.ReadAll(c.out)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// shell is a plan that runs a shell script.
func shell(script string) *Plan {
	p := NewPlan()
	p.ResetSignals()
	p.Stdio()
	p.CloseOnExec()
	p.Exec("sh", "/bin:/usr/bin", []string{"sh", "-c", script}, []string{"PATH=/usr/bin:/bin"})
	return p
}

func TestProgramRuns(t *testing.T) {
	k := newKindergarten(t)
	c, _ := k.run(t, shell("echo hi; echo err >&2; exit 7"))
	if len(c.report) != 0 {
		t.Fatalf("report %v", c.report)
	}
	if got := output(t, c); got != "hi\nerr\n" {
		t.Errorf("output %q", got)
	}
	if ws := wait(t, c.pid); ws.ExitStatus() != 7 {
		t.Errorf("status %v", ws)
	}
}

func TestChildHasNothingOfOurs(t *testing.T) {
	secret, _ := os.Open("/dev/zero")
	defer secret.Close()
	k := newKindergarten(t)
	c, _ := k.run(t, shell(`ls -l /proc/self/fd | grep -c -e zero -e socket; grep -c plans /proc/self/maps
grep -E 'Sig(Blk|Ign)' /proc/self/status`))
	got := strings.Fields(output(t, c))
	wait(t, c.pid)
	want := "0 0 SigBlk: 0000000000000000 SigIgn: 0000000000000000"
	if strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFailingStepIsReported(t *testing.T) {
	k := newKindergarten(t)
	p := NewPlan()
	p.ResetSignals()
	p.Do("open nothing", SysOpenat, Int(unix.AT_FDCWD), p.Str("/nothing/here"), Nil)
	p.Exec("/bin/true", "", []string{"true"}, nil)
	c, s := k.run(t, p)
	ws := wait(t, c.pid)
	r := s.ReadReport(c.report)
	if r.Errno != syscall.ENOENT || r.Step != 1 || r.Second || ws.ExitStatus() != 253 {
		t.Errorf("report %+v, status %v", r, ws)
	}
	if n := p.StepName(r.Step); n != "open nothing" {
		t.Errorf("step %q", n)
	}
}

func TestPathSearch(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, mode os.FileMode, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	file("ok/prog", 0o755, "#!/bin/sh\nexit 0\n")
	file("plain/prog", 0o644, "#!/bin/sh\n")
	file("bad/prog", 0o755, "no format")
	file("lost/prog", 0o755, "#!/no/interpreter\n")
	file("file", 0o644, "")
	for _, c := range []struct {
		file, path string
		want       syscall.Errno
	}{
		{"prog", "none:ok", 0},
		{"prog", "plain:ok", 0},
		{"prog", "lost:ok", 0},
		{"prog", "plain:none", syscall.EACCES},
		{"prog", "file:none", syscall.ENOENT},
		{"prog", "bad:ok", syscall.ENOEXEC},
		{"prog", "", syscall.ENOENT},
		{"", "ok", syscall.ENOENT},
		{dir + "/ok/prog", "", 0},
		{dir + "/ok", "", syscall.EACCES},
		{dir + "/nope", "", syscall.ENOENT},
	} {
		t.Run(c.file+" in "+c.path, func(t *testing.T) {
			k := newKindergarten(t)
			var dirs []string
			for d := range strings.SplitSeq(c.path, ":") {
				dirs = append(dirs, filepath.Join(dir, d))
			}
			p := NewPlan()
			p.ResetSignals()
			p.Exec(c.file, strings.Join(dirs, ":"), []string{c.file}, nil)
			ch, s := k.run(t, p)
			wait(t, ch.pid)
			var got syscall.Errno
			if len(ch.report) > 0 {
				got = s.ReadReport(ch.report).Errno
			}
			if got != c.want {
				t.Errorf("errno %d (%v), want %d", got, got, c.want)
			}
		})
	}
}

func TestTwoMegabytesOfArguments(t *testing.T) {
	k := newKindergarten(t)
	argv := []string{"sh", "-c", "exit $(($# % 100))"}
	for range 16 {
		argv = append(argv, strings.Repeat("x", 118<<10)+fmt.Sprint(len(argv)))
	}
	p := NewPlan()
	p.ResetSignals()
	p.Exec("/bin/sh", "", argv, nil)
	c, s := k.run(t, p)
	if len(c.report) > 0 {
		t.Fatalf("report %+v", s.ReadReport(c.report))
	}
	if ws := wait(t, c.pid); ws.ExitStatus() != 15 {
		t.Errorf("status %v", ws)
	}
}

func TestNurseryDeathIsSeen(t *testing.T) {
	r, err := NewRegion(4)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n, err := r.NewNursery()
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(n.Pid(), syscall.SIGKILL)
	wait(t, n.Pid())
	defer n.Free()
	s := r.Get()
	defer s.Put()
	if err := s.Load(shell("true").Image()); err != nil {
		t.Fatal(err)
	}
	_, w := pipe(t)
	if _, err := n.Start(s, Options{Cgroup: -1}, []*os.File{w}); !errors.Is(err, ErrNurseryDied) {
		t.Errorf("start by a dead nursery: %v", err)
	}
	if s.Pid() != 0 {
		t.Errorf("pid %d", s.Pid())
	}
}

func TestUnknownChildEndsBeforeItsPlan(t *testing.T) {
	k := newKindergarten(t)
	s := k.Get()
	defer s.Put()
	dir := t.TempDir()
	p := NewPlan()
	p.Do("trace", SysMkdir, p.Str(dir+"/ran"), Int(0o700))
	if err := s.Load(p.Image()); err != nil {
		t.Fatal(err)
	}
	pidFile, err := os.Create(dir + "/pid")
	if err != nil {
		t.Fatal(err)
	}
	defer pidFile.Close()
	rep, repw := pipe(t)
	rep.Close() // as if the keeper had died
	pid, err := k.n.Start(s, Options{Cgroup: -1, PidFile: 1}, []*os.File{repw, pidFile})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, pid)
	if _, err := os.Stat(dir + "/ran"); err == nil {
		t.Error("the plan ran")
	}
	if b, _ := os.ReadFile(dir + "/pid"); len(b) != 4 || int(binary.LittleEndian.Uint32(b)) != pid {
		t.Errorf("pid file %v, pid %d", b, pid)
	}
}

func TestStartRefusesForeignFlags(t *testing.T) {
	k := newKindergarten(t)
	s := k.Get()
	defer s.Put()
	for _, o := range []Options{{Flags: unix.CLONE_VM, Cgroup: -1}, {Flags: unix.CLONE_PIDFD, Cgroup: -1}, {Cgroup: 0}} {
		if _, err := k.n.Start(s, o, nil); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestReportIsNotTrusted(t *testing.T) {
	r, err := NewRegion(1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := r.Get()
	le := binary.LittleEndian
	for _, at := range []uint64{0, s.addr, s.addr + firstOff, s.addr + firstOff + headerSize + 1, s.addr + arenaSize, s.addr - stepSize, ^uint64(0)} {
		b := le.AppendUint64(le.AppendUint64(nil, ^uint64(0)), at)
		if got := s.ReadReport(b); got.Step != -1 || got.Errno != syscall.EPROTO {
			t.Errorf("%#x: %+v", at-s.addr, got)
		}
	}
	if got := s.ReadReport([]byte{1}); got.Step != -1 {
		t.Errorf("short report: %+v", got)
	}
}

func BenchmarkStart(b *testing.B) {
	r, err := NewRegion(4)
	if err != nil {
		b.Fatal(err)
	}
	n, err := r.NewNursery()
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		n.Close()
		syscall.Wait4(n.Pid(), nil, 0, nil)
	}()
	p := NewPlan()
	p.Exec("/bin/true", "", []string{"true"}, nil)
	im := p.Image()
	for b.Loop() {
		s := r.Get()
		if err := s.Load(im); err != nil {
			b.Fatal(err)
		}
		rd, w, _ := os.Pipe()
		pid, err := n.Start(s, Options{Cgroup: -1}, []*os.File{w})
		if err != nil {
			b.Fatal(err)
		}
		w.Close()
		io.ReadAll(rd)
		rd.Close()
		syscall.Wait4(pid, nil, 0, nil)
		s.Put()
	}
}
