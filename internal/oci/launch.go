package oci

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/spawn"
	"github.com/tare-engine/tare/internal/runtime"
)

// launcher clones children by a nursery of its own.
type launcher struct {
	region  *spawn.Region
	nursery *spawn.Nursery
}

// arenas: the nursery's, and a pair for each of two children at a time.
const arenas = 5

// newLauncher makes one; its children are in the user namespace, nil: ours.
func newLauncher(userns *os.File) (*launcher, error) {
	r, err := spawn.NewRegion(arenas)
	if err != nil {
		return nil, err
	}
	n, err := newNursery(r, userns)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return &launcher{r, n}, nil
}

// newNursery forks a nursery through which no container finds our program's
// file. Where the kernel cannot do that, Seal has replaced the file.
func newNursery(r *spawn.Region, userns *os.File) (*spawn.Nursery, error) {
	disguise := spawn.CanDisguise()
	switch {
	case !disguise && !sealed():
		return nil, errors.New("the program runs neither from a sealed file nor on a kernel with CONFIG_CHECKPOINT_RESTORE")
	case userns != nil:
		return r.NewNurseryIn(userns)
	case disguise:
		return r.NewDisguisedNursery()
	}
	return r.NewNursery()
}

func (l *launcher) close() {
	_ = l.nursery.Close()
	wait(l.nursery.Pid())
	l.nursery.Free()
	l.region.Close()
}

// image is what a child runs.
type image struct {
	plan, second spawn.Image
	flags        uint64
	cgroup       int // index in files, -1: none
	files        []*os.File
	explain      func(*spawn.StepError) error
}

// child is a child between its clone and its execve.
type child struct {
	l      *launcher
	im     image
	slab   *spawn.Slab
	first  int
	report *os.File
	done   bool // the first half is reaped
	dead   bool // and the second
}

// start clones a child with the three streams. The image's files stay the
// caller's.
func (l *launcher) start(im image, stdio [3]*os.File) (*child, error) {
	c := &child{l: l, im: im, slab: l.region.Get()}
	if c.slab == nil {
		return nil, syscall.EAGAIN
	}
	if err := c.load(); err != nil {
		c.slab.Put()
		return nil, err
	}
	r, w, err := pipe()
	if err != nil {
		c.slab.Put()
		return nil, err
	}
	c.report = r
	cg := im.cgroup
	if cg >= 0 {
		cg += spawn.FirstOwnFD - spawn.ReportFD
	}
	fds := append([]*os.File{w, stdio[0], stdio[1], stdio[2]}, im.files...)
	c.first, err = l.nursery.Start(c.slab, spawn.Options{Flags: im.flags, Cgroup: cg}, fds)
	w.Close()
	if err != nil {
		r.Close()
		c.slab.Put()
		return nil, fmt.Errorf("clone: %w", err)
	}
	return c, nil
}

func (c *child) load() error {
	if err := c.slab.Load(c.im.plan); err != nil {
		return err
	}
	if len(c.im.second.Bytes) > 0 {
		return c.slab.Pair(c.im.second)
	}
	return nil
}

func (c *child) paired() bool { return len(c.im.second.Bytes) > 0 }

// pid is the program's process. Of a pair it is known when the second half
// has reached a sync point or the execve.
func (c *child) pid() int {
	if !c.paired() {
		return c.first
	}
	c.reapFirst()
	return c.slab.SecondPid()
}

// reapFirst takes the first half's status: it ends once it has cloned the second.
func (c *child) reapFirst() {
	if !c.done {
		wait(c.first)
		c.done = true
	}
}

// await waits for a sync point; a child that ended instead tells why.
func (c *child) await(out *os.File) error {
	if err := runtime.AwaitSync(out); err != nil {
		return errors.Join(c.finish(), c.gone(err))
	}
	return nil
}

func (c *child) gone(err error) error {
	if c.report == nil { // finish has told
		return nil
	}
	return err
}

// finish waits for the execve; nil is success. A child that failed is reaped.
func (c *child) finish() error {
	if c.report == nil {
		return nil
	}
	b, err := io.ReadAll(c.report)
	c.report.Close()
	c.report = nil
	if err == nil && len(b) > 0 {
		r := c.slab.ReadReport(b)
		err = c.im.explain(&spawn.StepError{Errno: r.Errno, Step: r.Step, Second: r.Second})
	}
	if err != nil {
		c.kill()
	}
	return err
}

// kill ends both halves and reaps them.
func (c *child) kill() {
	if !c.done {
		_ = syscall.Kill(c.first, syscall.SIGKILL) // ours, and not reaped
		c.reapFirst()
	}
	if pid := c.slab.SecondPid(); c.paired() && !c.dead && pid > 0 {
		c.dead = true
		_ = syscall.Kill(pid, syscall.SIGKILL)
		wait(pid)
	}
}

// close gives the arena back; the child must have exec'ed or be reaped.
func (c *child) close() {
	if c.report != nil {
		c.report.Close()
		c.report = nil
	}
	c.slab.Put()
}

// wait reaps a child.
func wait(pid int) syscall.WaitStatus {
	var ws syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(pid, &ws, 0, nil); err != syscall.EINTR {
			return ws
		}
	}
}

// pipe makes a pipe whose ends block: nothing else goes on while we wait.
func pipe() (r, w *os.File, err error) {
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	return os.NewFile(uintptr(p[0]), "|0"), os.NewFile(uintptr(p[1]), "|1"), nil
}

// gate is a gate's both sides.
type gate struct {
	child   runtime.Gate
	out, in *os.File // ours
}

func newGate() (*gate, error) {
	r, w, err := pipe()
	if err != nil {
		return nil, err
	}
	r2, w2, err := pipe()
	if err != nil {
		r.Close()
		w.Close()
		return nil, err
	}
	return &gate{child: runtime.Gate{Out: w, In: r2}, out: r, in: w2}, nil
}

// cloned closes the child's ends: from now on its end is an end of file.
func (g *gate) cloned() {
	g.child.Out.Close()
	g.child.In.Close()
}

func (g *gate) close() {
	g.cloned()
	g.out.Close()
	g.in.Close()
}
