package server

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/keeper/reaper"
	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// runtimeWait is how long one command of an OCI runtime may take.
const runtimeWait = 2 * time.Minute

// runRuntime executes the commands of an OCI runtime. The first ends and leaves
// a process behind, which becomes our child with its end; the second lets that
// begin.
func (s *starter) runRuntime(b *begin, stdio []*os.File) error {
	// Whatever the process is, its end is kept until it is booked.
	booked := s.reaper.Cloning()
	defer booked()
	if err := s.command(b, b.Plan, stdio, true); err != nil {
		return s.withStderr(b, err)
	}
	failpoint.Hit("keeper/runtime-created")
	if err := s.takeLeft(b); err != nil {
		return err
	}
	booked()
	if len(b.Second.Bytes) == 0 {
		return nil
	}
	err := s.begins(b)
	if err != nil {
		s.kill(b.child)
	}
	return err
}

// withStderr adds what a runtime wrote before it failed.
func (s *starter) withStderr(b *begin, err error) error {
	if r, ok := errors.AsType[*wire.RuntimeError](err); ok {
		r.Stderr = s.streams.Stderr(b.ID)
	}
	return err
}

// takeLeft makes the process that the runtime has left our child.
func (s *starter) takeLeft(b *begin) error {
	pid, err := s.dir.ReadRuntimePid(b.ID)
	if err != nil {
		return fmt.Errorf("the runtime has left no process: %w", err)
	}
	s.reaper.Book(pid, b.child.hears())
	if err := s.checkOurs(b, pid); err != nil {
		s.reaper.Unbook(pid)
		return err
	}
	b.child.mounts = openMountNS(pid)
	b.child.setPid(pid)
	s.record(b.child)
	return nil
}

// checkOurs refuses a process that is not our child: nobody would tell us of its
// end. One that is not there must have been reaped by us.
func (s *starter) checkOurs(b *begin, pid int) error {
	parent, err := process.Parent(pid)
	if err == nil && parent == 0 { // read while it was being reaped
		err = syscall.ESRCH
	}
	if err == nil {
		if parent != os.Getpid() {
			return errdefs.New(errdefs.Conflict, "the runtime's process %d is a child of %d, not of the keeper", pid, parent)
		}
		return nil
	}
	for end := time.Now().Add(time.Second); len(b.child.heard) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("the runtime's process %d: %w", pid, err)
		}
	}
	return nil
}

// begins executes the second command, which speaks for itself: the process's
// own streams are not its.
func (s *starter) begins(b *begin) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	err = s.command(b, b.Second, []*os.File{null, null, null}, false)
	if r, ok := errors.AsType[*wire.RuntimeError](err); ok {
		r.Second = true
	}
	if e, ok := errors.AsType[*wire.StepError](err); ok {
		e.Second = true
	}
	return err
}

// command executes a plan to its program's end. The pid of the first one is
// left for the next keeper, should this one die: the engine ends it then.
func (s *starter) command(b *begin, plan spawn.Image, stdio []*os.File, first bool) error {
	slab := s.nursery.Get()
	if slab == nil {
		return errdefs.New(errdefs.Unavailable, "too many starts at once")
	}
	put := sync.OnceFunc(slab.Put)
	defer put()
	if err := slab.Load(plan); err != nil {
		return errdefs.As(errdefs.InvalidArgument, err)
	}
	report, child, err := os.Pipe()
	if err != nil {
		return err
	}
	defer report.Close()
	fds := append(append([]*os.File{child}, stdio...), b.FDs...)
	o := spawn.Options{Cgroup: -1}
	if first {
		pidFile, err := s.dir.OpenPidFile(b.ID)
		if err != nil {
			return errors.Join(err, child.Close())
		}
		defer pidFile.Close()
		o.PidFile = len(fds)
		fds = append(fds, pidFile)
	}
	booked := s.reaper.Cloning()
	defer booked()
	pid, err := s.nursery.Clone(slab, o, fds)
	child.Close()
	if err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	ended := make(chan reaper.End, 1)
	s.reaper.Book(pid, func(e reaper.End) { ended <- e })
	failpoint.Hit("keeper/runtime-cloned")
	said, err := readReport(report)
	if err != nil || len(said) > 0 {
		<-ended
		if err == nil {
			got := slab.ReadReport(said)
			err = &wire.StepError{Errno: got.Errno, Step: got.Step}
		}
		return err
	}
	put()
	if b.mayBeHeld() {
		b.release()
	}
	return awaitCommand(pid, ended)
}

// awaitCommand waits for the end of a runtime's command.
func awaitCommand(pid int, ended <-chan reaper.End) error {
	select {
	case e := <-ended:
		if e.Status != 0 {
			return &wire.RuntimeError{Status: e.Status}
		}
		return nil
	case <-time.After(runtimeWait):
	}
	if p, err := process.Open(pid); err == nil {
		process.Signal(p, syscall.SIGKILL)
		p.Close()
	}
	<-ended
	return errdefs.New(errdefs.Unavailable, "the runtime did not end within %v", runtimeWait)
}
