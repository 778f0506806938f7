package container

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/keeper"
	kernel "github.com/tare-engine/tare/internal/linux/process"
)

// execKept is how long an ended exec can still be inspected.
const execKept = 5 * time.Minute

// Exec is one further process of a container. Its fields below mu change.
type Exec struct {
	ID        string
	Container string
	Request   container.ExecCreateRequest
	loaded    bool // an earlier engine has started it

	mu      sync.Mutex
	started bool
	running bool
	pid     int
	ticks   uint64 // when the process began: tells a reused pid
	begun   time.Time

	endsWithClient bool
	files          keeper.Files
	done           *turn

	exitCode atomic.Pointer[int] // written below mu; nil: it has not ended
}

// ExecView is a picture of an exec.
type ExecView struct {
	ID, Container string
	Request       container.ExecCreateRequest
	Running       bool
	Pid           int
	ExitCode      *int
}

// execTable holds the execs of all containers.
type execTable struct {
	mu   sync.Mutex
	byID map[string]*Exec
}

func newExecTable() *execTable { return &execTable{byID: map[string]*Exec{}} }

func (t *execTable) add(x *Exec) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byID[x.ID] = x
}

func (t *execTable) get(id string) *Exec {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byID[id]
}

func (t *execTable) drop(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byID, id)
}

func (t *execTable) list() []*Exec {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Values(t.byID))
}

// of returns the IDs of a container's execs that have not ended.
func (t *execTable) of(container string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ids []string
	for id, x := range t.byID {
		if x.Container == container && x.exitCode.Load() == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// closeStdin drops our duplicate of an exec's input; false: no such exec.
func (t *execTable) closeStdin(id string) bool {
	x := t.get(id)
	if x == nil {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.files.Stdin != nil {
		x.files.Stdin.Close()
		x.files.Stdin = nil
	}
	return true
}

// adopt takes the streams of an exec from a keeper that we connect with again.
func (x *Exec) adopt(p *keeper.Process) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.files.Close()
	x.files, x.running, x.pid, x.ticks, x.begun = p.Files, true, p.Pid, p.StartTicks, p.Started
}

// losesClients reports whether the exec is to end because its client was that
// of a keeper which is gone.
func (x *Exec) losesClients(p *keeper.Process) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.endsWithClient && p.Orphan
}

// reportPatience bounds the wait for the keeper's report of an end that we see
// ourselves.
const reportPatience = 5 * time.Second

// awaitEnd waits for the report of an exec whose process has ended, or is about
// to. Clients ask for the exit code as soon as the stream has ended, which they
// learn from the keeper, and may be faster than its report, and than the kernel
// on its way from closing the process's files to its end.
func (x *Exec) awaitEnd() {
	x.mu.Lock()
	ended := x.running && leaves(x.pid, x.ticks)
	x.mu.Unlock()
	if ended {
		ctx, cancel := context.WithTimeout(context.Background(), reportPatience)
		defer cancel()
		x.done.wait(ctx)
	}
}

// leaves reports whether a process has ended or is about to.
func leaves(pid int, ticks uint64) bool { return kernel.Ending(pid) || !alive(pid, ticks) }

// alive reports whether a process is there, is the one that began at that
// time, and has not ended.
func alive(pid int, ticks uint64) bool {
	fd := openProcess(pid, ticks)
	if fd == nil {
		return false
	}
	defer fd.Close()
	ended, err := kernel.Ended(fd)
	return err == nil && !ended
}
