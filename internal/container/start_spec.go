package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/linux/apparmor"
	"github.com/tare-engine/tare/internal/linux/inroot"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/runtime"
)

// makeSpec makes the OCI spec of this run.
func (l *launch) makeSpec() (err error) {
	v := l.view
	in := spec.Input{
		ID: v.ID, Config: v.Config, HostConfig: v.HostConfig, Root: l.root,
		InitPath: l.s.cfg.InitPath, CgroupPath: l.s.cfg.Cgroup + "/" + v.ID,
	}
	files, err := l.filesOf()
	if err != nil {
		return err
	}
	in.Hosts, in.Hostname, in.ResolvConf = l.s.FilePath(files, "hosts"), l.s.FilePath(files, "hostname"), l.s.FilePath(files, "resolv.conf")
	if in.PIDOf, err = l.processOf("PID", v.HostConfig.PidMode.IsContainer(), v.HostConfig.PidMode.Container()); err != nil {
		return err
	}
	if in.IPCOf, err = l.processOf("IPC", v.HostConfig.IpcMode.IsContainer(), v.HostConfig.IpcMode.Container()); err != nil {
		return err
	}
	if in.ShmDir, err = l.sharedMemory(); err != nil {
		return err
	}
	if in.AppArmor, err = l.s.defaultAppArmor(v.HostConfig); err != nil {
		return err
	}
	l.spec, err = spec.Of(in)
	return err
}

// defaultAppArmor is the name of the profile for containers that name none. If
// this one will be under it, it is loaded when it returns.
func (s *Service) defaultAppArmor(h *container.HostConfig) (string, error) {
	if s.cfg.AppArmor == nil {
		return "", nil
	}
	if spec.AppArmorProfile(h, apparmor.DefaultName) == apparmor.DefaultName {
		if err := s.cfg.AppArmor.Ensure(); err != nil {
			return "", fmt.Errorf("AppArmor enabled on system but the %s profile could not be loaded: %w", apparmor.DefaultName, err)
		}
	}
	return apparmor.DefaultName, nil
}

// processOf is the first process of the container whose namespace is joined, 0
// if none is.
func (l *launch) processOf(kind string, joins bool, ref string) (int, error) {
	if !joins {
		return 0, nil
	}
	other, err := l.s.index.Find(ref)
	if err != nil {
		return 0, err
	}
	v := other.View()
	if !v.Alive() {
		return 0, errdefs.New(errdefs.Conflict, "cannot join %s namespace of a non running container: %s", kind, v.ID)
	}
	return v.Pid, nil
}

// sharedMemory is the directory that becomes /dev/shm of a container that
// shares it: a tmpfs of its own while it runs, or that of another container.
func (l *launch) sharedMemory() (string, error) {
	mode := l.view.HostConfig.IpcMode
	switch {
	case mode.IsContainer():
		other, err := l.s.index.Find(mode.Container())
		if err != nil {
			return "", err
		}
		if !other.View().HostConfig.IpcMode.IsShareable() {
			return "", errdefs.New(errdefs.Conflict, "non-shareable IPC (hint: use IpcMode:shareable for the donor container)")
		}
		return l.s.shmPath(other.ID), nil
	case mode.IsShareable():
		return l.s.shmPath(l.view.ID), l.s.mountShm(l.view)
	}
	return "", nil
}

func (s *Service) shmPath(id string) string {
	return filepath.Join(s.cfg.ExecRoot, "containers", id+".shm")
}

// mountShm mounts the tmpfs that a container offers to others as /dev/shm.
func (s *Service) mountShm(v *View) error {
	dir := s.shmPath(v.ID)
	if err := os.Mkdir(dir, 0700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	t, err := mount.OpenFS("tmpfs")
	if err != nil {
		return err
	}
	defer t.Close()
	if err := errors.Join(t.SetString("mode", "1777"), t.SetString("size", strconv.FormatInt(v.HostConfig.ShmSize, 10))); err != nil {
		return err
	}
	m, err := t.Mount(mount.NoSuid | mount.NoDev | mount.NoExec)
	if err != nil {
		return err
	}
	defer m.Close()
	return mount.MoveTo(m, dir)
}

// unmountShm takes it away. Others that have it keep it.
func (s *Service) unmountShm(v *View) error {
	if !v.HostConfig.IpcMode.IsShareable() {
		return nil
	}
	dir := s.shmPath(v.ID)
	err := mount.Detach(dir)
	if e := os.Remove(dir); e != nil && !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}

// openHostRoot returns a detached mount of a host directory, in which nothing
// that is mounted below it shows.
func openHostRoot(dir string) (*os.File, error) {
	m, err := mount.Clone(dir, false)
	if err != nil {
		return nil, fmt.Errorf("rootfs %s: %w", dir, err)
	}
	if err := mount.SetAttr(m, mount.Change{Propagation: mount.Private}); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// logOf says where and how the container's output is kept.
func (s *Service) logOf(v *View) *keeper.Log {
	o, err := spec.ParseLogOptions(v.HostConfig.LogConfig, s.cfg.LogMaxSize, s.cfg.LogMaxFile)
	if err != nil { // checked at create; a record of before is served with the defaults
		o = spec.LogOptions{MaxSize: s.cfg.LogMaxSize, MaxFiles: s.cfg.LogMaxFile}
	}
	attrs := spec.LogAttributes(spec.LogSubject{ID: v.ID, Name: v.Name, ImageID: v.Image, Config: v.Config}, v.HostConfig.LogConfig)
	return &keeper.Log{Dir: v.ID + "/log", MaxSize: o.MaxSize, MaxFiles: o.MaxFiles, Compress: o.Compress, Attrs: attrs}
}

// planExec makes the plan of an exec and says as which user it runs.
func (s *Service) planExec(v *View, p *process, x *Exec, req container.ExecStartRequest) (*runtime.Exec, specs.User, error) {
	root, err := os.OpenFile("/proc/"+strconv.Itoa(v.Pid)+"/root", inroot.OPath|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, specs.User{}, fmt.Errorf("exec in container %s: %w", v.ID, err)
	}
	defer root.Close()
	in := spec.ExecInput{Config: v.Config, HostConfig: v.HostConfig, Request: &x.Request, Root: root}
	if in.AppArmor, err = s.defaultAppArmor(v.HostConfig); err != nil {
		return nil, specs.User{}, err
	}
	process, seccomp, err := spec.OfExec(in)
	if err != nil {
		return nil, specs.User{}, err
	}
	c := runtime.ExecConfig{Process: process, Seccomp: seccomp, PidFD: p.fd, Pid: v.Pid, CgroupProcs: p.cgroup.ProcsPaths()}
	if req.ConsoleSize != nil {
		c.Rows, c.Cols = uint16(req.ConsoleSize[0]), uint16(req.ConsoleSize[1])
	}
	plan, err := runtime.NewExec(c)
	return plan, process.User, err
}
