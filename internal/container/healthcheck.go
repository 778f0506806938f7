package container

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/container/health"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/linux/inroot"
	"github.com/tare-engine/tare/internal/linux/netns"
	kernel "github.com/tare-engine/tare/internal/linux/process"
)

// watchHealth begins to probe a container that runs, if it is to be probed.
//
// Preconditions: c.mu is held.
func (w *watches) watchHealth(c *Container) {
	v := c.View()
	check := v.Config.Healthcheck
	if check == nil || !health.Enabled(check.Test) {
		return
	}
	from := c.process.live.Health
	if from == "" {
		from = container.Starting
	}
	p := c.process
	m := health.Start(health.Config{
		Timing: health.TimingOf(check), Probe: w.checks.counting(w.probe(c, p, check.Test)), Startup: w.startup(c, p), Started: v.Started, From: from,
		Changed: func(status container.HealthStatus) { w.healthChanged(c, p, status) },
	})
	c.health.Store(m)
	c.publish(func(v *View) { v.Health = from })
	if v.Status == Paused {
		m.Pause()
	}
	if from == container.Unhealthy { // an engine that was killed may not have come to the end of it
		w.actOn(c, p)
	}
	if p.live.Startup.GivenUp {
		w.giveUp(c, p)
	}
}

// startup makes the probe that goes before the health check, nil if there is none.
//
// Preconditions: c.mu is held.
func (w *watches) startup(c *Container, p *process) *health.Startup {
	own := spec.OwnOf(c.View().HostConfig).Startup
	if own.Test == nil {
		return nil
	}
	return &health.Startup{
		Probe: w.probe(c, p, own.Test), Interval: own.Interval, Timeout: own.Timeout,
		Retries: own.Retries, Successes: own.Successes, From: p.live.Startup,
		Changed: func() { w.startupChanged(c, p) },
	}
}

// startupChanged notes how far the startup probe of process p has come.
func (w *watches) startupChanged(c *Container, p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != p {
		return
	}
	p.live.Startup = c.health.Load().Progress()
	if err := w.records.putLive(c.ID, p.live); err != nil {
		slog.Warn("record the startup probe", "container", c.ID, "err", err)
	}
	if p.live.Startup.GivenUp {
		w.giveUp(c, p)
	}
}

// healthChanged tells that the container of process p has another health now.
func (w *watches) healthChanged(c *Container, p *process, status container.HealthStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != p {
		return
	}
	p.live.Health = status
	if err := w.records.putLive(c.ID, p.live); err != nil {
		slog.Warn("record health", "container", c.ID, "err", err)
	}
	v := c.publish(func(v *View) { v.Health = status })
	w.events.publish(v, events.Action(string(events.ActionHealthStatus)+": "+string(status)))
	if status == container.Unhealthy {
		w.actOn(c, p)
	}
}

// Health returns what inspect shows of the container's probes, of its last run
// if it has ended; nil if there are none.
func (s *Service) Health(id string) *container.Health {
	c := s.index.Get(id)
	if c == nil {
		return nil
	}
	if m := c.health.Load(); m != nil {
		return m.Health()
	}
	return nil
}

// probe makes the probe that test asks for.
func (w *watches) probe(c *Container, p *process, test []string) health.Probe {
	if health.Native(test) {
		return health.NewNative(test, health.Inside{
			Dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) { return dialInside(ctx, p, to) },
			Stat: func(ctx context.Context, path string) (os.FileInfo, error) {
				return look(ctx, c, func() (os.FileInfo, error) { return statInside(p, path) })
			},
		})
	}
	cmd := test[1:]
	if test[0] == health.KindShell {
		shell := []string{"/bin/sh", "-c"}
		if own := c.View().Config.Shell; len(own) > 0 {
			shell = own
		}
		cmd = append(append([]string{}, shell...), cmd...)
	}
	return func(ctx context.Context) (int, string, error) { return w.execs.probe(ctx, c.ID, cmd) }
}

// dialInside connects from the network namespace of a process.
func dialInside(ctx context.Context, p *process, to netip.AddrPort) (net.Conn, error) {
	ns, err := netns.OfProcess(p.pid)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if err := p.signal(0); err != nil { // else the pid may have been another's
		return nil, err
	}
	return netns.DialTCP(ctx, ns, to)
}

// statInside looks at a file in the root of a process.
func statInside(p *process, path string) (os.FileInfo, error) {
	root, err := os.Open("/proc/" + strconv.Itoa(p.pid) + "/root")
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := p.signal(0); err != nil {
		return nil, err
	}
	return inroot.Stat(root, path)
}

// probe runs a command in the container and returns its exit code and what
// it wrote. One that outlives ctx is killed, one that outlives the engine too.
func (all *Execs) probe(ctx context.Context, id string, cmd []string) (int, string, error) {
	xid, err := all.Create(id, container.ExecCreateRequest{Cmd: cmd, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return 0, "", err
	}
	defer all.drop(xid) // nobody asks for it again
	near, far, err := streamPair()
	if err != nil {
		return 0, "", err
	}
	defer near.Close()
	x := all.get(xid)
	if err := all.Start(ctx, xid, api.ExecStartRequest{EndWithClient: true}, func(bool) (net.Conn, []byte, error) { return far, nil, nil }); err != nil {
		return 0, "", err
	}
	stop := context.AfterFunc(ctx, func() {
		x.kill()
		near.Close()
	})
	defer stop()
	out := bounded{left: health.MaxOutput}
	_, err = stdcopy.StdCopy(&out, &out, near)
	if err != nil && ctx.Err() == nil && !errors.Is(err, io.EOF) {
		slog.Debug("read the output of a health check", "container", id, "err", err)
	}
	res, err := x.done.wait(ctx)
	return res.ExitCode, out.String(), err
}

// kill ends the process of an exec.
func (x *Exec) kill() {
	x.mu.Lock()
	pid, ticks := x.pid, x.ticks
	x.mu.Unlock()
	if fd := openProcess(pid, ticks); fd != nil {
		defer fd.Close()
		if err := kernel.Signal(fd, syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
			slog.Warn("kill exec", "exec", x.ID, "err", err)
		}
	}
}

// bounded keeps the beginning of what is written to it.
type bounded struct {
	bytes.Buffer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.left -= n
	b.Buffer.Write(p[:n])
	return len(p), nil
}
