package runtime

import (
	"os"
	"path"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/linux/proc"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// joinedProc makes the procfs of a PID namespace that is joined. The child
// that mounts is outside of it (its own child will be inside), and a new
// procfs shows the namespace of its maker, unless it is told another.
func (b *builder) joinedProc(p *mountPoint) error {
	ns := b.joinedPID()
	if !procTakesNamespace() {
		return b.borrowProc(p, ns)
	}
	fs := spawn.Slot(slotFS)
	b.Do("new proc", spawn.SysFsopen, b.Str("proc"), spawn.Int(mount.FSOpenCloexec)).To(slotFS)
	b.Do("proc source", spawn.SysFsconfig, fs, spawn.Int(mount.FSSetString), b.Str("source"), b.Str("proc"), spawn.Nil)
	b.Do("proc of the joined namespace", spawn.SysFsconfig, fs, spawn.Int(mount.FSSetFD), b.Str("pidns"), spawn.Nil, b.pass(ns))
	b.createFS(p, "proc")
	return nil
}

func (b *builder) joinedPID() *os.File {
	for _, j := range b.ns.join {
		if j.typ == specs.PIDNamespace {
			return j.file
		}
	}
	return nil
}

// procTakesNamespace reports whether a new procfs can be told its namespace.
// Kernel 6.17.
var procTakesNamespace = sync.OnceValue(func() bool {
	ns, err := proc.OpenNamespace("/proc/self/ns/pid", cloneFlags[specs.PIDNamespace])
	if err != nil {
		return false
	}
	defer ns.Close()
	fs, err := mount.OpenFS("proc")
	if err != nil {
		return false
	}
	defer fs.Close()
	return fs.SetFD("pidns", ns) == nil
})

// borrowProc is for older kernels: the child visits the mount namespace of the
// process that names the PID namespace and takes a copy of its /proc.
func (b *builder) borrowProc(p *mountPoint, ns *os.File) error {
	dir := path.Dir(ns.Name())
	if path.Base(ns.Name()) != "pid" || path.Base(dir) != "ns" {
		return unsupported("linux.namespaces: a pid namespace that is not named by /proc/PID/ns/pid (kernel before 6.17)")
	}
	mnt := cloneFlags[specs.MountNamespace]
	theirs, err := proc.OpenNamespace(path.Join(dir, "mnt"), mnt)
	if err != nil {
		return invalid("linux.namespaces: pid: %w", err)
	}
	private, err := b.privateProc()
	if err != nil {
		return err
	}
	b.Do("own mount namespace", spawn.SysOpenat, private, b.Str("self/ns/mnt"), spawn.Nil).To(slotFS)
	b.Do("visit mount namespace", spawn.SysSetns, b.pass(b.keep(theirs)), spawn.Int(mnt))
	b.target("/proc")
	flags := mount.TreeClone | mount.TreeCloexec | mount.EmptyPath
	b.Do("copy /proc", spawn.SysOpenTree, spawn.Slot(slotTarget), b.empty, spawn.Int(flags)).To(slotMount)
	b.close(slotTarget)
	b.Do("back", spawn.SysSetns, spawn.Slot(slotFS), spawn.Int(mnt))
	b.close(slotFS)
	b.Do("work at the host's root", spawn.SysChdir, b.Str("/"))
	if mount.Legacy() {
		return nil // finishFS sets all of them
	}
	b.setAttr("attributes of /proc", spawn.Slot(slotMount), mount.Change{Set: (p.o.attr.Set | p.o.recAttr.Set) &^ mount.ReadOnly})
	return nil
}
