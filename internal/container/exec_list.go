package container

import (
	"cmp"
	"errors"
	"os"
	"slices"
	"syscall"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	kernel "github.com/tare-engine/tare/internal/linux/process"
)

// List describes the container's execs that have not ended, in the order
// they were started.
func (all *Execs) List(ref string) ([]api.ExecSummary, error) {
	c, err := all.index.Find(ref)
	if err != nil {
		return nil, err
	}
	list := []api.ExecSummary{}
	for _, id := range all.of(c.ID) {
		if x := all.get(id); x != nil { // else it has just been dropped
			list = append(list, x.summary())
		}
	}
	slices.SortFunc(list, func(a, b api.ExecSummary) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}

func (x *Exec) summary() api.ExecSummary {
	x.mu.Lock()
	defer x.mu.Unlock()
	return api.ExecSummary{
		ID: x.ID, ContainerID: x.Container, Pid: x.pid, Command: x.Request.Cmd, User: x.Request.User, Started: x.begun, Running: x.running,
	}
}

// Kill sends a signal, SIGKILL if name is empty, to an exec's process. It
// gives a Conflict if that does not run.
func (all *Execs) Kill(id, name string) error {
	x := all.get(id)
	if x == nil {
		return errNoExec(id)
	}
	sig := syscall.SIGKILL
	if name != "" {
		var err error
		if sig, err = spec.ParseSignal(name); err != nil {
			return err
		}
	}
	x.mu.Lock()
	running, pid, ticks := x.running, x.pid, x.ticks
	x.mu.Unlock()
	ended := errdefs.New(errdefs.Conflict, "exec %s is not running", id)
	if !running {
		return ended
	}
	fd := openProcess(pid, ticks)
	if fd == nil {
		return ended
	}
	defer fd.Close()
	err := kernel.Signal(fd, sig)
	if errors.Is(err, os.ErrProcessDone) {
		return ended
	}
	return err
}

func errNoExec(id string) error {
	return errdefs.New(errdefs.NotFound, "No such exec instance: %s", id)
}
