package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/container/index"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/linux/inroot"
	kernel "github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/runtime"
)

// Execs are the further processes of all containers: from their creation,
// through the one start that each may have, to some time after their end, so
// that it can be asked for.
//
// An exec's lock is taken before that of its container, and neither is held
// while waiting for a keeper (see link).
type Execs struct {
	*execTable
	defaults *Defaults
	index    *index.Index[*Container]
	link     *link
	records  *records
	events   eventLog
}

// Execs returns the further processes of the containers.
func (s *Service) Execs() *Execs { return s.execs }

// Of returns the IDs of a container's execs that have not ended.
func (all *Execs) Of(containerID string) []string { return all.of(containerID) }

// Create registers a process to be run in a running container.
func (all *Execs) Create(ref string, req container.ExecCreateRequest) (string, error) {
	c, err := all.index.Find(ref)
	if err != nil {
		return "", err
	}
	v := c.View()
	switch {
	case v.Status == Paused:
		return "", errdefs.New(errdefs.Conflict, "container %s is paused, unpause the container before exec", ref)
	case v.Status == Restarting:
		return "", errRestarting(v)
	case !v.Alive():
		return "", errNotRunning(v)
	}
	if err := spec.ValidateExec(&req); err != nil {
		return "", err
	}
	if req.DetachKeys != "" {
		if _, err := api.ParseDetachKeys(req.DetachKeys); err != nil {
			return "", errdefs.New(errdefs.InvalidArgument, "Invalid detach keys (%s) provided: %w", req.DetachKeys, err)
		}
	}
	x := &Exec{ID: ident.New(), Container: c.ID, Request: req, done: newTurn()}
	if req.User != "" { // that there is such a user is said now, as Docker does
		if _, err := look(context.Background(), c, func() (*execProgram, error) { return all.program(c, x) }); err != nil {
			return "", err
		}
	}
	all.add(x)
	all.events.publish(v, events.Action(string(events.ActionExecCreate)+": "+commandLine(req.Cmd)), "execID", x.ID)
	return x.ID, nil
}

func (all *Execs) find(id string) (*Exec, *Container, error) {
	x := all.get(id)
	if x == nil {
		return nil, nil, errNoExec(id)
	}
	c := all.index.Get(x.Container)
	if c == nil || !c.View().Alive() {
		return x, c, errdefs.New(errdefs.Conflict, "container %s is not running", x.Container)
	}
	return x, c, nil
}

// Inspect returns the picture of an exec.
func (all *Execs) Inspect(id string) (*ExecView, error) {
	x := all.get(id)
	if x == nil {
		return nil, errNoExec(id)
	}
	x.awaitEnd()
	x.mu.Lock()
	defer x.mu.Unlock()
	return &ExecView{ID: x.ID, Container: x.Container, Request: x.Request, Running: x.running, Pid: x.pid, ExitCode: x.exitCode.Load()}, nil
}

// Start runs an exec. With detach it returns when the program has been
// executed; else hijack is asked for the client's connection first, which gets
// the output and, at the latest when it ends, is closed.
func (all *Execs) Start(ctx context.Context, id string, req api.ExecStartRequest, hijack Hijack) error {
	x, c, err := all.find(id)
	if err != nil {
		return err
	}
	if _, err := all.link.wait(); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.started {
		return errdefs.New(errdefs.Conflict, "exec command %s has already run", id)
	}
	if c.View().Status == Paused {
		return errdefs.New(errdefs.Conflict, "container %s is paused, unpause the container before exec", c.ID)
	}
	ends, err := all.ends(x, req, hijack)
	if err != nil {
		return err
	}
	x.started = true
	defer closeEnds(ends)
	if req.ConsoleSize == nil && x.Request.Tty {
		req.ConsoleSize = x.Request.ConsoleSize
	}
	if err := all.launch(context.WithoutCancel(ctx), x, c, req, ends); err != nil {
		code := 126
		var se *runtime.StartError
		if errors.As(err, &se) {
			code = se.Code
		}
		x.exitCode.Store(&code)
		all.records.removeExec(x.ID)
		time.AfterFunc(execKept, func() { all.drop(x.ID) })
		tellEnds(ends, req.Tty, err)
		return err
	}
	return nil
}

// ends takes the client's connection, unless the exec is detached.
func (all *Execs) ends(x *Exec, req api.ExecStartRequest, hijack Hijack) ([]keeperEnd, error) {
	if req.Detach {
		return nil, nil
	}
	keys, err := detachKeys(x.Request.DetachKeys, x.Request.Tty)
	if err != nil {
		return nil, err
	}
	conn, buffered, err := hijack(req.Tty)
	if err != nil {
		return nil, err
	}
	o := api.AttachOptions{Stdin: x.Request.AttachStdin, Stdout: x.Request.AttachStdout, Stderr: x.Request.AttachStderr}
	if req.Tty && !x.Request.Tty { // without frames nobody can tell it from the output; Docker leaves it out too
		o.Stderr = false
	}
	end, err := newKeeperEnd(conn, buffered, o, keys, nil)
	if err != nil {
		conn.Close()
		return nil, err
	}
	end.client.Ends, x.endsWithClient = req.EndWithClient, req.EndWithClient
	return []keeperEnd{end}, nil
}

// launch has the keeper start the process.
//
// Preconditions: x.mu is held.
func (all *Execs) launch(ctx context.Context, x *Exec, c *Container, req api.ExecStartRequest, ends []keeperEnd) error {
	program, err := look(ctx, c, func() (*execProgram, error) { return all.program(c, x) })
	if err != nil {
		return err
	}
	v, p := c.View(), program.of
	plan, err := all.plan(c, program, req)
	if err != nil && leaves(p.pid, p.startTicks) {
		return errNotRunning(v)
	}
	if err != nil {
		return err
	}
	defer plan.close()
	failpoint.Hit("exec/planned")
	conn, err := all.link.now()
	if err != nil {
		return err
	}
	if err := all.records.putExec(x); err != nil {
		return err
	}
	failpoint.Hit("exec/recorded")
	st := keeper.Stdio{TTY: x.Request.Tty, Console: x.Request.Tty && p.external != nil, OpenStdin: x.Request.AttachStdin, StdinOnce: true, OddFrames: req.Tty != x.Request.Tty, UID: int(v.IDs.HostUID(program.User.UID)), GID: int(v.IDs.HostGID(program.User.GID))}
	if size := req.ConsoleSize; size != nil {
		st.Rows, st.Cols = uint16(size[0]), uint16(size[1])
	}
	how := plan.plan
	how.ID, how.Container, how.Stdio, how.Clients = x.ID, c.ID, st, clients(ends)
	proc, err := conn.Start(ctx, how)
	switch told := plan.explain(err); {
	case err != nil && leaves(p.pid, p.startTicks): // it ended meanwhile, and with it what there was to join
		return errNotRunning(v)
	case told != err:
		return told
	case err != nil:
		return fmt.Errorf("exec in container %s: %w", c.ID, err)
	}
	failpoint.Hit("exec/started")
	x.running, x.pid, x.ticks, x.files, x.begun = true, proc.Pid, proc.StartTicks, proc.Files, proc.Started
	all.events.publish(v, events.Action(string(events.ActionExecStart)+": "+commandLine(x.Request.Cmd)), "execID", x.ID)
	return nil
}

// rootOf opens the root of a container that runs, as its first process p sees it.
func rootOf(c *Container) (v *View, p *process, root *os.File, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, p = c.View(), c.process
	if p == nil || p.fd == nil {
		return v, p, nil, errNotRunning(v)
	}
	root, err = os.OpenFile("/proc/"+strconv.Itoa(p.pid)+"/root", inroot.OPath|syscall.O_DIRECTORY, 0)
	ended, err1 := kernel.Ended(p.fd)
	if err == nil && (err1 != nil || ended) { // the pid may have been another's
		root.Close()
	}
	switch {
	case err1 != nil || ended:
		err = errors.Join(err1, errNotRunning(v))
	case err != nil:
		err = fmt.Errorf("exec in container %s: %w", v.ID, err)
	}
	return v, p, root, err
}

// execProgram is what an exec executes.
type execProgram struct {
	*specs.Process
	seccomp *specs.LinuxSeccomp
	of      *process // of the container
	id      string   // the exec's
}

// program makes it. Its user is looked up in the container's files.
func (all *Execs) program(c *Container, x *Exec) (*execProgram, error) {
	v, p, root, err := rootOf(c)
	if err != nil && p != nil && leaves(p.pid, p.startTicks) {
		return nil, errNotRunning(v)
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	in := spec.ExecInput{Config: v.Config, HostConfig: v.HostConfig, Request: &x.Request, Root: root}
	if in.AppArmor, err = all.defaults.appArmor(v.HostConfig); err != nil {
		return nil, err
	}
	program := &execProgram{of: p, id: x.ID}
	program.Process, program.seccomp, err = spec.OfExec(in)
	if err != nil && leaves(p.pid, p.startTicks) {
		return nil, errNotRunning(v)
	}
	return program, err
}

// plan makes the plan of an exec.
func (all *Execs) plan(c *Container, program *execProgram, req api.ExecStartRequest) (*ready, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, p := c.View(), program.of
	if c.process != p {
		return nil, errNotRunning(v)
	}
	if p.external != nil {
		return readyExternal(p.external.Exec(program.id, program.Process))
	}
	e := runtime.ExecConfig{
		Process: program.Process, Seccomp: program.seccomp, PidFD: p.fd, Pid: p.pid, CgroupProcs: p.cgroup.JoinPaths(), CgroupFD: p.cgroup.OpenToJoin(),
	}
	if v.IDs != nil {
		e.UserNS, e.UIDs = true, v.IDs.UIDs
	}
	if req.ConsoleSize != nil {
		e.Rows, e.Cols = uint16(req.ConsoleSize[0]), uint16(req.ConsoleSize[1])
	}
	return readyExec(runtime.NewExec(e))
}

// ended takes note of the end of an exec; false: e is not of an exec.
func (all *Execs) ended(e keeper.Exit) bool {
	x := all.get(e.ID)
	if x == nil {
		return false
	}
	x.mu.Lock()
	if x.exitCode.Load() != nil { // an exit may be told more than once
		x.mu.Unlock()
		return true
	}
	code := exitCode(e)
	x.running = false
	x.exitCode.Store(&code)
	x.files.Close()
	x.files = keeper.Files{}
	x.done.result = Result{ExitCode: code}
	close(x.done.done)
	x.mu.Unlock()
	all.records.removeExec(x.ID)
	failpoint.Hit("exec/ended")
	if c := all.index.Get(x.Container); c != nil {
		all.events.publish(c.View(), events.ActionExecDie, "execID", x.ID, "exitCode", fmt.Sprint(code))
	}
	time.AfterFunc(execKept, func() { all.drop(x.ID) })
	return true
}

// Resize sets the size of an exec's terminal.
func (all *Execs) Resize(ctx context.Context, id string, rows, cols uint16) error {
	x, _, err := all.find(id)
	if err != nil {
		return err
	}
	x.mu.Lock()
	running := x.running
	x.mu.Unlock()
	if !running {
		return errdefs.New(errdefs.Conflict, "cannot resize a stopped container: exec %s is not running", id)
	}
	conn, err := all.link.wait()
	if err != nil {
		return err
	}
	return conn.Resize(ctx, id, rows, cols)
}

// tellEnds writes an error to clients that have been answered already.
func tellEnds(ends []keeperEnd, raw bool, cause error) {
	for _, e := range ends {
		text := cause.Error() + "\r\n"
		if !raw {
			h := api.Header(api.Stderr, len(text))
			text = string(h[:]) + text
		}
		syscall.Write(int(e.client.Conn.Fd()), []byte(text))
	}
}

func commandLine(cmd []string) string {
	line := ""
	for i, a := range cmd {
		if i > 0 {
			line += " "
		}
		line += a
	}
	return line
}
