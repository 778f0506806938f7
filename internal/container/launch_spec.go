package container

import (
	"context"
	"fmt"
	"os"

	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/mount"
)

// makeSpec makes the OCI spec of this run.
func (l *launch) makeSpec(ctx context.Context) (err error) {
	v := l.view
	group, err := l.groups.path(v.Record)
	if err != nil {
		return err
	}
	in := spec.Input{
		ID: v.ID, Config: v.Config, HostConfig: v.HostConfig, Mounts: l.records.mountRules(v.Record), Root: l.root,
		InitPath: l.defaults.InitPath, CgroupPath: group, CDIDirs: l.defaults.CDIDirs, IDs: v.IDs,
	}
	if in.Mounts.Settled, err = l.volumes.mount(ctx, v); err != nil {
		return err
	}
	files, err := l.filesOf()
	if err != nil {
		return err
	}
	in.Hosts, in.Hostname, in.ResolvConf = l.records.file(files, "hosts"), l.records.file(files, "hostname"), l.records.file(files, "resolv.conf")
	if in.Localtime, err = l.timeZone(); err != nil {
		return err
	}
	if in.PIDOf, err = l.processOf("PID", v.HostConfig.PidMode.IsContainer(), v.HostConfig.PidMode.Container()); err != nil {
		return err
	}
	if in.IPCOf, err = l.processOf("IPC", v.HostConfig.IpcMode.IsContainer(), v.HostConfig.IpcMode.Container()); err != nil {
		return err
	}
	if in.UserOf, err = l.joinUser(); err != nil {
		return err
	}
	if in.ShmDir, err = l.sharedMemory(); err != nil {
		return err
	}
	if in.AppArmor, err = l.defaults.appArmor(v.HostConfig); err != nil {
		return err
	}
	l.spec, err = spec.Of(in)
	return err
}

// timeZone writes the file of the container's time zone anew, as it is on the host
// at this start, and returns where; empty: it asks for none.
func (l *launch) timeZone() (string, error) {
	name := spec.OwnOf(l.view.HostConfig).TimeZone
	if name == "" {
		return "", nil
	}
	b, err := spec.ZoneFile(name)
	if err != nil {
		return "", err
	}
	path := l.records.file(l.view.ID, "localtime")
	return path, l.writeFile(path, b)
}

// processOf is the first process of the container whose namespace is joined, 0
// if none is.
func (l *launch) processOf(kind string, joins bool, ref string) (int, error) {
	if !joins {
		return 0, nil
	}
	other, err := l.index.Find(ref)
	if err != nil {
		return 0, err
	}
	d := donor{kind, other.View()}
	if !d.Alive() || d.Pid == 0 {
		return 0, d.notRunning()
	}
	l.donors = append(l.donors, d)
	return d.Pid, nil
}

// sharedMemory is the directory that becomes /dev/shm of a container that
// shares it: a tmpfs of its own while it runs, or that of another container.
func (l *launch) sharedMemory() (string, error) {
	mode := l.view.HostConfig.IpcMode
	switch {
	case mode.IsContainer():
		other, err := l.index.Find(mode.Container())
		if err != nil {
			return "", err
		}
		if !other.View().HostConfig.IpcMode.IsShareable() {
			return "", errdefs.New(errdefs.Conflict, "non-shareable IPC (hint: use IpcMode:shareable for the donor container)")
		}
		return l.records.shmDir(other.ID), nil
	case mode.IsShareable():
		dir := l.records.shmDir(l.view.ID)
		return dir, mountShm(dir, l.view.HostConfig.ShmSize, l.view.IDs)
	}
	return "", nil
}

// openHostRoot returns a detached mount of a host directory, in which nothing
// that is mounted below it shows.
//
// With ns the directory's files have the ids of the container, and what it
// writes has ids of the host.
func openHostRoot(dir string, ns *os.File) (*os.File, error) {
	m, err := mount.Clone(dir, false)
	if err != nil {
		return nil, fmt.Errorf("rootfs %s: %w", dir, err)
	}
	if err := mount.SetAttr(m, mount.Change{Propagation: mount.Private, UserNS: ns}); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}
