package runtime

import (
	"os"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/inroot"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/linux/proc"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// draft is a plan with the descriptors that it passes and those that were
// opened for it. What several parts of a plan do alike is its methods.
type draft struct {
	*spawn.Plan
	fds    []*os.File // spawn.FD(0), FD(1) …
	own    []*os.File // closed with the start
	marks  []mark
	failed error // of steps that cannot return one; see remount

	exact spawn.Arg // openat2's structure for targets, shared by all steps
	empty spawn.Arg // ""
}

func newDraft() *draft {
	d := &draft{}
	d.begin()
	return d
}

// begin begins a plan: another message, other descriptors. What was opened
// stays.
func (d *draft) begin() {
	d.Plan, d.fds, d.marks = spawn.NewPlan(), nil, nil
	d.exact = d.Words(spawn.Int(inroot.OPath|inroot.OCloexec), spawn.Nil, spawn.Int(inroot.ResolveInRoot|inroot.ResolveNoSymlinks|inroot.ResolveNoMagic))
	d.empty = d.Str("")
}

func (d *draft) closeUnless(err *error) {
	if *err != nil {
		for _, f := range d.own {
			f.Close()
		}
	}
}

// keep makes f part of the start: closed with it.
func (d *draft) keep(f *os.File) *os.File {
	d.own = append(d.own, f)
	return f
}

// pass gives the child the descriptor f.
func (d *draft) pass(f *os.File) spawn.Arg {
	for i, g := range d.fds {
		if f == g {
			return spawn.FD(i)
		}
	}
	d.fds = append(d.fds, f)
	return spawn.FD(len(d.fds) - 1)
}

// target opens path, which is resolved already, below the current root. A
// symbolic link anywhere on the way is an error.
func (d *draft) target(path string) {
	d.Do("target "+path, spawn.SysOpenat2, spawn.Int(atCwd), d.Str(path), d.exact, spawn.Int(inroot.HowSize)).To(slotTarget)
}

// targetLink is target for a path whose end may be a symbolic link: the target is
// the link then.
func (d *draft) targetLink(path string) {
	how := d.Words(spawn.Int(inroot.OPath|inroot.OCloexec|inroot.ONoFollow), spawn.Nil, spawn.Int(inroot.ResolveInRoot|inroot.ResolveNoSymlinks|inroot.ResolveNoMagic))
	d.Do("target "+path, spawn.SysOpenat2, spawn.Int(atCwd), d.Str(path), how, spawn.Int(inroot.HowSize)).To(slotTarget)
}

// move puts the mount m onto the descriptor in slotTarget, and closes both.
func (d *draft) move(name string, m spawn.Arg) {
	d.Do("mount "+name, spawn.SysMoveMount, m, d.empty, spawn.Slot(slotTarget), d.empty, spawn.Int(mount.MoveFromFD|mount.MoveToFD))
	d.close(slotTarget)
}

func (d *draft) close(slot int) { d.Do("close", spawn.SysClose, spawn.Slot(slot)) }

// setAttr changes the attributes of the mount m.
func (d *draft) setAttr(name string, m spawn.Arg, c mount.Change) {
	flags := mount.EmptyPath
	if c.Recursive {
		flags |= mount.Recursive
	}
	attr := d.Words(spawn.Int(uint64(c.Set)), spawn.Int(uint64(c.Clear)), spawn.Int(uint64(c.Propagation)), spawn.Nil)
	d.Do(name, spawn.SysMountSetattr, m, d.empty, spawn.Int(flags), attr, spawn.Int(mount.AttrSize))
}

// write writes text into the file at path below the descriptor dir.
func (d *draft) write(name string, dir spawn.Arg, path, text string) {
	d.Do(name, spawn.SysOpenat, dir, d.Str(path), spawn.Int(syscall.O_WRONLY|syscall.O_CLOEXEC)).To(slotTmp)
	d.Do(name, spawn.SysWrite, spawn.Slot(slotTmp), d.Str(text), spawn.Int(len(text)))
	d.close(slotTmp)
}

// mark says what the steps from here on are about.
func (d *draft) mark(m mark) {
	m.from = d.Len()
	d.marks = append(d.marks, m)
}

func (d *draft) passAll(files []*os.File) []spawn.Arg {
	out := make([]spawn.Arg, len(files))
	for i, f := range files {
		out[i] = d.pass(f)
	}
	return out
}

// privateProc passes the procfs that is mounted nowhere.
func (d *draft) privateProc() (spawn.Arg, error) {
	f, err := proc.Private()
	if err != nil {
		return spawn.Nil, err
	}
	return d.pass(f), nil
}

// legacyFD is a descriptor's number that a path can name: those in slots are
// known only when the plan runs. It is below the soft limit of files.
const legacyFD = 1000

// remount gives the attached mount m exactly these attributes, and the
// propagation of c if it has one. The path is that of the descriptor in a
// procfs which is mounted nowhere, so nothing can stand in its way.
func (d *draft) remount(name string, m spawn.Arg, a mount.Attr, c mount.Change) {
	procfs, err := d.privateProc()
	if err != nil {
		d.failed = err
		return
	}
	target := d.Str("self/fd/1000")
	d.Do("number "+name, spawn.SysDup3, m, spawn.Int(legacyFD), spawn.Int(syscall.O_CLOEXEC))
	d.Do("to procfs", spawn.SysFchdir, procfs)
	d.Do("attributes of "+name, spawn.SysMount, spawn.Nil, target, spawn.Nil, spawn.Int(mount.RemountFlags(a)), spawn.Nil)
	if c.Propagation != 0 {
		d.Do("propagation of "+name, spawn.SysMount, spawn.Nil, target, spawn.Nil, spawn.Int(mount.PropagationFlags(c.Propagation, c.Recursive)), spawn.Nil)
	}
	d.Do("back", spawn.SysChdir, d.Str("/"))
	d.Do("close", spawn.SysClose, spawn.Int(legacyFD))
}
