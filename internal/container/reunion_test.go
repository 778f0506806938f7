package container

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/event"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/keeper"
	kernel "github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/store"
)

// reunited is a service with its records on disk and no networks.
type reunited struct {
	*Service
	t         *testing.T
	ports     []*os.File // that each container has
	givenBack []string   // whose networks

	mu      sync.Mutex
	keepers []*fakeKeeper // that dial finds, one after the other, and the last for ever; nil: none answers
}

func newReunited(t *testing.T) *reunited {
	t.Helper()
	cfg := Config{DataRoot: t.TempDir(), ExecRoot: t.TempDir(), Cgroup: "tare-test-of-none", BootID: "this"}
	r := &reunited{Service: New(cfg, nil, nil, nil, event.NewLog(), store.New(), nil), t: t}
	r.link.dial = r.dial
	if err := r.records.prepare(); err != nil {
		t.Fatal(err)
	}
	giveBack := func(v *View) error { // below the container's lock
		r.givenBack = append(r.givenBack, v.ID)
		return nil
	}
	r.Service.exits.giveBack, r.far.giveBack = giveBack, giveBack
	r.far.heldPorts = func(string) []*os.File { return r.ports }
	return r
}

// finds says which keepers there will be.
func (r *reunited) finds(keepers ...*fakeKeeper) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keepers = keepers
}

func (r *reunited) dial(_ context.Context, ev keeper.Events) (keeperConn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.keepers[0]
	if len(r.keepers) > 1 {
		r.keepers = r.keepers[1:]
	}
	if k == nil {
		return nil, errors.New("no keeper answers")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ev = ev
	return k, nil
}

// container makes one that has never run.
func (r *reunited) container(id string) *Container {
	r.t.Helper()
	c := testContainer(r.t, r.index, id, "box-"+ident.Short(id))
	c.View().Version = recordVersion
	if err := os.Mkdir(r.records.dir(id), 0700); err != nil {
		r.t.Fatal(err)
	}
	return c
}

// believe has the service believe what a live record of the last engine says.
func (r *reunited) believe(c *Container, l live) {
	r.t.Helper()
	l.BootID, l.Cgroup, l.StartedAt = r.Service.cfg.BootID, r.Service.cfg.Cgroup+"/"+c.ID, time.Now()
	if err := r.records.putLive(c.ID, l); err != nil {
		r.t.Fatal(err)
	}
	r.newBoot().adopt(c)
}

// meet connects with a keeper, and returns when all that follows is done.
func (r *reunited) meet(k *fakeKeeper) {
	r.t.Helper()
	r.finds(k)
	if err := r.link.connect(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	r.work.wait()
}

// liveRecord is what the next engine would believe.
func (r *reunited) liveRecord(id string) *live {
	r.t.Helper()
	l, err := r.records.live(id)
	if err != nil {
		r.t.Fatal(err)
	}
	return l
}

// file is an open file, in place of a stream or a port.
func file(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func closed(f *os.File) bool {
	_, err := f.Stat()
	return err != nil
}

// belief is what we believe of a container's run before we connect.
type belief int

const (
	nothing belief = iota
	starting
	running
)

const status3 = syscall.WaitStatus(3 << 8)

// meeting is a row of reunion's table.
type meeting struct {
	name   string
	we     belief
	before bool // there was a run before, which ended with 9
	gone   bool // the process has ended before we look at all
	ports  int  // that we hold for it
	keeper func(k *fakeKeeper, p *child)

	status Status
	code   int
	asked  []string // of the keeper, about the container
	killed bool     // the process
}

// What keepers have.
func hasNothing(*fakeKeeper, *child)     {}
func hasProcess(k *fakeKeeper, p *child) { k.procs[p.ID] = p.Process }
func hasOnePort(k *fakeKeeper, p *child) { p.Ports = 1; k.procs[p.ID] = p.Process }
func hasOrphan(k *fakeKeeper, p *child)  { p.Orphan = true; k.procs[p.ID] = p.Process }
func hasParked(k *fakeKeeper, p *child)  { p.Parked = true; k.procs[p.ID] = p.Process }
func hasExit(k *fakeKeeper, p *child)    { p.end(); k.procs[p.ID] = p.Process; k.end(p.ID, status3) }

func TestReunion(t *testing.T) {
	for _, m := range []meeting{
		{name: "running, the process", we: running, keeper: hasProcess, status: Running},
		{name: "running, the process with all ports", we: running, ports: 1, keeper: hasOnePort, status: Running},
		{name: "running, the process with one port of two", we: running, ports: 2, keeper: hasOnePort, status: Running, asked: []string{"hold"}},
		{name: "running, an orphan", we: running, ports: 1, keeper: hasOrphan, status: Running, asked: []string{"adopt", "hold"}},
		{name: "running, its exit", we: running, keeper: hasExit, status: Exited, code: 3, asked: []string{"ack"}},
		{name: "running, nothing", we: running, ports: 1, keeper: hasNothing, status: Running, asked: []string{"adopt", "hold"}},
		{name: "running, nothing: gone", we: running, gone: true, keeper: hasNothing, status: Exited, code: unknownExit, asked: []string{"adopt"}},

		{name: "being started, the process", we: starting, ports: 1, keeper: hasOnePort, status: Running},
		{name: "being started, an orphan", we: starting, ports: 1, keeper: hasOrphan, status: Running, asked: []string{"adopt", "hold"}},
		{name: "being started, its exit", we: starting, keeper: hasExit, status: Exited, code: 3, asked: []string{"ack"}},
		{name: "being started, a parked process", we: starting, keeper: hasParked, status: Created, asked: []string{"evict"}},
		{name: "being started, nothing", we: starting, keeper: hasNothing, status: Created},
		{name: "being started again, nothing", we: starting, before: true, keeper: hasNothing, status: Exited, code: 9},

		{name: "nothing, nothing", keeper: hasNothing, status: Created},
		{name: "nothing, a process", keeper: hasProcess, status: Created, killed: true},
		{name: "nothing, an orphan", keeper: hasOrphan, status: Created, killed: true},
		{name: "nothing, a parked process", keeper: hasParked, status: Created, asked: []string{"evict"}},
		{name: "nothing, an exit", before: true, keeper: hasExit, status: Exited, code: 9, asked: []string{"ack"}},
	} {
		t.Run(m.name, m.run)
	}
}

func (m *meeting) run(t *testing.T) {
	r := newReunited(t)
	c := r.container(ident.New())
	p := newChild(t, c.ID)
	if m.before {
		rec := withRecord(c.View().Record, func(rec *Record) { rec.Last = Outcome{StartedAt: time.Now(), ExitCode: 9} })
		c.adopt(&View{Record: rec, Status: Exited})
	}
	if m.gone {
		p.end()
	}
	ours := file(t)
	switch m.we {
	case running:
		r.believe(c, live{Pid: p.Pid, StartTicks: p.StartTicks})
		c.process.files.Stdout = ours
	case starting:
		r.believe(c, live{})
	}
	for range m.ports {
		r.ports = append(r.ports, file(t))
	}
	k := newFakeKeeper()
	m.keeper(k, p)
	var theirs *os.File
	if has, ok := k.procs[c.ID]; ok && !has.Orphan {
		theirs = file(t)
		has.Stdout = theirs
		k.procs[c.ID] = has
	}
	r.meet(k)

	if v := c.View(); v.Status != m.status || v.Last.ExitCode != m.code {
		t.Errorf("%s with exit code %d, want %s with %d", v.Status, v.Last.ExitCode, m.status, m.code)
	}
	var asked []string
	for _, what := range m.asked {
		asked = append(asked, what+" "+c.ID)
	}
	if got := k.asked(); !slices.Equal(got, asked) {
		t.Errorf("the keeper was asked for %q, want %q", got, asked)
	}
	if m.status == Running {
		m.checkRun(r, c, k, p)
		m.checkStreams(t, c, k, ours, theirs)
	} else {
		m.checkOver(r, c, k)
	}
	if p.cmd.ProcessState == nil && p.killed() != m.killed {
		t.Errorf("the process was killed: %t", !m.killed)
	}
	if m.killed {
		m.checkStray(r, k, p, theirs)
	}
}

// checkRun looks whether the run goes on: for readers, for the next engine, and
// for the keeper.
func (m *meeting) checkRun(r *reunited, c *Container, k *fakeKeeper, p *child) {
	r.t.Helper()
	if v := c.View(); v.Pid != p.Pid || v.Last.StartedAt.IsZero() || c.process.fd == nil {
		r.t.Errorf("view: pid %d, started at %s", v.Pid, v.Last.StartedAt)
	}
	if l := r.liveRecord(c.ID); l == nil || l.Pid != p.Pid || l.StartTicks != p.StartTicks {
		r.t.Errorf("live record: %+v", l)
	}
	if has, ok := k.process(c.ID); !ok || has.Orphan || has.Ports != m.ports {
		r.t.Errorf("the keeper has %t: %+v, want %d ports", ok, has, m.ports)
	}
}

// checkStreams looks whether keeper and engine have the same streams.
func (m *meeting) checkStreams(t *testing.T, c *Container, k *fakeKeeper, ours, theirs *os.File) {
	t.Helper()
	if theirs != nil {
		if c.process.files.Stdout != theirs || closed(theirs) {
			t.Error("the keeper's streams are not taken")
		}
		if m.we == running && !closed(ours) {
			t.Error("the old streams are open")
		}
		return
	}
	if has, _ := k.process(c.ID); m.we == running && (has.Stdout != ours || closed(ours)) {
		t.Error("the keeper has not got our streams")
	}
}

// checkOver looks whether nothing is left of the run.
func (m *meeting) checkOver(r *reunited, c *Container, k *fakeKeeper) {
	r.t.Helper()
	if c.process != nil || c.View().Pid != 0 || r.liveRecord(c.ID) != nil || k.unacknowledged(c.ID) {
		r.t.Errorf("something is left: process %v, live record %+v", c.process, r.liveRecord(c.ID))
	}
	if rec, _, err := r.records.load(c.ID); m.we != nothing && m.code != 0 && !m.before && (err != nil || rec == nil || rec.Last.ExitCode != m.code) {
		r.t.Errorf("the record on disk: %v %v", rec, err)
	}
	if given := slices.Contains(r.givenBack, c.ID); given != (m.we != nothing) {
		r.t.Errorf("its ports and addresses are given back: %t", given)
	}
	select {
	case <-c.cleared:
	default:
		if c.cleared != nil {
			r.t.Error("the next run cannot begin")
		}
	}
}

// checkStray looks whether what was killed is forgotten when its end is told.
func (m *meeting) checkStray(r *reunited, k *fakeKeeper, p *child, theirs *os.File) {
	r.t.Helper()
	if theirs != nil && !closed(theirs) {
		r.t.Error("a stray's streams are open")
	}
	if !r.strays.alive[p.ID] {
		r.t.Error("nobody waits for the end of a stray")
	}
	k.end(p.ID, syscall.WaitStatus(syscall.SIGKILL))
	r.work.wait()
	if len(r.strays.alive) != 0 || k.unacknowledged(p.ID) {
		r.t.Error("the end of a stray is not acknowledged")
	}
}

// A process that no record speaks of.
func TestStrangersAreEnded(t *testing.T) {
	r := newReunited(t)
	stray, parked := newChild(t, ident.New()), newChild(t, ident.New())
	parked.Parked = true
	k := newFakeKeeper(stray.Process, parked.Process)
	r.meet(k)
	if !stray.killed() || parked.killed() {
		t.Error("killed: want the one that runs and not the parked one")
	}
	if got := k.asked(); !slices.Equal(got, []string{"evict " + parked.ID}) {
		t.Error(got)
	}
}

// The kernel may tell how a process ended that we held and the keeper knows
// nothing of.
func TestEndWithoutKeeperIsAskedOfTheKernel(t *testing.T) {
	r := newReunited(t)
	c := r.container(ident.New())
	p := newChild(t, c.ID)
	r.believe(c, live{Pid: p.Pid, StartTicks: p.StartTicks})
	held := openProcess(p.Pid, p.StartTicks)
	defer held.Close()
	p.end()
	r.meet(newFakeKeeper())
	want := unknownExit
	if _, ok := kernel.Status(held); ok { // Linux 6.15
		want = 128 + int(syscall.SIGKILL)
	}
	if got := c.View().Last.ExitCode; got != want {
		t.Errorf("exit code %d, want %d", got, want)
	}
}

// A record of another boot, or of a pid that has another process by now, is
// none.
func TestBootAdoptsOnlyWhatItWas(t *testing.T) {
	r := newReunited(t)
	other, reused := r.container(ident.New()), r.container(ident.New())
	p := newChild(t, reused.ID)
	if err := r.records.putLive(other.ID, live{BootID: "another", Pid: p.Pid, StartTicks: p.StartTicks}); err != nil {
		t.Fatal(err)
	}
	r.newBoot().adopt(other)
	if other.process != nil || other.View().Status != Created || r.liveRecord(other.ID) != nil {
		t.Error("a live record of another boot is believed")
	}
	r.believe(reused, live{Pid: p.Pid, StartTicks: p.StartTicks + 1})
	r.meet(newFakeKeeper())
	if v := reused.View(); v.Status != Exited || v.Last.ExitCode != unknownExit || p.killed() {
		t.Error("a process is taken for another that had its pid", v.Status, v.Last.ExitCode)
	}
}
