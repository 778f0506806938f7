package runtime

import (
	"os"
	"slices"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/linux/proc"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// cloneFlags are the namespaces that a container can have for itself.
var cloneFlags = map[specs.LinuxNamespaceType]int{
	specs.PIDNamespace:     syscall.CLONE_NEWPID,
	specs.NetworkNamespace: syscall.CLONE_NEWNET,
	specs.MountNamespace:   syscall.CLONE_NEWNS,
	specs.IPCNamespace:     syscall.CLONE_NEWIPC,
	specs.UTSNamespace:     syscall.CLONE_NEWUTS,
	specs.CgroupNamespace:  cloneNewCgroup,
	specs.UserNamespace:    syscall.CLONE_NEWUSER,
	specs.TimeNamespace:    cloneNewTime,
}

const cloneNewCgroup = 0x02000000

// namespaces of a start: new ones, and descriptors of those to be joined.
type namespaces struct {
	fresh map[specs.LinuxNamespaceType]bool
	join  []joined
	born  bool // in the user namespace that is joined
}

type joined struct {
	typ  specs.LinuxNamespaceType
	file *os.File
}

// has reports whether the container does not share the host's namespace.
func (n namespaces) has(t specs.LinuxNamespaceType) bool {
	return n.fresh[t] || n.joins(t) || t == specs.UserNamespace && n.born
}

func (n namespaces) joins(t specs.LinuxNamespaceType) bool {
	for _, j := range n.join {
		if j.typ == t {
			return true
		}
	}
	return false
}

// openNamespaces sorts the spec's namespaces into new ones and those to be
// joined, and opens the latter.
func (b *builder) openNamespaces() error {
	b.ns.fresh = map[specs.LinuxNamespaceType]bool{}
	for _, n := range b.spec.Linux.Namespaces {
		flag, ok := cloneFlags[n.Type]
		switch {
		case !ok:
			return unsupported("linux.namespaces: " + string(n.Type))
		case b.ns.has(n.Type):
			return invalid("linux.namespaces: %s is there twice", n.Type)
		case n.Type == specs.NetworkNamespace && b.c.NetNS != nil:
			continue
		case n.Path == "":
			b.ns.fresh[n.Type] = true
			continue
		case n.Type == specs.UserNamespace && b.c.InUserNS:
			b.ns.born = true
			continue
		case n.Type == specs.UserNamespace:
			return unsupported("linux.namespaces: path of a user namespace")
		}
		f, err := proc.OpenNamespace(n.Path, flag)
		if err != nil {
			return invalid("linux.namespaces: %s: %w", n.Type, err)
		}
		b.ns.join = append(b.ns.join, joined{n.Type, b.keep(f)})
	}
	if b.c.NetNS != nil {
		b.ns.join = append(b.ns.join, joined{specs.NetworkNamespace, b.c.NetNS})
	}
	if err := b.checkShared(); err != nil {
		return err
	}
	if b.spec.Hostname != "" && !b.ns.has(specs.UTSNamespace) {
		return invalid("hostname %q needs a uts namespace", b.spec.Hostname)
	}
	if b.spec.Domainname != "" && !b.ns.has(specs.UTSNamespace) {
		return invalid("domainname %q needs a uts namespace", b.spec.Domainname)
	}
	return nil
}

// enter adds the steps into cgroups and namespaces.
//
// The cgroup namespace comes after the cgroups, because its root is where its
// maker is then. A PID namespace that is joined holds the children only: such
// a start ends in a second clone.
func (b *builder) enter() {
	for t := range b.ns.fresh {
		if t != specs.CgroupNamespace && t != specs.TimeNamespace {
			b.flags |= uint64(cloneFlags[t])
		}
	}
	b.enterCgroups()
	if b.inUserNS() {
		b.becomeRoot()
	}
	if b.ns.fresh[specs.CgroupNamespace] {
		b.Do("new cgroup namespace", spawn.SysUnshare, spawn.Int(cloneNewCgroup))
	}
	for _, j := range b.ns.join {
		if j.typ == specs.MountNamespace {
			continue // see joinMounts
		}
		b.Do("join "+string(j.typ)+" namespace", spawn.SysSetns, b.pass(j.file), spawn.Int(cloneFlags[j.typ]))
	}
	if b.ns.joins(specs.PIDNamespace) {
		b.second = spawn.NewPlan()
	}
	if b.ns.fresh[specs.NetworkNamespace] {
		b.loopback()
	}
	if h := b.spec.Hostname; h != "" {
		b.Do("set host name", spawn.SysSethostname, b.Str(h), spawn.Int(len(h)))
	}
	if d := b.spec.Domainname; d != "" {
		b.Do("set domain name", spawn.SysSetdomainname, b.Str(d), spawn.Int(len(d)))
	}
}

// loopback sets the link lo of a new network namespace up.
func (b *builder) loopback() {
	b.Do("socket for lo", spawn.SysSocket, spawn.Int(syscall.AF_INET), spawn.Int(syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC), spawn.Nil).To(slotTmp)
	ifreq := make([]byte, 40)
	copy(ifreq, "lo")
	ifreq[syscall.IFNAMSIZ] = syscall.IFF_UP
	b.Do("set lo up", spawn.SysIoctl, spawn.Slot(slotTmp), spawn.Int(syscall.SIOCSIFFLAGS), b.Bytes(ifreq))
	b.close(slotTmp)
}

// NamespaceTypes are the namespaces that a container can have.
func NamespaceTypes() []string {
	out := make([]string, 0, len(cloneFlags))
	for t := range cloneFlags {
		out = append(out, string(t))
	}
	slices.Sort(out)
	return out
}

// inUserNS reports whether the container is in another user namespace than its
// starter: a new one, or one that it is born in.
func (b *builder) inUserNS() bool { return b.ns.has(specs.UserNamespace) }

// sharesMounts reports whether the container is in a mount namespace that is
// others' too. Nothing is mounted there: the root, with all that goes into it,
// is a tree of its own that hangs nowhere.
func (b *builder) sharesMounts() bool { return !b.ns.fresh[specs.MountNamespace] }

// checkShared refuses what cannot be shared, or not by this kernel.
func (b *builder) checkShared() error {
	switch {
	case !b.sharesMounts():
		return nil
	case b.c.Gate == nil:
		return invalid("linux.namespaces: a container needs its own mount namespace")
	case b.inUserNS():
		return invalid("linux.namespaces: a user namespace needs a mount namespace")
	case !mount.TakesMountsDetached():
		return unsupported("linux.namespaces without a new mount namespace (kernel before 6.15)")
	}
	return nil
}

// joinMounts joins another's mount namespace, if the spec names one, and comes
// back to the root. Only the namespace in which the root's tree was made may
// mount in it, so that is over by now.
func (b *builder) joinMounts() {
	for _, j := range b.ns.join {
		if j.typ == specs.MountNamespace {
			b.Do("join mount namespace", spawn.SysSetns, b.pass(j.file), spawn.Int(cloneFlags[j.typ]))
			b.Do("back to the root", spawn.SysFchdir, b.pass(b.c.Root))
		}
	}
}
