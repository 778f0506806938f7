//go:build root

package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// engineRig is a keeper in a process of its own, with this test as its engine.
type engineRig struct {
	t    testing.TB
	root string // exec root
	data string // directory of logs
	*keeper.Conn
	ev *eventRecord
}

// eventRecord keeps the events of a connection.
type eventRecord struct {
	mu     sync.Mutex
	exits  map[string]keeper.Exit
	losses []string
	lost   chan error
	change chan struct{}
}

func newEventRecord() *eventRecord {
	return &eventRecord{exits: map[string]keeper.Exit{}, lost: make(chan error, 1), change: make(chan struct{}, 1024)}
}

func (r *eventRecord) Exited(x keeper.Exit) {
	r.mu.Lock()
	r.exits[x.ID] = x
	r.mu.Unlock()
	r.change <- struct{}{}
}
func (r *eventRecord) Detached(string, uint64) {}
func (r *eventRecord) StdinClosed(string)      {}
func (r *eventRecord) LogLost(id string, lines int64, reason string) {
	r.mu.Lock()
	r.losses = append(r.losses, fmt.Sprintf("%s %d %s", id, lines, reason))
	r.mu.Unlock()
}
func (r *eventRecord) Lost(err error) { r.lost <- err }

// exit waits for the end of a process.
func (r *engineRig) exit(id string) keeper.Exit {
	r.t.Helper()
	for end := time.After(15 * time.Second); ; {
		r.ev.mu.Lock()
		x, ok := r.ev.exits[id]
		r.ev.mu.Unlock()
		if ok {
			return x
		}
		select {
		case <-r.ev.change:
		case <-time.After(20 * time.Millisecond): // another waiter took the word
		case <-end:
			r.t.Fatalf("no exit of %s\n%s", id, r.log())
		}
	}
}

func newEngineRig(t testing.TB) *engineRig {
	t.Helper()
	t.Setenv("TARE_TEST_KEEPER", "1")
	r := &engineRig{t: t, root: filepath.Join(t.TempDir(), "run"), data: t.TempDir()}
	r.spawn()
	r.dial()
	t.Cleanup(r.end)
	return r
}

func (r *engineRig) spawn() {
	r.t.Helper()
	if err := keeper.Spawn(r.t.Context(), os.Args[0], r.root, "--log-level", "debug"); err != nil {
		r.t.Fatalf("%v\n%s", err, r.log())
	}
}

func (r *engineRig) dial() {
	r.t.Helper()
	containers, err := os.Open(r.data)
	if err != nil {
		r.t.Fatal(err)
	}
	defer containers.Close()
	r.ev = newEventRecord()
	r.Conn, err = keeper.Dial(r.t.Context(), keeper.SocketPath(r.root), keeper.Hello{EngineID: "e1", Containers: containers, Spool: containers}, r.ev)
	if err != nil {
		r.t.Fatalf("%v\n%s", err, r.log())
	}
}

// end kills what runs, and checks that the keeper ends with nothing left.
func (r *engineRig) end() {
	ctx := context.Background()
	running, exits, err := r.List(ctx)
	if err != nil {
		r.t.Error(err)
	}
	for _, p := range running {
		p.Files.Close()
		if p.Parked {
			err = errors.Join(err, r.Evict(ctx, p.ID))
			continue
		}
		if fd, err := process.Open(p.Pid); err == nil {
			process.Signal(fd, syscall.SIGKILL)
			fd.Close()
		}
		exits = append(exits, r.exit(p.ID))
	}
	for _, x := range exits {
		err = errors.Join(err, r.Ack(ctx, x.ID))
	}
	if err := errors.Join(err, r.Shutdown(ctx)); err != nil {
		r.t.Errorf("shutdown: %v\n%s", err, r.log())
	}
	r.Close()
	for _, dir := range []string{"live", "exits"} {
		if left, _ := os.ReadDir(filepath.Join(r.root, dir)); len(left) > 0 {
			r.t.Errorf("left in %s: %v", dir, left)
		}
	}
	if r.t.Failed() {
		r.t.Log(r.log())
	}
}

func (r *engineRig) log() string {
	b, _ := os.ReadFile(filepath.Join(r.root, "keeper", "log"))
	return string(b)
}

const namespaces = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET

// enclose makes the steps of a container on the host's root.
func enclose(p *spawn.Plan, id string) {
	p.ResetSignals()
	p.Do("private", spawn.SysMount, spawn.Nil, p.Str("/"), spawn.Nil, spawn.Int(syscall.MS_REC|syscall.MS_PRIVATE), spawn.Nil)
	p.Do("hostname", spawn.SysSethostname, p.Str(id), spawn.Int(len(id)))
	p.Do("proc", spawn.SysMount, p.Str("proc"), p.Str("/proc"), p.Str("proc"), spawn.Nil, spawn.Nil)
}

func container(id, script string) keeper.Start {
	p := spawn.NewPlan()
	enclose(p, id)
	p.Stdio()
	p.CloseOnExec()
	p.Exec("sh", "/bin:/usr/bin", []string{"sh", "-c", script}, []string{"PATH=/bin:/usr/bin"})
	return keeper.Start{ID: id, Flags: namespaces, CgroupFD: -1, Plan: p.Image(), Stdio: keeper.Stdio{Log: &keeper.Log{Dir: id}}}
}

func (r *engineRig) run(s keeper.Start) *keeper.Process {
	r.t.Helper()
	if s.Stdio.Log != nil {
		if err := os.MkdirAll(filepath.Join(r.data, s.Stdio.Log.Dir), 0o700); err != nil {
			r.t.Fatal(err)
		}
	}
	p, err := r.Start(r.t.Context(), s)
	if err != nil {
		r.t.Fatalf("%v\n%s", err, r.log())
	}
	return p
}

// output is what the log of a process holds, as it stands in the file.
func (r *engineRig) output(id string) string {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.data, id, id+"-json.log"))
	if err != nil {
		r.t.Fatalf("%v\n%s", err, r.log())
	}
	var out strings.Builder
	for l := range bytes.Lines(b) {
		_, l, _ := bytes.Cut(l, []byte(`{"log":"`))
		l, _, _ = bytes.Cut(l, []byte(`\n","stream"`))
		out.Write(append(l, '\n'))
	}
	return out.String()
}

// logged waits until the log of a process holds a text.
func (r *engineRig) logged(id, want string) {
	r.t.Helper()
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(filepath.Join(r.data, id, id+"-json.log")); err == nil && strings.Contains(r.output(id), want) {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("no %q in the log of %s", want, id)
		}
	}
}

func TestContainerRunsAndExits(t *testing.T) {
	r := newEngineRig(t)
	p := r.run(container("c1", "echo pid $$; hostname; echo err >&2; exit 42"))
	defer p.Files.Close()
	if p.Pid <= 0 || p.StartTicks == 0 || p.Stdout == nil || p.Stderr == nil || p.Stdin != nil {
		t.Errorf("process %+v", p)
	}
	x := r.exit("c1")
	if x.Status.ExitStatus() != 42 || x.Pid != p.Pid || x.Unknown || time.Since(x.At) > time.Minute {
		t.Errorf("exit %+v", x)
	}
	got := r.output("c1")
	for _, want := range []string{"pid 1\n", "c1\n", "err\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in the log: %q", want, got)
		}
	}
	if err := r.Ack(t.Context(), "c1"); err != nil {
		t.Error(err)
	}
	if running, exits, err := r.List(t.Context()); len(running)+len(exits) > 0 || err != nil {
		t.Error("after ack:", running, exits, err)
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	r := newEngineRig(t)
	p := spawn.NewPlan()
	enclose(p, "c1")
	p.Exec("/no/such/program", "", []string{"x"}, nil)
	s := container("c1", "")
	s.Plan = p.Image()
	_, err := r.Start(t.Context(), s)
	e, ok := errors.AsType[*keeper.StepError](err)
	if !ok || e.Errno != syscall.ENOENT || e.Second || p.StepName(e.Step) != "execve /no/such/program" {
		t.Fatalf("%v (%+v)", err, e)
	}
	if running, exits, err := r.List(t.Context()); len(running)+len(exits) > 0 || err != nil {
		t.Error(running, exits, err)
	}
	r.run(container("c1", "exit 0")).Files.Close() // the ID is free
	r.exit("c1")
}

func TestIDIsTakenUntilAck(t *testing.T) {
	r := newEngineRig(t)
	r.run(container("c1", "exit 0")).Files.Close()
	r.exit("c1")
	if _, err := r.Start(t.Context(), container("c1", "")); !errdefs.Is(err, errdefs.Conflict) {
		t.Error(err)
	}
}

func TestMalformedPlanIsRefused(t *testing.T) {
	r := newEngineRig(t)
	s := container("c1", "")
	s.Plan.Relocs[len(s.Plan.Relocs)-1] = 1 << 31
	if _, err := r.Start(t.Context(), s); !errdefs.Is(err, errdefs.InvalidArgument) {
		t.Error(err)
	}
}

func TestExitWaitsForTheNextEngine(t *testing.T) {
	r := newEngineRig(t)
	r.run(container("c1", "sleep 0.2; exit 5")).Files.Close()
	r.run(container("c2", "sleep 100")).Files.Close()
	r.Conn.Close()
	time.Sleep(400 * time.Millisecond)
	r.dial()
	running, exits, err := r.List(t.Context())
	if err != nil || len(running) != 1 || len(exits) != 1 || exits[0].ID != "c1" || exits[0].Status.ExitStatus() != 5 || running[0].Stdout == nil {
		t.Errorf("%+v %+v %v", running, exits, err)
	}
	for _, p := range running {
		p.Files.Close()
	}
}

func TestNewerEngineReplacesOlder(t *testing.T) {
	r := newEngineRig(t)
	old := r.ev
	r.dial()
	select {
	case <-old.lost:
	case <-time.After(5 * time.Second):
		t.Error("the older engine still has its connection")
	}
}

func TestPathsOfAContainerAreHeldUntilReported(t *testing.T) {
	r := newEngineRig(t)
	r.run(container("c1", "exec sleep 100")).Files.Close()
	var n int
	dir := fmt.Sprintf("/proc/%d/fd", r.KeeperPid())
	fds, _ := os.ReadDir(dir)
	for _, fd := range fds {
		if l, _ := os.Readlink(filepath.Join(dir, fd.Name())); strings.HasPrefix(l, "mnt:") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d mount namespaces held", n)
	}
}

func TestExecByTwoClones(t *testing.T) {
	r := newEngineRig(t)
	c := r.run(container("c1", "exec sleep 100"))
	c.Files.Close()
	fd, err := process.Open(c.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	x, err := r.Start(t.Context(), execIn(fd, "x1", "echo $$; ps -e | wc -l; exit 9"))
	if err != nil {
		t.Fatalf("%v\n%s", err, r.log())
	}
	out, _ := io.ReadAll(x.Stdout)
	x.Files.Close()
	if ws := r.exit("x1").Status; ws.ExitStatus() != 9 {
		t.Error(ws)
	}
	_ = out // the keeper and we share the FIFO: who reads what is open

	s := execIn(fd, "x2", "")
	p := spawn.NewPlan()
	p.Exec("nope", "/bin", []string{"nope"}, nil)
	s.Second = p.Image()
	_, err = r.Start(t.Context(), s)
	if e, ok := errors.AsType[*keeper.StepError](err); !ok || !e.Second || e.Errno != syscall.ENOENT {
		t.Error(err)
	}
	p = spawn.NewPlan()
	p.Do("fail", spawn.SysOpen, p.Str("/nothing"), spawn.Nil)
	s.Plan = p.Image()
	_, err = r.Start(t.Context(), s)
	if e, ok := errors.AsType[*keeper.StepError](err); !ok || e.Second || e.Step != 0 {
		t.Error(err)
	}
}

func execIn(pidfd *os.File, id, script string) keeper.Start {
	a := spawn.NewPlan()
	a.ResetSignals()
	a.Do("join pid", spawn.SysSetns, spawn.FD(0), spawn.Int(syscall.CLONE_NEWPID))
	a.Do("join others", spawn.SysSetns, spawn.FD(0), spawn.Int(namespaces&^syscall.CLONE_NEWPID))
	a.Stdio()
	a.CloneSecond()
	b := spawn.NewPlan()
	b.Do("setsid", spawn.SysSetsid)
	b.Exec("sh", "/bin", []string{"sh", "-c", script}, []string{"PATH=/bin:/usr/bin"})
	return keeper.Start{ID: id, Container: "c1", CgroupFD: -1, Plan: a.Image(), Second: b.Image(), FDs: []*os.File{pidfd}}
}

func TestParkWakeEvict(t *testing.T) {
	r := newEngineRig(t)
	park := func(id string) keeper.Start {
		p := spawn.NewPlan()
		enclose(p, id)
		p.ParkStep()
		return keeper.Start{ID: id, Flags: namespaces, CgroupFD: -1, Plan: p.Image()}
	}
	for _, id := range []string{"p1", "p2", "p3"} {
		if _, err := r.Park(t.Context(), park(id)); err != nil {
			t.Fatalf("%v\n%s", err, r.log())
		}
	}
	if err := r.Evict(t.Context(), "p2"); err != nil {
		t.Error(err)
	}
	second := func(id, script string) keeper.Start {
		q := spawn.NewPlan()
		q.Stdio()
		q.CloseOnExec()
		q.Exec("sh", "/bin", []string{"sh", "-c", script}, []string{"PATH=/bin:/usr/bin"})
		if err := os.MkdirAll(filepath.Join(r.data, id), 0o700); err != nil {
			t.Fatal(err)
		}
		return keeper.Start{ID: id, CgroupFD: -1, Plan: q.Image(), Stdio: keeper.Stdio{Log: &keeper.Log{Dir: id}}}
	}
	p, err := r.Wake(t.Context(), second("p1", "echo $$ $(hostname); exit 3"))
	if err != nil {
		t.Fatalf("%v\n%s", err, r.log())
	}
	p.Files.Close()
	if x := r.exit("p1"); x.Status.ExitStatus() != 3 {
		t.Errorf("%+v", x)
	}
	if got := r.output("p1"); got != "1 p1\n" {
		t.Errorf("output %q", got)
	}
	if _, err := r.Wake(t.Context(), second("p2", "")); !errdefs.Is(err, errdefs.NotFound) {
		t.Error("wake after evict:", err)
	}
	bad := second("p3", "")
	q := spawn.NewPlan()
	q.Do("first", spawn.SysGetpid)
	q.Exec("/no/such", "", nil, nil)
	bad.Plan = q.Image()
	_, err = r.Wake(t.Context(), bad)
	if e, ok := errors.AsType[*keeper.StepError](err); !ok || e.Second || e.Step != 1 || e.Errno != syscall.ENOENT {
		t.Errorf("%v %+v", err, e)
	}
	if running, exits, err := r.List(t.Context()); err != nil || len(running) != 0 || len(exits) != 1 {
		t.Error(running, exits, err)
	}
}

func TestUpgradeKeepsEverything(t *testing.T) {
	r := newEngineRig(t)
	run := r.run(container("c1", "i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i+1)); sleep 0.02; done; exit 6"))
	run.Files.Close()
	p := spawn.NewPlan()
	enclose(p, "p1")
	p.ParkStep()
	if _, err := r.Park(t.Context(), keeper.Start{ID: "p1", Flags: namespaces, CgroupFD: -1, Plan: p.Image()}); err != nil {
		t.Fatal(err)
	}
	pid := r.KeeperPid()
	for range 3 {
		if err := r.Upgrade(t.Context(), os.Args[0]); err != nil {
			t.Fatalf("%v\n%s", err, r.log())
		}
	}
	exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if !strings.HasPrefix(exe, "/memfd:tare-keeper") {
		t.Errorf("the keeper's program is %q", exe)
	}
	q := spawn.NewPlan()
	q.Stdio()
	q.Exec("sh", "/bin", []string{"sh", "-c", "exit 8"}, nil)
	w, err := r.Wake(t.Context(), keeper.Start{ID: "p1", CgroupFD: -1, Plan: q.Image()})
	if err != nil {
		t.Fatalf("%v\n%s", err, r.log())
	}
	w.Files.Close()
	if x := r.exit("p1"); x.Status.ExitStatus() != 8 || x.Pid != w.Pid {
		t.Errorf("%+v", x)
	}
	if x := r.exit("c1"); x.Status.ExitStatus() != 6 || x.Unknown {
		t.Errorf("%+v", x)
	}
	var want strings.Builder
	for i := range 40 {
		fmt.Fprintln(&want, "line", i)
	}
	if got := r.output("c1"); got != want.String() {
		t.Errorf("output %q", got)
	}
}

// TestSubreaperKnowsTheStatus is the case of an engine that started the keeper
// and inherits its children.
func TestSubreaperKnowsTheStatus(t *testing.T) {
	const setChildSubreaper = 36 // PR_SET_CHILD_SUBREAPER
	if _, _, e := syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0); e != 0 {
		t.Fatal(e)
	}
	defer syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 0, 0)
	r := newEngineRig(t)
	p := r.run(container("c1", "exec sleep 100"))
	p.Files.Close()
	kill := func(pid int, sig syscall.Signal) {
		fd, err := process.Open(pid)
		if err != nil {
			t.Fatal(err)
		}
		process.Signal(fd, sig)
		fd.Close()
	}
	kill(r.KeeperPid(), syscall.SIGKILL)
	<-r.ev.lost
	r.Conn.Close()
	r.spawn()
	r.dial()
	kill(p.Pid, syscall.SIGKILL)
	if x := r.exit("c1"); x.Unknown || x.Status.Signal() != syscall.SIGKILL {
		t.Errorf("%+v\n%s", x, r.log())
	}
}

func TestKeeperDies(t *testing.T) {
	r := newEngineRig(t)
	p := r.run(container("c1", "trap 'echo bye; exit 11' TERM; echo ready; while :; do sleep 0.05; done"))
	defer p.Files.Close()
	// What the keeper has read and not yet logged would die with it.
	r.logged("c1", "ready\n")
	q := r.run(container("c2", "sleep 0.3; exit 1"))
	q.Files.Close()
	k, err := process.Open(r.KeeperPid())
	if err != nil {
		t.Fatal(err)
	}
	process.Signal(k, syscall.SIGKILL)
	k.Close()
	<-r.ev.lost
	r.Conn.Close()
	time.Sleep(500 * time.Millisecond) // c2 ends; init may have reaped it or not
	r.spawn()
	r.dial()
	running, exits, err := r.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	orphans := map[string]int{}
	for _, q := range running {
		q.Files.Close()
		if q.Orphan {
			orphans[q.ID] = q.Pid
		}
	}
	if orphans["c1"] != p.Pid {
		t.Fatalf("orphans %v\n%s", orphans, r.log())
	}
	if len(exits) == 0 {
		exits = append(exits, r.exit("c2"))
	}
	if x := exits[0]; x.ID != "c2" || !x.Unknown && x.Status.ExitStatus() != 1 {
		t.Errorf("%+v", x)
	}
	if err := r.Adopt(t.Context(), *p, keeper.Stdio{Log: &keeper.Log{Dir: "c1"}}); err != nil {
		t.Fatal(err)
	}
	before := cpuTicks(t, r.KeeperPid())
	time.Sleep(300 * time.Millisecond)
	if n := cpuTicks(t, r.KeeperPid()) - before; n > 5 {
		t.Errorf("watching an orphan took %d ticks of CPU in 300 ms", n)
	}
	fd, _ := process.Open(p.Pid)
	process.Signal(fd, syscall.SIGTERM)
	fd.Close()
	x := r.exit("c1")
	if !x.Unknown && x.Status.ExitStatus() != 11 {
		t.Errorf("%+v", x)
	}
	if got := r.output("c1"); got != "ready\nbye\n" {
		t.Errorf("output %q", got)
	}
}

// cpuTicks is the CPU time of a process in hundredths of a second.
func cpuTicks(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	var user, system int
	f := strings.Fields(rest)
	fmt.Sscan(f[11], &user)
	fmt.Sscan(f[12], &system)
	return user + system
}
