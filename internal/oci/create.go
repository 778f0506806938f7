package oci

import (
	"fmt"
	"os"
	"strconv"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/cgroup"
	"github.com/tare-engine/tare/internal/linux/fifo"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/linux/spawn"
	"github.com/tare-engine/tare/internal/runtime"
	"github.com/tare-engine/tare/internal/undo"
)

// CreateOptions say how a container is made from a bundle.
type CreateOptions struct {
	ID, Bundle    string
	ConsoleSocket string                   // path of the socket that takes the terminal's master
	Console       func() (*os.File, error) // or such a socket; closed when the child has it
	PidFile       string
	NoPivot       bool
	NoKeyring     bool
	SystemdCgroup bool       // the cgroup is a scope of systemd's, see scopeOf
	Preserve      []*os.File // the program's descriptors 3, 4, 5 …
	Env           []string   // added to the process's
	Run           bool       // start it too: the program runs when Create returns
	Notify        string     // address of the caller's socket for readiness, which the container gets one of its own for; "": none

	Warn func(format string, args ...any)
}

// creation is a container being made.
type creation struct {
	CreateOptions
	root  Root
	b     *bundle
	c     *Container
	scope cgroup.Scope // with SystemdCgroup
	group *cgroup.Group
	l     *launcher
	gate  *gate
	child *child
	start *runtime.Start
	maps  idMaps     // of a user namespace that is joined
	files []*os.File // ours, until the child has them
}

// Create makes a container. Its first process is set up and waits for Start,
// or, with Run, has become the program: it is the caller's child either way. A
// failed creation leaves nothing.
func (r Root) Create(o CreateOptions) (_ *Container, err error) {
	b, err := openBundle(o.Bundle)
	if err != nil {
		return nil, err
	}
	if n := dropUnknownCaps(b.spec.Process); len(n) > 0 {
		o.Warn("ignoring unknown or unavailable capabilities: %q", n)
	}
	for _, text := range runtime.Ignored(b.spec) {
		o.Warn("%s", text)
	}
	r.debug("container %s: bundle %s, root file system %s", o.ID, b.dir, b.rootfs)
	var u undo.Stack
	defer u.Run(&err)
	k := &creation{CreateOptions: o, root: r, b: b}
	if err := k.register(&u); err != nil {
		return nil, err
	}
	defer k.c.Close()
	if err := k.makeCgroup(&u); err != nil {
		return nil, err
	}
	if err := k.launch(); err != nil {
		k.stopHooks()
		k.c.Ready.Close()
		return nil, fmt.Errorf("unable to start container process: %w", reason(err))
	}
	return k.c, nil
}

// register reserves the id and writes the first record: from here on Delete
// finds whatever there is.
func (k *creation) register(u *undo.Stack) (err error) {
	if k.c, err = k.root.reserve(k.ID); err != nil {
		return err
	}
	u.Add(k.c.forget)
	k.c.config = k.b.spec
	k.c.record = record{
		Version: recordVersion, ID: k.ID, Bundle: k.b.dir, Rootfs: k.b.rootfs, Created: time.Now().UTC(),
		Owner: os.Getuid(), Boot: bootID(),
	}
	if err := k.locate(); err != nil {
		return err
	}
	if err := os.WriteFile(k.c.file(configFile), k.b.raw, 0o600); err != nil {
		return err
	}
	if k.Notify != "" {
		if err := k.c.makeNotifyDir(); err != nil {
			return err
		}
	}
	return k.c.save()
}

func (k *creation) makeCgroup(u *undo.Stack) error {
	if k.SystemdCgroup {
		return k.makeScope(u)
	}
	g, made, err := cgroup.Ensure(k.c.Cgroup, resourcesOf(k.b.spec))
	if err != nil {
		return err
	}
	k.group = g
	k.root.debug("container %s: cgroup %s, made %t", k.ID, k.c.Cgroup, made)
	if made {
		u.Add(func() error { return removeGroup(g) })
	}
	return nil
}

// launch starts the first process and leads it through its sync points.
func (k *creation) launch() (err error) {
	if k.gate, err = newGate(); err != nil {
		return err
	}
	defer k.gate.close()
	defer k.closeFiles()
	if err := k.newLauncher(); err != nil {
		return err
	}
	defer k.l.close()
	if err := k.build(); err != nil {
		return err
	}
	defer k.start.Close()
	k.root.debug("container %s: the first process does: %v", k.ID, spawn.Outline{Plan: k.start.Plan})
	if err := k.clone(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			k.child.kill()
		}
		k.child.close()
	}()
	for _, s := range k.start.SyncPoints {
		if err := k.child.await(k.gate.out); err != nil {
			return err
		}
		k.root.debug("container %s: process %d waits at sync point %v", k.ID, k.child.first, s)
		if err := k.at(s); err != nil {
			return err
		}
		if err := runtime.Pass(k.gate.in); err != nil {
			return err
		}
	}
	if k.Run {
		return k.ran()
	}
	return nil
}

// build makes the plan.
func (k *creation) build() error {
	root, err := mount.Clone(k.b.rootfs, true)
	if err != nil {
		return fmt.Errorf("invalid rootfs: %w", err)
	}
	k.files = append(k.files, root)
	c := runtime.Config{
		ID: k.ID, Spec: k.spec(), Root: root, CgroupProcs: k.group.ProcsPaths(), CgroupFD: k.group.FD(),
		RootPath: k.b.rootfs, NoPivot: k.NoPivot, NoKeyring: k.NoKeyring, InUserNS: k.maps.joined,
		Waiting: runtime.Waiting{Gate: &k.gate.child, SyncPoints: k.syncPoints(), Preserve: k.Preserve},
	}
	if !k.Run {
		if c.Start, err = k.makeFIFO(); err != nil {
			return err
		}
		k.files = append(k.files, c.Start)
	}
	k.start, err = runtime.NewStart(c)
	return err
}

func (k *creation) closeFiles() {
	for _, f := range append(k.files, k.Preserve...) {
		f.Close()
	}
}

// spec is the bundle's, with what the command line adds. The plan's cgroup
// limits are none of its business.
func (k *creation) spec() *specs.Spec {
	s := *k.b.spec
	p := *s.Process
	p.Env = append(p.Env[:len(p.Env):len(p.Env)], k.Env...)
	s.Process = &p
	if k.Notify != "" {
		withNotify(&s, k.c.file(notifyDir))
	}
	if k.maps.joined {
		l := *s.Linux
		l.UIDMappings, l.GIDMappings = k.maps.uids, k.maps.gids
		s.Linux = &l
	}
	return &s
}

func (k *creation) syncPoints() []runtime.SyncPoint {
	points := []runtime.SyncPoint{runtime.SyncReady}
	l := k.b.spec.Linux
	if notifies(l.Seccomp) || l.Seccomp != nil && l.Seccomp.ListenerPath != "" {
		points = append(points, runtime.SyncFilter)
	}
	if k.SystemdCgroup || has(k.b.spec, specs.UserNamespace) || len(l.NetDevices) > 0 || l.IntelRdt != nil {
		points = append(points, runtime.SyncBorn)
	}
	//lint:ignore SA1019 prestart hooks are deprecated, and still used
	if h := k.b.spec.Hooks; h != nil && len(h.Prestart)+len(h.CreateRuntime)+len(h.CreateContainer) > 0 {
		points = append(points, runtime.SyncHooks)
	}
	return points
}

// makeFIFO makes the FIFO at which the process waits for Start. Opened for
// both, its read blocks though nobody writes, and Start finds a reader.
func (k *creation) makeFIFO() (*os.File, error) {
	if err := fifo.Make(k.c.file(fifoFile), 0, 0); err != nil {
		return nil, err
	}
	fd, err := fifo.Both(k.c.file(fifoFile))
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), fifoFile), nil
}

func (k *creation) clone() error {
	stdio, done, err := k.stdio()
	if err != nil {
		return err
	}
	defer done()
	s := k.start
	k.child, err = k.l.start(image{s.Image, s.Second, s.Flags, s.CgroupFD, s.FDs, explainer(s.Explain)}, stdio)
	k.gate.cloned()
	return err
}

// at does what belongs to a sync point.
func (k *creation) at(s runtime.SyncPoint) error {
	switch s {
	case runtime.SyncBorn:
		return k.born()
	case runtime.SyncHooks:
		return k.createHooks()
	case runtime.SyncFilter:
		return k.filtered()
	case runtime.SyncReady:
		return k.ready()
	}
	return nil
}

// born does for the child what it has no rights to do itself.
func (k *creation) born() error {
	pid := k.child.first
	if err := k.group.Enter(pid); err != nil {
		return err
	}
	if err := k.netDevices(pid); err != nil {
		return err
	}
	if err := k.rdt(pid); err != nil {
		return err
	}
	if k.c.Rdt != "" {
		if err := k.c.save(); err != nil { // before the process has it, so that Delete finds it
			return err
		}
	}
	return k.start.Born(pid)
}

// ready records the process, which from here on outlives us.
func (k *creation) ready() error {
	k.c.Pid = k.child.pid()
	ticks, err := process.StartTicks(k.c.Pid)
	if err != nil {
		return err
	}
	k.c.Ticks = ticks
	if !k.Run {
		if err := k.findProgram(); err != nil {
			return err
		}
	}
	if err := k.c.save(); err != nil {
		return err
	}
	if k.PidFile != "" {
		if err := WritePid(k.PidFile, k.c.Pid); err != nil {
			return err
		}
	}
	if !k.Run {
		return nil
	}
	if k.c.Ready, err = k.c.listen(k.Notify); err != nil {
		return err
	}
	return k.c.startHooks()
}

// ran waits for the execve and runs the hooks after it.
func (k *creation) ran() error {
	if err := k.child.finish(); err != nil {
		return err
	}
	k.root.debug("container %s: process %d has executed the program", k.ID, k.c.Pid)
	return k.c.startedHooks()
}

// WritePid writes a pid file, whole or not at all.
func WritePid(name string, pid int) error {
	return writeFile(name, []byte(strconv.Itoa(pid)), 0o666)
}
