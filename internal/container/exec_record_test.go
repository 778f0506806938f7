package container

import (
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/ident"
)

// execRow is an exec that the last engine has left, and what becomes of it.
type execRow struct {
	name           string
	unrecorded     bool // of an engine that kept no records of execs
	alone          bool // its container does not run
	endsWithClient bool
	keeper         func(k *fakeKeeper, p *child)

	known  bool // it can be inspected
	runs   bool
	code   int
	killed bool
}

// What becomes of the execs that an earlier engine has started.
func TestExecsOfAnEarlierEngine(t *testing.T) {
	for _, row := range []execRow{
		{name: "running", keeper: hasProcess, known: true, runs: true},
		{name: "ended while no engine was there", keeper: hasExit, known: true, code: 3},
		{name: "never started", keeper: hasNothing},
		{name: "running, an orphan", keeper: hasOrphan, known: true, runs: true},
		{name: "ends with its client, running", endsWithClient: true, keeper: hasProcess, known: true, runs: true},
		{name: "ends with its client, an orphan", endsWithClient: true, keeper: hasOrphan, known: true, killed: true, code: 137},
		{name: "without record, running", unrecorded: true, keeper: hasProcess, known: true, runs: true},
		{name: "without record, an orphan", unrecorded: true, keeper: hasOrphan, killed: true},
		{name: "without record, of a container that does not run", unrecorded: true, alone: true, keeper: hasProcess, killed: true},
		{name: "without record, its exit", unrecorded: true, keeper: hasExit},
	} {
		t.Run(row.name, row.run)
	}
}

func (row *execRow) run(t *testing.T) {
	r := newReunited(t)
	c := r.container(ident.New())
	init, p := newChild(t, c.ID), newChild(t, ident.New())
	p.Container = c.ID
	k := newFakeKeeper()
	if !row.alone {
		r.believe(c, live{Pid: init.Pid, StartTicks: init.StartTicks})
		k.procs[c.ID] = init.Process
	}
	if !row.unrecorded {
		x := &Exec{ID: p.ID, Container: c.ID, Request: container.ExecCreateRequest{Cmd: []string{"true"}}, endsWithClient: row.endsWithClient}
		if err := r.records.putExec(x); err != nil {
			t.Fatal(err)
		}
	}
	row.keeper(k, p)
	if err := r.execs.load(); err != nil {
		t.Fatal(err)
	}
	r.meet(k)
	if p.cmd.ProcessState == nil && !row.runs && p.killed() != row.killed {
		t.Errorf("killed: %t", !row.killed)
	}
	if row.killed {
		k.end(p.ID, syscall.WaitStatus(syscall.SIGKILL))
		r.work.wait()
	}
	row.check(r, k, p)
	if row.runs { // its end is told like any other's
		p.end()
		k.end(p.ID, status3)
		r.work.wait()
		row.runs, row.code = false, 3
		row.check(r, k, p)
	}
}

func (row *execRow) check(r *reunited, k *fakeKeeper, p *child) {
	r.t.Helper()
	v, err := r.execs.Inspect(p.ID)
	switch {
	case row.known != (err == nil):
		r.t.Fatalf("inspect: %v", err)
	case err != nil:
	case v.Running != row.runs || row.runs && (v.ExitCode != nil || v.Pid != p.Pid):
		r.t.Errorf("running %t with pid %d, exit code %v", v.Running, v.Pid, v.ExitCode)
	case !row.runs && (v.ExitCode == nil || *v.ExitCode != row.code):
		r.t.Errorf("exit code %v, want %d", v.ExitCode, row.code)
	case !row.unrecorded && v.Request.Cmd[0] != "true":
		r.t.Errorf("request %+v", v.Request)
	}
	if _, err := os.Stat(r.records.execPath(p.ID)); (err == nil) != (row.runs && !row.unrecorded) {
		r.t.Errorf("its record: %v", err)
	}
	if k.unacknowledged(p.ID) {
		r.t.Error("its exit is not acknowledged")
	}
}

// A record that is none, or of a container that is not there, goes; what the
// keeper has of it is a stray.
func TestExecRecordsThatAreNone(t *testing.T) {
	r := newReunited(t)
	c := r.container(ident.New())
	good, lonely := ident.New(), newChild(t, ident.New())
	for _, x := range []*Exec{{ID: good, Container: c.ID}, {ID: lonely.ID, Container: ident.New()}} {
		if err := r.records.putExec(x); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{ident.New() + ".json": "{", "x.json": "{}", "." + good + ".json.tmp": ""} {
		if err := os.WriteFile(r.records.execs()+"/"+name, []byte(text), 0600); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.execs.load(); err != nil {
		t.Fatal(err)
	}
	if got := r.execs.Of(c.ID); !slices.Equal(got, []string{good}) || len(r.execs.list()) != 1 {
		t.Error("loaded:", got)
	}
	files, err := os.ReadDir(r.records.execs())
	if err != nil || len(files) != 1 || files[0].Name() != good+".json" {
		t.Error(files, err)
	}
	r.meet(newFakeKeeper(lonely.Process))
	if !lonely.killed() {
		t.Error("the process of an exec without container is left alone")
	}
}

// An exec whose start is not over when the keeper is replaced is the start's.
func TestReplacedKeeperLeavesNewExecsAlone(t *testing.T) {
	r := newReunited(t)
	c := r.container(ident.New())
	x := &Exec{ID: ident.New(), Container: c.ID, done: newTurn()}
	r.execs.add(x)
	r.meet(newFakeKeeper())
	if r.execs.get(x.ID) != x {
		t.Error("an exec that is yet to be started is dropped")
	}
}
