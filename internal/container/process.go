package container

import (
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/linux/cgroup"
	kernel "github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/runtime/external"
)

// process is a running container's hold on the host.
type process struct {
	pid        int
	startTicks uint64
	fd         *os.File     // pidfd; nil if it had ended when we looked
	files      keeper.Files // the engine's duplicates of its streams
	cgroup     *cgroup.Group
	external   *external.Container // how another runtime knows it; nil: ours runs it
	oom        uint64              // how ooms knows it; 0: it is not watched
	deadline   *time.Timer         // of the run; nil: none
	user       specs.User
	live       live  // what is on tmpfs of it
	lost       int64 // lines missing in its log, as far as told
}

func (p *process) close() {
	if p.fd != nil {
		p.fd.Close()
	}
	p.files.Close()
}

// signal sends a signal; os.ErrProcessDone if the process has ended.
func (p *process) signal(sig syscall.Signal) error {
	if p.fd == nil {
		return os.ErrProcessDone
	}
	if p.external == nil || sig == 0 {
		return kernel.Signal(p.fd, sig)
	}
	err := p.external.Kill(sig)
	if err == nil {
		return nil
	}
	if ended, e := kernel.Ended(p.fd); e == nil && ended {
		return os.ErrProcessDone
	}
	if sig == syscall.SIGKILL { // whatever the runtime thinks
		slog.Warn("a runtime does not end its container; its process is killed", "runtime", p.external.Runtime.Name, "err", err)
		return kernel.Signal(p.fd, sig)
	}
	return err
}

func (p *process) freeze() error {
	if p.external != nil {
		return p.external.Pause()
	}
	return p.cgroup.Freeze()
}

func (p *process) thaw() error {
	if p.external == nil {
		return p.cgroup.Thaw()
	}
	err := p.external.Resume()
	if err == nil {
		return nil
	}
	if frozen, e := p.cgroup.Frozen(); e == nil && !frozen { // a runtime may thaw what it kills: crun
		return nil
	}
	return err
}

func (p *process) limit(r *specs.LinuxResources) error {
	if p.external != nil {
		return p.external.Update(r)
	}
	return p.cgroup.Update(r)
}

// remove removes what the runtime has of the process's container.
func (p *process) remove() error {
	if p.external == nil {
		return nil
	}
	return p.external.Delete()
}
