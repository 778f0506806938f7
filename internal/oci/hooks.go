package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/memfd"
	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/runtime"
)

// hookState is the state that a hook reads from its stdin.
func (c *Container) hookState(status Status, pid int) ([]byte, error) {
	spec, err := c.Spec()
	if err != nil {
		return nil, err
	}
	return json.Marshal(&specs.State{
		Version: specs.Version, ID: c.ID, Status: specs.ContainerState(status), Pid: pid, Bundle: c.Bundle, Annotations: spec.Annotations,
	})
}

// runHooks runs hooks in our own namespaces, in order; the first failure ends it.
func (c *Container) runHooks(hooks []specs.Hook, status Status, pid int) error {
	return c.eachHook(hooks, status, pid, func(err error) bool { return err == nil })
}

// eachHook runs hooks in our own namespaces, in order, as long as goOn says so
// of what came of one, and returns what failed.
func (c *Container) eachHook(hooks []specs.Hook, status Status, pid int, goOn func(error) bool) error {
	if len(hooks) == 0 {
		return nil
	}
	state, err := c.hookState(status, pid)
	if err != nil {
		return err
	}
	var failed error
	for i, h := range hooks {
		err := c.runHook(h, state, func(stdio [3]*os.File) (int, error) {
			p, err := os.StartProcess(h.Path, hookArgs(h), &os.ProcAttr{Dir: c.Bundle, Env: hookEnv(h), Files: stdio[:]})
			if err != nil {
				return 0, err
			}
			pid := p.Pid
			return pid, p.Release()
		})
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("error running hook #%d: %w", i, err))
		}
		if !goOn(err) {
			break
		}
	}
	return failed
}

func hookArgs(h specs.Hook) []string {
	if len(h.Args) == 0 {
		return []string{h.Path}
	}
	return h.Args
}

// hookEnv is exactly what the spec says, and never ours.
func hookEnv(h specs.Hook) []string { return append([]string{}, h.Env...) }

// runHook starts one hook by start and waits for it: its state on stdin, its
// output kept for the error's text.
func (c *Container) runHook(h specs.Hook, state []byte, start func(stdio [3]*os.File) (int, error)) (err error) {
	in, err := fileOf("state", state)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := memfd.New("hook")
	if err != nil {
		return err
	}
	defer out.Close()
	if err := c.noteHook(out, 0); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(c.file(hookFile))) }()
	pid, err := start([3]*os.File{in, out, out})
	if err != nil {
		return err
	}
	if err := c.noteHook(out, pid); err != nil {
		_ = syscall.Kill(pid, syscall.SIGKILL) // ours, and not reaped
		wait(pid)
		return err
	}
	ws, err := waitHook(pid, h.Timeout)
	if err == nil && !(ws.Exited() && ws.ExitStatus() == 0) {
		err = fmt.Errorf("%s, stdout: %s", statusText(ws), outputOf(out))
	}
	return err
}

// noteHook writes down which hook runs: should we be killed, Delete ends it. Before
// there is a process, with pid 0, it can be known by its output.
func (c *Container) noteHook(out *os.File, pid int) error {
	st, err := out.Stat()
	if err != nil {
		return err
	}
	var ticks uint64
	if pid != 0 {
		if ticks, err = process.StartTicks(pid); err != nil {
			return err
		}
	}
	id := process.FileIDOf(st)
	return writeFile(c.file(hookFile), fmt.Appendln(nil, pid, ticks, id.Dev, id.Ino), 0o600)
}

// endHook ends a hook whose runtime was killed, with all that descends from it.
func (c *Container) endHook() error {
	b, err := os.ReadFile(c.file(hookFile))
	if errors.Is(err, os.ErrNotExist) || err == nil && c.Boot != bootID() {
		return nil
	}
	var pid int
	var ticks uint64
	var out process.FileID
	if err == nil {
		_, err = fmt.Sscan(string(b), &pid, &ticks, &out.Dev, &out.Ino)
	}
	if err != nil {
		return err
	}
	for {
		var pidfd *os.File
		if pid != 0 {
			pidfd, err = process.Reopen(pid, ticks)
		} else {
			pidfd, pid, err = process.Holder(out)
		}
		if errors.Is(err, os.ErrProcessDone) || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		c.root.debug("container %s: ends the hook of a runtime that was killed, process %d", c.ID, pid)
		ended, err := process.KillTree(pidfd, pid, endTime*time.Millisecond)
		pidfd.Close()
		if err != nil || !ended || ticks != 0 {
			return err
		}
		pid = 0 // who else has its output
	}
}

// fileOf returns a pipe with the bytes to read in it, or, what no pipe holds,
// a file.
func fileOf(name string, b []byte) (*os.File, error) {
	const pipeSize = 64 << 10
	if len(b) < pipeSize {
		r, w, err := pipe()
		if err != nil {
			return nil, err
		}
		defer w.Close()
		if _, err := w.Write(b); err != nil {
			r.Close()
			return nil, err
		}
		return r, nil
	}
	f, err := memfd.New(name)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(b); err != nil {
		f.Close()
		return nil, err
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}

func outputOf(f *os.File) string {
	const most = 4096
	b := make([]byte, most)
	n, _ := f.ReadAt(b, 0)
	return string(bytes.TrimSpace(b[:n]))
}

// waitHook reaps a hook; one that takes longer than its timeout is killed.
func waitHook(pid int, timeout *int) (syscall.WaitStatus, error) {
	if timeout == nil || *timeout <= 0 {
		return wait(pid), nil
	}
	pidfd, err := process.Open(pid)
	if err != nil {
		return wait(pid), nil
	}
	defer pidfd.Close()
	limit := time.Duration(*timeout) * time.Second
	ended, err := process.Poll(nil, []*os.File{pidfd}, false, int(limit.Milliseconds()))
	if err == nil && len(ended) == 0 {
		err = fmt.Errorf("hook ran past specified timeout of %.1fs", limit.Seconds())
		_ = process.Signal(pidfd, syscall.SIGKILL)
	}
	return wait(pid), err
}

func statusText(ws syscall.WaitStatus) string {
	if ws.Signaled() {
		return "signal: " + ws.Signal().String()
	}
	return "exit status " + itoa(ws.ExitStatus())
}

// createHooks runs the hooks of create, in the specification's order: the
// first two kinds in our namespaces, the third in the container's.
func (k *creation) createHooks() error {
	h, pid := k.b.spec.Hooks, k.child.first
	//lint:ignore SA1019 prestart hooks are deprecated, and still used
	if err := k.c.runHooks(h.Prestart, Created, pid); err != nil {
		return err
	}
	if err := k.c.runHooks(h.CreateRuntime, Creating, pid); err != nil {
		return err
	}
	if len(h.CreateContainer) == 0 {
		return nil
	}
	pidfd, err := process.Open(pid)
	if err != nil {
		return err
	}
	defer pidfd.Close()
	state, err := k.c.hookState(Creating, pidInside(pid))
	if err != nil {
		return err
	}
	l := k.l
	if k.maps.joined { // its nursery could not join the namespaces as ours does
		if l, err = newLauncher(nil); err != nil {
			return err
		}
		defer l.close()
	}
	for i, hook := range h.CreateContainer {
		e, err := runtime.NewHook(pidfd, hook.Path, hookArgs(hook), hookEnv(hook), k.start.UserNS)
		if err != nil {
			return err
		}
		err = k.c.runHook(hook, state, func(stdio [3]*os.File) (int, error) { return spawnExec(l, &execution{Exec: e}, stdio) })
		e.Close()
		if err != nil {
			return fmt.Errorf("error running hook #%d: %w", i, err)
		}
	}
	return nil
}

// startHooks runs the startContainer hooks, with the rights of the
// container's process.
func (c *Container) startHooks() error {
	spec, err := c.Spec()
	if err != nil || spec.Hooks == nil || len(spec.Hooks.StartContainer) == 0 {
		return err
	}
	state, err := c.hookState(Created, pidInside(c.Pid))
	if err != nil {
		return err
	}
	l, err := newLauncher(nil)
	if err != nil {
		return err
	}
	defer l.close()
	for i, hook := range spec.Hooks.StartContainer {
		p := *spec.Process
		p.Args, p.Env, p.Terminal = hookArgs(hook), hookEnv(hook), false
		e, err := c.newExec(&p, hook.Path, nil)
		if err != nil {
			return err
		}
		err = c.runHook(hook, state, func(stdio [3]*os.File) (int, error) { return spawnExec(l, e, stdio) })
		e.Close()
		if err != nil {
			return fmt.Errorf("error running hook #%d: %w", i, err)
		}
	}
	return nil
}

// hasStartedHooks reports whether there are poststart hooks.
func (c *Container) hasStartedHooks() bool {
	spec, err := c.Spec()
	return err == nil && spec.Hooks != nil && len(spec.Hooks.Poststart) > 0
}

// startedHooks runs the poststart hooks.
func (c *Container) startedHooks() error {
	spec, err := c.Spec()
	if err != nil || spec.Hooks == nil {
		return err
	}
	return c.runHooks(spec.Hooks.Poststart, Running, c.Pid)
}

// stopHooks runs the poststop hooks of a container that is gone, all of them;
// failures are the caller's to log, and stop nothing.
func (c *Container) stopHooks() error {
	spec, err := c.Spec()
	if err != nil || spec.Hooks == nil {
		return nil
	}
	return c.eachHook(spec.Hooks.Poststop, Stopped, 0, func(error) bool { return true })
}

func (k *creation) stopHooks() {
	if err := k.c.stopHooks(); err != nil {
		k.Warn("%v", err)
	}
}

// spawnExec starts a pair of clones and returns the program's pid.
func spawnExec(l *launcher, e *execution, stdio [3]*os.File) (int, error) {
	c, err := l.start(image{plan: e.First, second: e.Second, cgroup: e.CgroupFD, files: e.FDs, explain: explainer(e.Explain)}, stdio)
	if err != nil {
		return 0, err
	}
	defer c.close()
	if e.gate != nil {
		e.gate.cloned()
		if err := e.passGate(c); err != nil {
			c.kill()
			return 0, err
		}
	}
	if err := c.finish(); err != nil {
		return 0, err
	}
	return c.pid(), nil
}

// passGate leads the child through its one sync point.
func (e *execution) passGate(c *child) error {
	if err := c.await(e.gate.out); err != nil {
		return err
	}
	if err := e.at(c); err != nil {
		return err
	}
	return runtime.Pass(e.gate.in)
}

// pidInside is the process's pid in its own namespace.
func pidInside(pid int) int {
	b, err := os.ReadFile("/proc/" + itoa(pid) + "/status")
	if err != nil {
		return pid
	}
	_, rest, _ := strings.Cut(string(b), "\nNSpid:")
	line, _, _ := strings.Cut(rest, "\n")
	f := strings.Fields(line)
	if len(f) == 0 {
		return pid
	}
	n := 0
	if _, err := fmt.Sscan(f[len(f)-1], &n); err != nil {
		return pid
	}
	return n
}
