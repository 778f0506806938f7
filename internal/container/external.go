package container

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/idmap"
	"github.com/tare-engine/tare/internal/linux/proc"
	"github.com/tare-engine/tare/internal/linux/rawfd"
	"github.com/tare-engine/tare/internal/runtime/external"
)

// An external container is one that another runtime runs (--runtime runc). It
// differs here in how it is started, and in who is asked to signal, freeze,
// limit and remove it: package external. Its control group is ours, below a
// parent of its own, where the runtime may write what rules it wants.

// externalGroups is the parent of the groups of external containers, below the
// engine's.
const externalGroups = "runtimes"

// isExternal reports whether another runtime runs the container.
func isExternal(r *Record) bool { return r.HostConfig.Runtime != external.Own }

// prepareExternal makes the control groups, the bundle and the plans that execute
// the runtime.
func (l *launch) prepareExternal() error {
	name := l.view.HostConfig.Runtime
	r, ok := l.defaults.Runtimes.Get(name)
	if !ok { // it was registered when the container was made
		return errdefs.New(errdefs.InvalidArgument, "unknown or invalid runtime name: %s", name)
	}
	scope := l.groups.systemd
	if scope {
		if spec.IsSystemd(l.view.Config, l.view.HostConfig) {
			return errdefs.New(errdefs.InvalidArgument, "runtime %s: systemd in a container needs native.cgroupdriver=cgroupfs, or our own runtime", name)
		}
		r.Args = append(slices.Clone(r.Args), "--systemd-cgroup")
	}
	if len(spec.OwnOf(l.view.HostConfig).Owners) > 0 { // older ones would ignore it
		return errdefs.New(errdefs.InvalidArgument, "runtime %s: %sbind-owner needs our own runtime", name, api.ExtensionPrefix)
	}
	c, err := l.home.New(r, l.view.ID)
	if err != nil {
		return err
	}
	limits := *l.spec.Linux.Resources
	limits.Devices = nil // the runtime's business
	g, err := l.groups.make(l.view.Record, &limits)
	if err != nil {
		return errors.Join(err, c.Delete())
	}
	l.process = &process{cgroup: g, external: c}
	l.live.Cgroup, l.spec.Linux.CgroupsPath = g.Path(), "/"+g.InitPath()
	if scope { // which the runtime begins
		l.spec.Linux.CgroupsPath = l.groups.scope(l.view.Record).Slice + ":" + unitPrefix + ":" + l.view.ID
	}
	net := l.net.netns()
	if l.view.IDs != nil {
		if net, err = l.bearExternal(); err != nil {
			return err
		}
	}
	if err := l.holdJoined(); err != nil {
		return err
	}
	for t, ns := range map[specs.LinuxNamespaceType]*os.File{specs.UserNamespace: l.userns, specs.NetworkNamespace: net} {
		if err := l.joinByFile(t, ns); err != nil {
			return err
		}
	}
	l.start, err = readyExternal(c.Start(l.spec, l.root))
	return err
}

// bearExternal makes what the engine's own runtime makes at a birth, ahead: a user
// namespace, unless that of others is joined, and in it a network namespace with
// the container's link. The runtime joins both.
func (l *launch) bearExternal() (net *os.File, err error) {
	if l.userns != nil { // then it shares that one's network as well: ValidateMapped
		return l.net.shared, nil
	}
	l.userns, l.netns, err = idmap.OpenWithNet(rangesOf(l.view.IDs.UIDs), rangesOf(l.view.IDs.GIDs))
	if err != nil {
		return nil, err
	}
	return l.netns, l.enterNetwork(l.netns)
}

// holdJoined opens the namespaces that the spec names by a donor's pid: when the
// runtime looks them up, that may be another process's. What was opened is looked
// at afterwards, see there.
func (l *launch) holdJoined() error {
	for t, flag := range map[specs.LinuxNamespaceType]int{specs.PIDNamespace: syscall.CLONE_NEWPID, specs.IPCNamespace: syscall.CLONE_NEWIPC} {
		i := slices.IndexFunc(l.spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == t && n.Path != "" })
		if i < 0 {
			continue
		}
		ns, err := proc.OpenNamespace(l.spec.Linux.Namespaces[i].Path, flag)
		if err != nil {
			return err
		}
		l.joined = append(l.joined, ns)
		if err := l.joinByFile(t, ns); err != nil {
			return err
		}
	}
	return nil
}

// joinByFile names a namespace in the spec: the descriptor is the engine's, which
// holds it until the process is there; nil: there is none to join.
func (l *launch) joinByFile(t specs.LinuxNamespaceType, ns *os.File) error {
	if ns == nil {
		return nil
	}
	fd, err := rawfd.Number(ns)
	if err != nil {
		return err
	}
	join := specs.LinuxNamespace{Type: t, Path: "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(fd)}
	list := slices.DeleteFunc(l.spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == t })
	l.spec.Linux.Namespaces = append(list, join)
	return nil
}

// removeExternal removes what a runtime has of a container whose start was cut
// off.
func (g *groups) removeExternal(id string) error {
	c, err := g.home.Open(id)
	if err != nil || c == nil {
		return err
	}
	return c.Delete()
}
