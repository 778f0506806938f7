package runtime

import (
	"os"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/inroot"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// Slots of a plan. Most descriptors live for a few steps only.
const (
	slotFS     = iota // file system being configured
	slotMount         // mount being made
	slotTarget        // where it goes
	slotTmp           // anything short
	slotProc          // the prepared trees, between the two parts
	slotDev
	slotSys
	slotDevpts  // the container's, for its terminal
	slotConsole // file for the terminal
	slotListener
	slotCgroup // … and following: the container's directory in each hierarchy
	maxCgroups = spawn.Slots - slotCgroup
)

// SlotListener holds the descriptor of the filter's listener at StopFilter.
const SlotListener = slotListener

const atCwd = -100 // AT_FDCWD

// builder is a plan being built, with all that belongs to it.
type builder struct {
	*spawn.Plan
	c    Config
	spec *specs.Spec

	mounts []*mountPoint
	masks  []mask
	ns     namespaces

	flags    uint64
	fds      []*os.File
	own      []*os.File
	cgroupFD int
	second   *spawn.Plan         // set if the program is started by a second clone
	exec     bool                // in a running container
	dry      bool                // the plan is compared, not run
	kept     []spawn.Arg         // of the descriptors for the second half: where they are
	stops    []Stop              // those that the plan has
	borrowed []specs.LinuxDevice // nodes of the host that are to be bound
	program  string              // instead of the process's first argument
	marks    []mark
	failed   error // of steps that cannot return one; see remount

	exact spawn.Arg // openat2's structure for targets, shared by all steps
	empty spawn.Arg // ""
}

// newBuilder checks the spec and opens what it names; no step exists yet.
func newBuilder(c Config) (_ *builder, err error) {
	if err := check(c); err != nil {
		return nil, err
	}
	b := newPlanBuilder()
	b.c, b.spec = c, c.Spec
	defer b.closeUnless(&err)
	if err := b.openNamespaces(); err != nil {
		return nil, err
	}
	if err := b.openMounts(); err != nil {
		return nil, err
	}
	return b, b.openMasks()
}

func newPlanBuilder() *builder {
	b := &builder{Plan: spawn.NewPlan(), cgroupFD: -1}
	b.constants()
	return b
}

// constants puts into the plan what many steps point to.
func (b *builder) constants() {
	b.exact = b.Words(spawn.Int(inroot.OPath|inroot.OCloexec), spawn.Nil, spawn.Int(inroot.ResolveInRoot|inroot.ResolveNoSymlinks|inroot.ResolveNoMagic))
	b.empty = b.Str("")
}

func (b *builder) closeUnless(err *error) {
	if *err != nil {
		for _, f := range b.own {
			f.Close()
		}
	}
}

// keep makes f part of the start: closed with it.
func (b *builder) keep(f *os.File) *os.File {
	b.own = append(b.own, f)
	return f
}

// pass gives the child the descriptor f.
func (b *builder) pass(f *os.File) spawn.Arg {
	for i, g := range b.fds {
		if f == g {
			return spawn.FD(i)
		}
	}
	b.fds = append(b.fds, f)
	return spawn.FD(len(b.fds) - 1)
}

// target opens path, which is resolved already, below the current root. A
// symbolic link anywhere on the way is an error.
func (b *builder) target(path string) {
	b.Do("target "+path, spawn.SysOpenat2, spawn.Int(atCwd), b.Str(path), b.exact, spawn.Int(inroot.HowSize)).To(slotTarget)
}

// move puts the mount m onto the descriptor in slotTarget, and closes both.
func (b *builder) move(name string, m spawn.Arg) {
	b.Do("mount "+name, spawn.SysMoveMount, m, b.empty, spawn.Slot(slotTarget), b.empty, spawn.Int(mount.MoveFromFD|mount.MoveToFD))
	b.close(slotTarget)
}

func (b *builder) close(slot int) { b.Do("close", spawn.SysClose, spawn.Slot(slot)) }

// setAttr changes the attributes of the mount m.
func (b *builder) setAttr(name string, m spawn.Arg, c mount.Change) {
	flags := mount.EmptyPath
	if c.Recursive {
		flags |= mount.Recursive
	}
	attr := b.Words(spawn.Int(uint64(c.Set)), spawn.Int(uint64(c.Clear)), spawn.Int(uint64(c.Propagation)), spawn.Nil)
	b.Do(name, spawn.SysMountSetattr, m, b.empty, spawn.Int(flags), attr, spawn.Int(mount.AttrSize))
}

// write writes text into the file at path below the descriptor dir.
func (b *builder) write(name string, dir spawn.Arg, path, text string) {
	b.Do(name, spawn.SysOpenat, dir, b.Str(path), spawn.Int(syscall.O_WRONLY|syscall.O_CLOEXEC)).To(slotTmp)
	b.Do(name, spawn.SysWrite, spawn.Slot(slotTmp), b.Str(text), spawn.Int(len(text)))
	b.close(slotTmp)
}
