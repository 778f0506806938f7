package runtime

import (
	"path"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// Kernels before 5.12 change the attributes of a mount only where it is
// attached, and by a path (mount.Legacy). What a plan would do to a detached
// mount it does there right after the move: nobody but the plan is in the
// container yet.

// legacyFD is a descriptor's number that a path can name: those in slots are
// known only when the plan runs. It is below the soft limit of files.
const legacyFD = 1000

// remount gives the attached mount m exactly these attributes, and the
// propagation of c if it has one. The path is that of the descriptor in a
// procfs which is mounted nowhere, so nothing can stand in its way.
func (b *builder) remount(name string, m spawn.Arg, a mount.Attr, c mount.Change) {
	procfs, err := b.privateProc()
	if err != nil {
		b.failed = err
		return
	}
	target := b.Str("self/fd/1000")
	b.Do("number "+name, spawn.SysDup3, m, spawn.Int(legacyFD), spawn.Int(syscall.O_CLOEXEC))
	b.Do("to procfs", spawn.SysFchdir, procfs)
	b.Do("attributes of "+name, spawn.SysMount, spawn.Nil, target, spawn.Nil, spawn.Int(mount.RemountFlags(a)), spawn.Nil)
	if c.Propagation != 0 {
		b.Do("propagation of "+name, spawn.SysMount, spawn.Nil, target, spawn.Nil, spawn.Int(mount.PropagationFlags(c.Propagation, c.Recursive)), spawn.Nil)
	}
	b.Do("back", spawn.SysChdir, b.Str("/"))
	b.Do("close", spawn.SysClose, spawn.Int(legacyFD))
}

// sealLegacy is sealFS for a mount that is attached by now.
func (b *builder) sealLegacy(p *mountPoint, m spawn.Arg) {
	if !mount.Legacy() {
		return
	}
	var last mount.Change
	for _, c := range p.o.propagation {
		last = c
	}
	b.remount(p.dest, m, p.o.attr.Set|p.o.recAttr.Set, last)
}

// attrAt are the attributes that the mount over the path was given; those of
// the root are none.
func (b *builder) attrAt(p string) mount.Attr {
	for ; p != "/"; p = path.Dir(p) {
		if m := b.mountAt(p); m != nil {
			return m.o.attr.Set | m.o.recAttr.Set
		}
	}
	return 0
}
