package container

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/keeper"
	kernel "github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/runtime"
)

// execKept is how long an ended exec can still be inspected.
const execKept = 5 * time.Minute

// Exec is one further process of a container. Its fields below mu change.
type Exec struct {
	ID        string
	Container string
	Request   container.ExecCreateRequest

	mu      sync.Mutex
	started bool
	running bool
	pid     int
	ticks   uint64 // when the process began: tells a reused pid
	begun   time.Time
	files   keeper.Files
	done    *turn

	exitCode atomic.Pointer[int] // written below mu; nil: it has not ended
}

// ExecView is a picture of an exec.
type ExecView struct {
	ID, Container string
	Request       container.ExecCreateRequest
	Running       bool
	Pid           int
	ExitCode      *int
}

// execTable holds the execs of all containers.
type execTable struct {
	mu   sync.Mutex
	byID map[string]*Exec
}

func newExecTable() *execTable { return &execTable{byID: map[string]*Exec{}} }

func (t *execTable) add(x *Exec) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byID[x.ID] = x
}

func (t *execTable) get(id string) *Exec {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byID[id]
}

func (t *execTable) drop(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byID, id)
}

// forget drops all execs of a container.
func (t *execTable) forget(container string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, x := range t.byID {
		if x.Container == container {
			delete(t.byID, id)
		}
	}
}

// of returns the IDs of a container's execs that have not ended.
func (t *execTable) of(container string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ids []string
	for id, x := range t.byID {
		if x.Container == container && x.exitCode.Load() == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// closeStdin drops our duplicate of an exec's input; false: no such exec.
func (t *execTable) closeStdin(id string) bool {
	x := t.get(id)
	if x == nil {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.files.Stdin != nil {
		x.files.Stdin.Close()
		x.files.Stdin = nil
	}
	return true
}

// adopt takes the streams of an exec from a keeper that we connect with again.
func (x *Exec) adopt(p *keeper.Process) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.files.Close()
	x.files, x.running, x.pid, x.ticks = p.Files, true, p.Pid, p.StartTicks
}

// Execs returns the IDs of the container's execs that have not ended.
func (s *Service) Execs(containerID string) []string { return s.execs.of(containerID) }

// CreateExec registers a process to be run in a running container.
func (s *Service) CreateExec(ref string, req container.ExecCreateRequest) (string, error) {
	c, err := s.index.Find(ref)
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
	s.execs.add(x)
	s.events.publish(v, events.Action(string(events.ActionExecCreate)+": "+commandLine(req.Cmd)), "execID", x.ID)
	return x.ID, nil
}

func (s *Service) findExec(id string) (*Exec, *Container, error) {
	x := s.execs.get(id)
	if x == nil {
		return nil, nil, errNoExec(id)
	}
	c := s.index.Get(x.Container)
	if c == nil || !c.View().Alive() {
		return x, c, errdefs.New(errdefs.Conflict, "container %s is not running", x.Container)
	}
	return x, c, nil
}

// InspectExec returns the picture of an exec.
func (s *Service) InspectExec(id string) (*ExecView, error) {
	x := s.execs.get(id)
	if x == nil {
		return nil, errNoExec(id)
	}
	x.awaitEnd()
	x.mu.Lock()
	defer x.mu.Unlock()
	return &ExecView{ID: x.ID, Container: x.Container, Request: x.Request, Running: x.running, Pid: x.pid, ExitCode: x.exitCode.Load()}, nil
}

// awaitEnd waits for the report of an exec whose process has ended. Clients ask
// for the exit code as soon as the stream has ended, which they learn from the
// keeper, and may be faster than its report.
func (x *Exec) awaitEnd() {
	x.mu.Lock()
	ended := x.running && !alive(x.pid, x.ticks)
	x.mu.Unlock()
	if ended {
		ctx, cancel := context.WithTimeout(context.Background(), deadGrace)
		defer cancel()
		x.done.wait(ctx)
	}
}

// alive reports whether a process is there, is the one that began at that
// time, and has not ended.
func alive(pid int, ticks uint64) bool {
	fd := openProcess(pid, ticks)
	if fd == nil {
		return false
	}
	defer fd.Close()
	ended, err := kernel.Ended(fd)
	return err == nil && !ended
}

// StartExec runs an exec. With detach it returns when the program has been
// executed; else hijack is asked for the client's connection first, which gets
// the output and, at the latest when it ends, is closed.
func (s *Service) StartExec(ctx context.Context, id string, req container.ExecStartRequest, hijack Hijack) error {
	x, c, err := s.findExec(id)
	if err != nil {
		return err
	}
	if _, err := s.link.wait(); err != nil {
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
	x.started = true
	ends, err := s.execEnds(x, req, hijack)
	if err != nil {
		return err
	}
	defer closeEnds(ends)
	if err := s.launchExec(context.WithoutCancel(ctx), x, c, req, ends); err != nil {
		code := 126
		var se *runtime.StartError
		if errors.As(err, &se) {
			code = se.Code
		}
		x.exitCode.Store(&code)
		time.AfterFunc(execKept, func() { s.execs.drop(x.ID) })
		tellEnds(ends, x.Request.Tty, err)
		return err
	}
	return nil
}

// execEnds takes the client's connection, unless the exec is detached.
func (s *Service) execEnds(x *Exec, req container.ExecStartRequest, hijack Hijack) ([]keeperEnd, error) {
	if req.Detach {
		return nil, nil
	}
	name := x.Request.DetachKeys
	keys, err := api.ParseDetachKeys(name)
	if err != nil {
		return nil, errdefs.New(errdefs.InvalidArgument, "Invalid detach keys (%s) provided: %w", name, err)
	}
	conn, buffered, err := hijack(x.Request.Tty)
	if err != nil {
		return nil, err
	}
	o := api.AttachOptions{Stdin: x.Request.AttachStdin, Stdout: x.Request.AttachStdout, Stderr: x.Request.AttachStderr}
	end, err := newKeeperEnd(conn, buffered, o, keys)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return []keeperEnd{end}, nil
}

// launchExec has the keeper start the process.
//
// Preconditions: x.mu is held.
func (s *Service) launchExec(ctx context.Context, x *Exec, c *Container, req container.ExecStartRequest, ends []keeperEnd) error {
	c.mu.Lock()
	v, p := c.View(), c.process
	if p == nil || p.fd == nil {
		c.mu.Unlock()
		return errNotRunning(v)
	}
	plan, user, err := s.planExec(v, p, x, req)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	defer plan.Close()
	failpoint.Hit("exec/planned")
	conn, err := s.link.now()
	if err != nil {
		return err
	}
	st := keeper.Stdio{TTY: x.Request.Tty, OpenStdin: x.Request.AttachStdin, StdinOnce: true, UID: int(user.UID), GID: int(user.GID)}
	if size := req.ConsoleSize; size != nil {
		st.Rows, st.Cols = uint16(size[0]), uint16(size[1])
	}
	proc, err := conn.Start(ctx, keeper.Start{
		ID: x.ID, Container: c.ID, CgroupFD: -1, Plan: plan.First, Second: plan.Second, FDs: plan.FDs, Stdio: st, Clients: clients(ends),
	})
	var step *keeper.StepError
	switch {
	case err != nil && !alive(p.pid, p.startTicks): // it ended meanwhile, and with it what there was to join
		return errNotRunning(v)
	case errors.As(err, &step):
		return plan.Explain(step)
	case err != nil:
		return fmt.Errorf("exec in container %s: %w", c.ID, err)
	}
	failpoint.Hit("exec/started")
	x.running, x.pid, x.ticks, x.files, x.begun = true, proc.Pid, proc.StartTicks, proc.Files, time.Now().UTC()
	s.events.publish(v, events.Action(string(events.ActionExecStart)+": "+commandLine(x.Request.Cmd)), "execID", x.ID)
	return nil
}

// execEnded takes note of the end of an exec; false: e is not of an exec.
func (s *Service) execEnded(e keeper.Exit) bool {
	x := s.execs.get(e.ID)
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
	failpoint.Hit("exec/ended")
	if c := s.index.Get(x.Container); c != nil {
		s.events.publish(c.View(), events.ActionExecDie, "execID", x.ID, "exitCode", fmt.Sprint(code))
	}
	time.AfterFunc(execKept, func() { s.execs.drop(x.ID) })
	return true
}

// ResizeExec sets the size of an exec's terminal.
func (s *Service) ResizeExec(ctx context.Context, id string, rows, cols uint16) error {
	x, _, err := s.findExec(id)
	if err != nil {
		return err
	}
	x.mu.Lock()
	running := x.running
	x.mu.Unlock()
	if !running {
		return errdefs.New(errdefs.Conflict, "cannot resize a stopped container: exec %s is not running", id)
	}
	conn, err := s.link.wait()
	if err != nil {
		return err
	}
	return conn.Resize(ctx, id, rows, cols)
}

// tellEnds writes an error to clients that have been answered already.
func tellEnds(ends []keeperEnd, tty bool, cause error) {
	for _, e := range ends {
		text := cause.Error() + "\r\n"
		if !tty {
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
