package oci

import (
	"errors"
	"fmt"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/linux/spawn"
	"github.com/tare-engine/tare/internal/runtime"
)

// ExecOptions say how a process is started in a container.
type ExecOptions struct {
	Process       *specs.Process
	ConsoleSocket string                   // path of the socket that takes the terminal's master
	Console       func() (*os.File, error) // or such a socket; closed when the child has it
	PidFile       string
	IgnorePaused  bool
	Preserve      []*os.File
	Cgroups       []string // existing groups below the container's: "path", or "controller,…:path" of some hierarchies
}

// execution is a process that is ready to be started in a container.
type execution struct {
	*runtime.Exec
	pidfd *os.File
	gate  *gate // of a filter with a listener; else nil
	at    func(*child) error
}

func (e *execution) Close() {
	if e.Exec != nil {
		e.Exec.Close()
	}
	e.pidfd.Close()
	if e.gate != nil {
		e.gate.close()
	}
}

// newExec builds the plans; path, if not empty, is the program instead of the
// first argument.
func (c *Container) newExec(p *specs.Process, path string, cgroups []string, preserve ...*os.File) (_ *execution, err error) {
	spec, err := c.Spec()
	if err != nil {
		return nil, err
	}
	uids, err := c.uids(spec)
	if err != nil {
		return nil, err
	}
	x := &execution{}
	defer func() {
		if err != nil {
			x.Close()
		}
	}()
	if x.pidfd, err = c.open(); err != nil {
		return nil, err
	}
	f := spec.Linux.Seccomp
	var childGate *runtime.Gate
	if f != nil && f.ListenerPath != "" {
		if x.gate, err = newGate(); err != nil {
			return nil, err
		}
		childGate = &x.gate.child
		x.at = func(k *child) error {
			return c.sendListener(k.first, k.slab.Slot(runtime.SlotListener), f, Running)
		}
	}
	procs, born, err := c.groups(cgroups)
	if err != nil {
		return nil, err
	}
	x.Exec, err = runtime.NewExec(runtime.ExecConfig{
		Gate:    childGate,
		Process: p, Seccomp: f, PidFD: x.pidfd, Pid: c.Pid, CgroupProcs: procs, CgroupFD: born,
		Program: path, UserNS: has(spec, specs.UserNamespace), UIDs: uids, Chroot: !ownMounts(spec), Preserve: preserve,
	})
	if err != nil {
		return nil, err
	}
	return x, nil
}

// groups are the files by which a process enters the container's cgroups, or
// those that are named below them, and the directory in which it can be born
// instead, nil if there is none; the caller closes it.
func (c *Container) groups(below []string) (procs []string, born *os.File, err error) {
	g, err := c.openGroup()
	if err != nil {
		return nil, nil, err
	}
	if len(below) == 0 {
		return g.ProcsPaths(), g.OpenToJoin(), nil
	}
	procs, err = procsBelow(g.Mounts(), g.Entry(), below)
	return procs, nil, err
}

// Exec starts a process in the container and returns its pid; it is our child.
func (c *Container) Exec(o ExecOptions) (pid int, err error) {
	status, err := c.Status()
	switch {
	case err != nil:
		return 0, err
	case status == Stopped || status == Creating:
		return 0, fmt.Errorf("cannot exec in a %s container", Stopped)
	case status == Paused && !o.IgnorePaused:
		return 0, errors.New("cannot exec in a paused container (use --ignore-paused to override)")
	}
	dropUnknownCaps(o.Process)
	e, err := c.newExec(o.Process, "", o.Cgroups, o.Preserve...)
	if err != nil {
		return 0, err
	}
	defer e.Close()
	c.root.debug("container %s: an exec does: %v; %v", c.ID, spawn.Outline{Plan: e.FirstPlan}, spawn.Outline{Plan: e.SecondPlan})
	stdio, done, err := console{o.ConsoleSocket, o.Console}.stdio(o.Process.Terminal, e.HostUID(int(o.Process.User.UID)))
	if err != nil {
		return 0, err
	}
	defer done()
	l, err := newLauncher(nil)
	if err != nil {
		return 0, err
	}
	defer l.close()
	if pid, err = spawnExec(l, e, stdio); err != nil {
		return 0, fmt.Errorf("unable to start container process: %w", err)
	}
	c.root.debug("container %s: process %d has executed %q", c.ID, pid, o.Process.Args)
	if o.PidFile != "" {
		if err := WritePid(o.PidFile, pid); err != nil {
			return 0, errors.Join(err, killChild(pid))
		}
	}
	return pid, nil
}

func killChild(pid int) error {
	pidfd, err := process.Open(pid)
	if err != nil {
		return err
	}
	defer pidfd.Close()
	err = process.Signal(pidfd, 9)
	wait(pid)
	return err
}
