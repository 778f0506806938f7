package server

import (
	"fmt"
	"log/slog"
	"sync"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/keeper/reaper"
	"github.com/tare-engine/tare/internal/keeper/rundir"
	"github.com/tare-engine/tare/internal/keeper/stream"
	"github.com/tare-engine/tare/internal/keeper/wire"
)

// exits leads processes from their end to the engine's acknowledgement.
type exits struct {
	dir      rundir.Dir
	log      *slog.Logger
	streams  *stream.Streams
	children *children
	engine   *engines
	mounts   *mountHolder

	underWay sync.WaitGroup
}

// finishes returns what reports a child's end.
func (x *exits) finishes(c *child) func(reaper.End) {
	return func(e reaper.End) { x.underWay.Go(func() { x.finish(c, e) }) }
}

// finish reports the end of a child: what it wrote is in the log and with the
// clients before the exit is recorded, and the exit is recorded before it is
// told.
func (x *exits) finish(c *child, e reaper.End) {
	p := c.process
	exit := wire.Exit{ID: p.ID, Container: p.Container, Pid: p.Pid, Status: e.Status, At: e.At}
	if c.isParked() { // it ended by itself
		c.park.Close()
		c.slab.Put()
	} else {
		x.streams.Drain(p.ID, statusFrame(exit))
		failpoint.Hit("keeper/exit-drained")
		// Before the exit is told: then the ID may be started again.
		x.streams.Close(p.ID)
	}
	x.report(exit)
	x.mounts.drop(c.mounts)
}

// report records an exit, takes the child off the list, and tells.
func (x *exits) report(exit wire.Exit) {
	if err := x.dir.WriteExit(exit); err != nil {
		x.log.Error("exit is not recorded", "id", exit.ID, "error", err)
	}
	failpoint.Hit("keeper/exit-recorded")
	x.children.ended(exit)
	x.removeProcess(exit.ID) // after it is off the list: adopt writes the record and then looks
	failpoint.Hit("keeper/exit-listed")
	x.engine.tell(wire.OpExited, exit)
	failpoint.Hit("keeper/exit-told")
}

func (x *exits) removeProcess(id string) {
	if err := x.dir.RemoveProcess(id); err != nil {
		x.log.Warn("process record stays", "id", id, "error", err)
	}
}

// ack forgets an exit that the engine has recorded.
func (x *exits) ack(id string) error {
	if !wire.UsableID(id) {
		return errdefs.New(errdefs.InvalidArgument, "bad ID %q", id)
	}
	if x.children.get(id) != nil {
		return errdefs.New(errdefs.Conflict, "process %s has not ended", id)
	}
	x.streams.Remove(id)
	failpoint.Hit("keeper/ack-removed")
	err := x.dir.RemoveExit(id)
	if err == nil {
		x.children.forgetExit(id)
		x.engine.forget(id)
	}
	return err
}

// statusFrame is what a client with Status gets at the end: a document that
// package api calls RunStatus, in a frame of the system stream.
func statusFrame(x wire.Exit) []byte {
	code := x.Status.ExitStatus()
	if x.Status.Signaled() {
		code = 128 + int(x.Status.Signal())
	}
	return stream.SystemFrame(fmt.Sprintf(`{"Id":%q,"ExitCode":%d}`, x.ID, code))
}
