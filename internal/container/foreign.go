package container

import (
	"errors"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
	kernel "github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/linux/rawfd"
)

// A foreign container is one that another runtime runs (--runtime runc). It
// differs here in how it is started, and in who is asked to signal, freeze,
// limit and remove it: package external. Its control group is ours, below a
// parent of its own, where the runtime may write what rules it wants.

// foreignGroups is the parent of the groups of foreign containers, below the
// engine's.
const foreignGroups = "runtimes"

// isForeign reports whether another runtime runs the container.
func isForeign(r *Record) bool { return r.HostConfig.Runtime != spec.OwnRuntime }

// prepareForeign makes the control groups, the bundle and the plans that execute
// the runtime.
func (l *launch) prepareForeign() error {
	name := l.view.HostConfig.Runtime
	r, ok := l.s.cfg.Runtimes.Get(name)
	if !ok { // it was registered when the container was made
		return errdefs.New(errdefs.InvalidArgument, "unknown or invalid runtime name: %s", name)
	}
	c, err := l.s.home.New(r, l.view.ID)
	if err != nil {
		return err
	}
	limits := *l.spec.Linux.Resources
	limits.Devices = nil // the runtime's business
	g, err := l.s.groups.make(l.view.Record, &limits)
	if err != nil {
		return errors.Join(err, c.Delete())
	}
	l.process = &process{cgroup: g, foreign: c}
	l.live.Cgroup, l.spec.Linux.CgroupsPath = g.Path(), "/"+g.InitPath()
	if err := l.joinNetNS(); err != nil {
		return err
	}
	l.start, err = readyExternal(c.Start(l.spec, l.root))
	return err
}

// joinNetNS names the network namespace in the spec: the descriptor is the
// engine's, which holds it until the process is there.
func (l *launch) joinNetNS() error {
	ns := l.net.netns()
	if ns == nil {
		return nil
	}
	fd, err := rawfd.Number(ns)
	if err != nil {
		return err
	}
	join := specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(fd)}
	list := slices.DeleteFunc(l.spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == join.Type })
	l.spec.Linux.Namespaces = append(list, join)
	return nil
}

// signal sends a signal; os.ErrProcessDone if the process has ended.
func (p *process) signal(sig syscall.Signal) error {
	if p.fd == nil {
		return os.ErrProcessDone
	}
	if p.foreign == nil || sig == 0 {
		return kernel.Signal(p.fd, sig)
	}
	err := p.foreign.Kill(sig)
	if err == nil {
		return nil
	}
	if ended, e := kernel.Ended(p.fd); e == nil && ended {
		return os.ErrProcessDone
	}
	if sig == syscall.SIGKILL { // whatever the runtime thinks
		slog.Warn("a runtime does not end its container; its process is killed", "runtime", p.foreign.Runtime.Name, "err", err)
		return kernel.Signal(p.fd, sig)
	}
	return err
}

func (p *process) freeze() error {
	if p.foreign != nil {
		return p.foreign.Pause()
	}
	return p.cgroup.Freeze()
}

func (p *process) thaw() error {
	if p.foreign == nil {
		return p.cgroup.Thaw()
	}
	err := p.foreign.Resume()
	if err == nil {
		return nil
	}
	if frozen, e := p.cgroup.Frozen(); e == nil && !frozen { // a runtime may thaw what it kills: crun
		return nil
	}
	return err
}

func (p *process) limit(r *specs.LinuxResources) error {
	if p.foreign != nil {
		return p.foreign.Update(r)
	}
	return p.cgroup.Update(r)
}

// remove removes what the runtime has of the process's container.
func (p *process) remove() error {
	if p.foreign == nil {
		return nil
	}
	return p.foreign.Delete()
}

// removeForeign removes what a runtime has of a container whose start was cut
// off.
func (g *groups) removeForeign(id string) error {
	c, err := g.home.Open(id)
	if err != nil || c == nil {
		return err
	}
	return c.Delete()
}

// removeStrayBundles removes what runtimes have of containers that do not run.
func (b *boot) removeStrayBundles() error {
	ids, err := b.groups.home.List()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if ident.Valid(id) {
			b.removeStrayBundle(id)
		}
	}
	return nil
}

func (b *boot) removeStrayBundle(id string) {
	if c := b.index.Get(id); c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.process != nil || c.View().Alive() {
			return
		}
	}
	err := errors.Join(b.groups.removeForeign(id), b.groups.removeStray(id, b.groups.strayPath(id)))
	slog.Info("removed a runtime's container that does not run", "container", id, "err", err)
}

// adoptForeign finds a running container's runtime again.
func (b *boot) adoptForeign(c *Container, p *process) error {
	if !isForeign(c.View().Record) {
		return nil
	}
	var err error
	if p.foreign, err = b.groups.home.Open(c.ID); err == nil && p.foreign == nil {
		err = errors.New("it has no bundle")
	}
	return err
}
