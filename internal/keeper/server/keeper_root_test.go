//go:build root

package server

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

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

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
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(filepath.Join(r.root, "exits", "c1.json")); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	r.dial()
	running, exits, err := r.List(t.Context())
	if err == nil && len(exits) == 0 { // written, and not entered yet: then it is told
		x := r.exit("c1")
		exits, running = append(exits, x), slices.DeleteFunc(running, func(p keeper.Process) bool { return p.ID == x.ID })
	}
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

// Whoever removes the exec root of an idle keeper must not leave one behind that
// can neither serve nor end.
func TestKeeperEndsWithoutItsSocket(t *testing.T) {
	r := newEngineRig(t)
	fd, err := process.Open(r.KeeperPid())
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	if err := os.Remove(keeper.SocketPath(r.root)); err != nil {
		t.Fatal(err)
	}
	if err := process.Signal(fd, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if over, err := process.Ended(fd); over || err != nil {
			break
		}
		if time.Now().After(end) {
			t.Errorf("the keeper is still there\n%s", r.log())
			break
		}
	}
	r.spawn() // what the rig ends
	r.dial()
}

// TestKeeperEndsAfterItsLastProcess: an engine may ask it to end, and go, while the last
// process is still on its way out.
func TestKeeperEndsAfterItsLastProcess(t *testing.T) {
	r := newEngineRig(t)
	fd, err := process.Open(r.KeeperPid())
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	p := r.run(container("c1", "sleep 100"))
	p.Files.Close()
	r.Conn.Close()
	if err := process.Signal(fd, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); !strings.Contains(r.log(), "not yet at an end"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the keeper has not heard\n%s", r.log())
		}
	}
	if over, err := process.Ended(fd); over || err != nil {
		t.Fatalf("it ended before its process: %v", err)
	}
	if err := syscall.Kill(p.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if over, err := process.Ended(fd); over || err != nil {
			break
		}
		if time.Now().After(end) {
			t.Errorf("the keeper is still there\n%s", r.log())
			break
		}
	}
	r.spawn() // what the rig ends
	r.dial()
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
