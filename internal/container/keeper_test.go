package container

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/keeper"
	kernel "github.com/tare-engine/tare/internal/linux/process"
)

// fakeKeeper has processes and exits as a keeper has, for one engine. It starts
// nothing and waits for nobody: what runs and what has ended is the test's to
// say.
type fakeKeeper struct {
	keeperConn // nil: what no test asks for

	pid   int    // who is asked to end with it; 0: nobody
	adopt func() // if set, is called at the begin of Adopt

	mu    sync.Mutex
	procs map[string]keeper.Process
	exits map[string]keeper.Exit // not acknowledged
	calls []string               // what was asked for that changes anything, and of whom
	ev    keeper.Events          // nil: no engine, or it has left
	lost  bool
}

func newFakeKeeper(procs ...keeper.Process) *fakeKeeper {
	k := &fakeKeeper{procs: map[string]keeper.Process{}, exits: map[string]keeper.Exit{}}
	for _, p := range procs {
		k.procs[p.ID] = p
	}
	return k
}

// ask is what every request begins with; unlock afterwards.
func (k *fakeKeeper) ask(call ...string) error {
	k.mu.Lock()
	if k.lost {
		return keeper.ErrLost
	}
	k.calls = append(k.calls, call...)
	return nil
}

func (k *fakeKeeper) List(context.Context) ([]keeper.Process, []keeper.Exit, error) {
	defer k.mu.Unlock()
	if err := k.ask(); err != nil {
		return nil, nil, err
	}
	return slices.Collect(maps.Values(k.procs)), slices.Collect(maps.Values(k.exits)), nil
}

// Adopt, as the keeper's, takes an orphan, or a process that it knows nothing
// of if that lives.
func (k *fakeKeeper) Adopt(_ context.Context, p keeper.Process, _ keeper.Stdio) error {
	if k.adopt != nil {
		k.adopt()
	}
	defer k.mu.Unlock()
	if err := k.ask("adopt " + p.ID); err != nil {
		return err
	}
	switch known, ok := k.procs[p.ID]; {
	case ok && (!known.Orphan || known.Pid != p.Pid):
		return errdefs.New(errdefs.Conflict, "process %s is not an orphan", p.ID)
	case !alive(p.Pid, p.StartTicks):
		return errdefs.New(errdefs.NotFound, "process %s", p.ID)
	}
	k.procs[p.ID] = p
	return nil
}

func (k *fakeKeeper) Hold(_ context.Context, id string, ports []*os.File) error {
	defer k.mu.Unlock()
	if err := k.ask("hold " + id); err != nil {
		return err
	}
	p, ok := k.procs[id]
	if !ok {
		return errdefs.New(errdefs.NotFound, "process %s", id)
	}
	p.Ports = len(ports)
	k.procs[id] = p
	return nil
}

func (k *fakeKeeper) Evict(_ context.Context, id string) error {
	defer k.mu.Unlock()
	if err := k.ask("evict " + id); err != nil {
		return err
	}
	if !k.procs[id].Parked {
		return errdefs.New(errdefs.NotFound, "no parked child %s", id)
	}
	delete(k.procs, id)
	return nil
}

func (k *fakeKeeper) Ack(_ context.Context, id string) error {
	defer k.mu.Unlock()
	if err := k.ask("ack " + id); err != nil {
		return err
	}
	delete(k.exits, id)
	return nil
}

func (k *fakeKeeper) KeeperPid() int { return k.pid }

func (k *fakeKeeper) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ev, k.lost = nil, true
	return nil
}

// end is the end of a process, which is told if an engine is there.
func (k *fakeKeeper) end(id string, ws syscall.WaitStatus) {
	k.mu.Lock()
	p := k.procs[id]
	delete(k.procs, id)
	e := keeper.Exit{ID: id, Container: p.Container, Pid: p.Pid, Status: ws, At: time.Now()}
	k.exits[id] = e
	ev := k.ev
	k.mu.Unlock()
	if ev != nil {
		ev.Exited(e)
	}
}

// next is the keeper after this one is killed. It finds what runs in its folder:
// orphans, of whose streams it has none.
func (k *fakeKeeper) next() *fakeKeeper {
	k.mu.Lock()
	defer k.mu.Unlock()
	next := newFakeKeeper()
	for id, p := range k.procs {
		if !p.Parked {
			p.Orphan, p.Files, p.Ports = true, keeper.Files{}, 0
			next.procs[id] = p
		}
	}
	maps.Copy(next.exits, k.exits)
	return next
}

// hang lets every request fail from now on; the engine is not told.
func (k *fakeKeeper) hang() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lost = true
}

// kill ends the keeper, which an engine that is there is told.
func (k *fakeKeeper) kill() {
	k.mu.Lock()
	ev := k.ev
	k.ev, k.lost = nil, true
	k.mu.Unlock()
	if ev != nil {
		ev.Lost(keeper.ErrLost)
	}
}

// asked returns what the keeper was asked for.
func (k *fakeKeeper) asked() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.calls)
}

// unacknowledged reports whether the keeper has an exit that it would tell again.
func (k *fakeKeeper) unacknowledged(id string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.exits[id]
	return ok
}

func (k *fakeKeeper) process(id string) (keeper.Process, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p, ok := k.procs[id]
	return p, ok
}

// child is a real process, for what asks the kernel.
type child struct {
	keeper.Process
	cmd *exec.Cmd
}

// newChild starts a process that ends with the test, by SIGKILL or before.
func newChild(t *testing.T, id string) *child {
	t.Helper()
	c := &child{cmd: exec.Command("sleep", "1000")}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.end() })
	ticks, err := kernel.StartTicks(c.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	c.Process = keeper.Process{ID: id, Pid: c.cmd.Process.Pid, StartTicks: ticks, Started: time.Now()}
	return c
}

// end ends the process and reaps it.
func (c *child) end() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

func (c *child) orphan() keeper.Process {
	p := c.Process
	p.Orphan = true
	return p
}

// endedBy is the signal that somebody has ended the process with, 0 if nobody
// has. It has ended then: of two signals the first is what it ends by.
func (c *child) endedBy() syscall.Signal {
	const own = syscall.SIGUSR1 // which nobody has us ignore, as nohup(1) does SIGHUP
	c.cmd.Process.Signal(own)
	c.cmd.Wait()
	ws, _ := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ws.Signal() == own {
		return 0
	}
	return ws.Signal()
}

func (c *child) killed() bool { return c.endedBy() == syscall.SIGKILL }
