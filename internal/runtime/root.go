package runtime

import (
	"errors"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/tare-engine/tare/internal/linux/inroot"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// prepare adds the first part of the plan: all that does not depend on the
// image. See the package comment.
func (b *builder) prepare() error {
	steps := b.steps()
	b.ResetSignals()
	b.sync(SyncBorn)
	b.Do("umask", spawn.SysUmask, spawn.Nil)
	b.enter()
	if err := b.writeProc(); err != nil {
		return err
	}
	if err := personality(b.Plan, b.spec.Linux.Personality); err != nil {
		return err
	}
	if err := steps.scheduling(); err != nil {
		return err
	}
	if err := memoryPolicy(b.Plan, b.spec.Linux.MemoryPolicy); err != nil {
		return err
	}
	if !b.c.NoKeyring {
		steps.keyring()
	}
	b.Do("work at the host's root", spawn.SysChdir, b.Str("/"))
	// Nothing that is mounted from here on may reach the host.
	if !b.sharesMounts() {
		b.Do("private mounts", spawn.SysMount, spawn.Nil, b.Str("/"), spawn.Nil, spawn.Int(mount.PropagationFlags(mount.Private, true)), spawn.Nil)
	}
	if err := b.mountEarly(); err != nil {
		return err
	}
	if err := b.maskAll(true); err != nil {
		return err
	}
	return errors.Join(b.failed, steps.dropBounding())
}

// writeProc adds the writes into procfs. They go through an instance that is
// mounted nowhere, so no mount of anybody can redirect them.
func (b *builder) writeProc() error {
	dir, err := b.privateProc()
	if err != nil {
		return err
	}
	if !b.inUserNS() { // there its starter does it
		b.steps().oomScore(dir)
	}
	if err := b.timeNamespace(dir); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(b.spec.Linux.Sysctl)) {
		b.mark(mark{kind: markSysctl, object: key})
		b.write("sysctl "+key, dir, "sys/"+strings.ReplaceAll(key, ".", "/"), b.spec.Linux.Sysctl[key])
	}
	b.mark(mark{})
	return nil
}

// adopt adds the second part: the root, what depends on it, the process.
func (b *builder) adopt() error {
	tops := b.preparedTops()
	for _, top := range tops {
		b.Do("take "+top.path, spawn.SysOpenTree, spawn.Int(atCwd), b.Str(top.path), spawn.Int(mount.TreeCloexec)).To(top.slot)
	}
	if err := b.rootPropagation(); err != nil {
		return err
	}
	at, late := "/", false
	if b.hooked() || b.sharesMounts() {
		at, late = b.c.RootPath, true
	}
	b.placeRoot(at, tops)
	if late {
		if err := b.fillRoot(); err != nil {
			return err
		}
		b.sync(SyncHooks)
	}
	b.changeRoot()
	if !late {
		if err := b.fillRoot(); err != nil {
			return err
		}
	}
	if err := b.finishRoot(); err != nil {
		return err
	}
	return errors.Join(b.failed, b.process())
}

// hooked reports whether hooks are to see the root complete at its own place,
// in the host's tree.
func (b *builder) hooked() bool {
	return b.c.Gate != nil && slices.Contains(b.c.SyncPoints, SyncHooks)
}

// fillRoot adds what goes into the root, which is the working directory: the
// root of all targets.
func (b *builder) fillRoot() error {
	if err := b.mountLate(); err != nil {
		return err
	}
	if err := b.otherDevices(); err != nil {
		return err
	}
	return b.maskAll(false)
}

type top struct {
	path string
	slot int
}

// preparedTops returns the trees of the first part that go into the root.
func (b *builder) preparedTops() []top {
	var out []top
	for _, t := range []top{{"/proc", slotProc}, {"/dev", slotDev}, {"/sys", slotSys}} {
		for _, m := range b.mounts {
			if m.early && m.dest == t.path {
				out = append(out, t)
				break
			}
		}
	}
	return out
}

// placeRoot mounts the root at a path of the host's tree and goes there. Over
// "/" no directory of the host is needed for it. The prepared trees move while
// both roots are there.
func (b *builder) placeRoot(at string, tops []top) {
	root := b.pass(b.c.Root)
	if b.sharesMounts() {
		b.Do("into the root", spawn.SysFchdir, root)
		return
	}
	b.Do("root over "+at, spawn.SysMoveMount, root, b.empty, spawn.Int(atCwd), b.Str(at), spawn.Int(mount.MoveFromFD))
	b.Do("into the root", spawn.SysFchdir, root)
	if at == "/" && !b.c.NoPivot {
		b.pivot()
	}
	for _, top := range tops {
		b.target(top.path)
		b.move(top.path, spawn.Slot(top.slot))
	}
}

// pivot makes the root's mount, the working directory, "/". The host's tree is
// mounted over it until changeRoot.
func (b *builder) pivot() {
	dot := b.Str(".")
	b.Do("pivot", spawn.SysPivotRoot, dot, dot)
}

// changeRoot lets the host's tree go. Without pivot_root it stays below, where
// the root over "/" hides it.
func (b *builder) changeRoot() {
	dot := b.Str(".")
	switch {
	case b.sharesMounts():
		b.joinMounts()
		b.Do("change root", spawn.SysChroot, dot)
	case b.c.NoPivot:
		if b.hooked() {
			b.Do("root over /", spawn.SysMount, dot, b.Str("/"), spawn.Nil, spawn.Int(mount.MoveFlag), spawn.Nil)
		}
		b.Do("change root", spawn.SysChroot, dot)
	default:
		if b.hooked() {
			b.pivot()
		}
		b.Do("let the host's tree go", spawn.SysUmount2, dot, spawn.Int(mount.DetachFlag))
	}
	b.Do("to the root", spawn.SysChdir, b.Str("/"))
}

// rootPropagation cuts the root off from the host's mounts, if it is a copy of
// a directory there. Only as slave it keeps receiving.
func (b *builder) rootPropagation() error {
	p := mount.Private
	switch b.spec.Linux.RootfsPropagation {
	case "", "private", "rprivate", "shared", "rshared", "unbindable", "runbindable":
	case "slave", "rslave":
		p = mount.Slave
	default:
		return invalid("linux.rootfsPropagation: unknown value %q", b.spec.Linux.RootfsPropagation)
	}
	return mount.SetAttr(b.c.Root, mount.Change{Propagation: p, Recursive: true})
}

// finishRoot makes the working directory and gives the root its last
// attributes.
func (b *builder) finishRoot() error {
	if err := b.makeCwd(); err != nil {
		return err
	}
	slash := b.Str("/")
	if c, ok := propagations[b.spec.Linux.RootfsPropagation]; ok && (c.Propagation == mount.Shared || c.Propagation == mount.Unbindable) {
		b.Do("propagation of the root", spawn.SysMount, spawn.Nil, slash, spawn.Nil, spawn.Int(mount.PropagationFlags(c.Propagation, c.Recursive)), spawn.Nil)
	}
	if b.spec.Root != nil && b.spec.Root.Readonly && mount.Legacy() {
		a, err := mount.AttrOf(b.c.Root)
		if err != nil {
			return err
		}
		b.Do("read-only root", spawn.SysMount, spawn.Nil, slash, spawn.Nil, spawn.Int(mount.RemountFlags(a|mount.ReadOnly)), spawn.Nil)
	} else if b.spec.Root != nil && b.spec.Root.Readonly {
		attr := b.Words(spawn.Int(uint64(mount.ReadOnly)), spawn.Nil, spawn.Nil, spawn.Nil)
		b.Do("read-only root", spawn.SysMountSetattr, spawn.Int(atCwd), slash, spawn.Nil, attr, spawn.Int(mount.AttrSize))
	}
	return nil
}

// makeCwd makes the working directory where it is missing and can be made: a
// read-only bind stays as it is, and the start says so.
func (b *builder) makeCwd() error {
	cwd := path.Clean(b.spec.Process.Cwd)
	if root := rootOf(cwd); cwd == "/" || root == "/proc" || root == "/sys" {
		return nil
	}
	t, err := inroot.Resolve(b.c.Root, cwd, inroot.Options{Make: inroot.Dir, Owner: b.rootOwner(), Mounted: b.mounts.mounted})
	if err == nil && t.File != nil {
		t.File.Close()
	}
	return nil
}
