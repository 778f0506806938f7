package runtime

import (
	"os"
	"strconv"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/inroot"
	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// ExecConfig says what is to be run in a running container.
type ExecConfig struct {
	Process *specs.Process
	Seccomp *specs.LinuxSeccomp

	PidFD       *os.File // of the container's init
	Pid         int      // the same; used to tell why a program did not start
	CgroupProcs []string // files of the container's cgroups to which it writes "0" to enter
	CgroupFD    *os.File // cgroup v2 directory in which it is born instead; nil: none. NewExec takes it over, also if it fails

	Rows, Cols uint16 // of the terminal, if the process has one

	Program  string // instead of the first argument, if not empty
	UserNS   bool   // the container has a user namespace of its own
	UIDs     []specs.LinuxIDMapping
	Gate     *Gate      // for SyncFilter, if the filter has a listener
	Chroot   bool       // it has no mount namespace of its own: its root is no mount there
	Preserve []*os.File // become the program's descriptors 3, 4, 5 …
}

// Exec is a process that is ready to be started in a running container, by two
// clones. The first is made outside the container's PID namespace: it joins
// all namespaces and cgroups and takes on ids, capabilities and filter. The
// second, which is the first thing of ours that the container can see, has
// nothing left to do but execve.
type Exec struct {
	FirstPlan, SecondPlan *spawn.Plan // for printing
	First, Second         spawn.Image
	FDs                   []*os.File // spawn.FD(0) is the pidfd
	CgroupFD              int        // index in FDs, -1: none

	explainer
	own []*os.File
}

// Close gives back what the exec had opened.
func (e *Exec) Close() {
	for _, f := range e.own {
		f.Close()
	}
	e.own = nil
}

// joinAll are the namespaces of the container that an exec joins by its pidfd.
// Joining one that is not the container's own is harmless. The user namespace
// is not among them: joining one's own is an error.
const joinAll = syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET | cloneNewCgroup

// NewExec checks the process and builds its two plans.
func NewExec(c ExecConfig) (_ *Exec, err error) {
	b := newPlanBuilder()
	defer b.closeUnless(&err)
	if c.CgroupFD != nil {
		b.keep(c.CgroupFD)
	}
	if err := checkProcess(c.Process); err != nil {
		return nil, err
	}
	b.c = Config{CgroupProcs: c.CgroupProcs, Rows: c.Rows, Cols: c.Cols}
	b.c.Preserve, b.program = c.Preserve, c.Program
	if c.Gate != nil {
		b.c.Gate, b.c.SyncPoints = c.Gate, []SyncPoint{SyncFilter}
	}
	if f := c.Seccomp; f != nil && f.ListenerPath != "" && c.Gate == nil {
		return nil, unsupported("linux.seccomp.listenerPath")
	}
	b.spec = &specs.Spec{Process: c.Process, Linux: &specs.Linux{Seccomp: c.Seccomp}}
	b.second, b.exec = spawn.NewPlan(), true
	if c.Process.ExecCPUAffinity == nil { // its two halves are before and after the entry
		b.c.CgroupFD = c.CgroupFD
	}
	root, err := os.OpenFile("/proc/"+strconv.Itoa(c.Pid)+"/root", inroot.OPath|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	b.keep(root)
	if err := b.join(c.PidFD, c.UserNS); err != nil {
		return nil, err
	}
	if c.Chroot {
		b.Do("into the root", spawn.SysFchdir, b.pass(root))
		b.Do("change root", spawn.SysChroot, b.Str("."))
	}
	if err := b.steps().dropBounding(); err != nil {
		return nil, err
	}
	if err := b.process(); err != nil {
		return nil, err
	}
	e := &Exec{FirstPlan: b.Plan, SecondPlan: b.second, First: b.Image(), Second: b.second.Image(), FDs: b.fds, CgroupFD: b.cgroupFD, own: b.own}
	e.explainer = explainer{first: b.marks, process: c.Process, program: c.Program, prefix: execFailed, names: b.StepName}
	e.explainer.root, e.explainer.uids = root, c.UIDs
	return e, nil
}

// join adds the steps of an exec that lead into the container.
func (b *builder) join(pidfd *os.File, user bool) error {
	fd := b.pass(pidfd)
	b.ResetSignals()
	b.Do("umask", spawn.SysUmask, spawn.Nil)
	steps := b.steps()
	dir, err := b.privateProc()
	if err != nil {
		return err
	}
	steps.oomScore(dir)
	if a := b.spec.Process.ExecCPUAffinity; a != nil {
		if err := steps.affinity("initial", a.Initial); err != nil {
			return err
		}
	}
	b.enterCgroups()
	if a := b.spec.Process.ExecCPUAffinity; a != nil {
		if err := steps.affinity("final", a.Final); err != nil {
			return err
		}
	}
	if err := steps.scheduling(); err != nil {
		return err
	}
	steps.keyring()
	if user { // afterwards it may lower them only
		if err := steps.rlimits(steps.aboveOurs()); err != nil {
			return err
		}
	}
	b.Do("join pid namespace", spawn.SysSetns, fd, spawn.Int(syscall.CLONE_NEWPID))
	b.joinOthers(fd, user)
	if user {
		// It was root of the host, whom the namespace does not know. As its own
		// root it may own a terminal, and nothing of it is the host's any more.
		b.Do("group of root", spawn.SysSetresgid, spawn.Nil, spawn.Nil, spawn.Nil).Ignore(int(syscall.EINVAL))
		b.Do("user root", spawn.SysSetresuid, spawn.Nil, spawn.Nil, spawn.Nil).Ignore(int(syscall.EINVAL))
	}
	return nil
}

// aboveOurs are the process's limits that are beyond those of the caller.
func (s processSteps) aboveOurs() (out []specs.POSIXRlimit) {
	for _, r := range s.p.Rlimits {
		n, err := resource(r.Type)
		if err == nil && process.HardLimit(n) < r.Hard {
			out = append(out, specs.POSIXRlimit{Type: r.Type, Hard: r.Hard, Soft: r.Hard})
		}
	}
	return out
}

// joinOthers joins all namespaces but the PID namespace. The kernel takes the
// user namespace first, whose rights cover the others then.
func (b *builder) joinOthers(pidfd spawn.Arg, user bool) {
	flags := joinAll
	if user {
		flags |= syscall.CLONE_NEWUSER
	}
	b.Do("join other namespaces", spawn.SysSetns, pidfd, spawn.Int(flags))
}

// NewHook builds the two plans of a program of the host that runs, with our
// rights, in the namespaces of a container that is being made: its root is
// still the host's.
func NewHook(pidfd *os.File, program string, args, env []string, user bool) (*Exec, error) {
	b := newPlanBuilder()
	p := &specs.Process{Args: args, Env: env}
	b.spec = &specs.Spec{Process: p, Linux: &specs.Linux{}}
	b.second, b.exec, b.program = spawn.NewPlan(), true, program
	fd := b.pass(pidfd)
	b.ResetSignals()
	b.Do("join pid namespace", spawn.SysSetns, fd, spawn.Int(syscall.CLONE_NEWPID))
	b.joinOthers(fd, user)
	b.Stdio()
	b.lastDescriptors()
	b.finish()
	e := &Exec{FirstPlan: b.Plan, SecondPlan: b.second, First: b.Image(), Second: b.second.Image(), FDs: b.fds, CgroupFD: b.cgroupFD}
	e.explainer = explainer{first: b.marks, process: p, program: program, names: b.StepName}
	return e, nil
}
