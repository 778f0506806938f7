package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/linux/cgroup"
	"github.com/tare-engine/tare/internal/store"
)

// DialKeeper connects with the keeper, starting one if there is none. The
// service's events come over the connection.
type DialKeeper func(ctx context.Context, ev keeper.Events) (*keeper.Conn, error)

// keeperPatience is how long a request waits for a keeper that is being
// replaced.
const keeperPatience = 5 * time.Second

// keeperConn returns the connection with the keeper, which may have to be
// replaced first. Its caller holds no lock of a container or exec: a new keeper
// serves once reconcile has had each of them. Who is about to take one waits
// here before, and uses keeperNow below it.
func (s *Service) keeperConn() (*keeper.Conn, error) {
	for end := time.Now().Add(keeperPatience); ; time.Sleep(5 * time.Millisecond) {
		conn, err := s.keeperNow()
		if err == nil || time.Now().After(end) {
			return conn, err
		}
	}
}

// keeperNow returns the connection with the keeper if there is one.
func (s *Service) keeperNow() (*keeper.Conn, error) {
	s.keeperMu.Lock()
	defer s.keeperMu.Unlock()
	if s.keeper == nil {
		return nil, errdefs.New(errdefs.Unavailable, "the keeper of the containers' processes is being replaced; try again")
	}
	return s.keeper, nil
}

// session is one connection with the keeper. Only the loss of an established
// one starts a replacement: while one is being made its maker tries again.
type session struct {
	*Service
	established bool // guarded by Service.keeperMu
}

// connect dials the keeper and brings it and our view of what runs together.
func (s *Service) connect(ctx context.Context) error {
	ses := &session{Service: s}
	conn, err := s.dial(ctx, ses)
	if err != nil {
		return fmt.Errorf("connect with the keeper: %w", err)
	}
	procs, exits, err := conn.List(ctx)
	if err != nil {
		return errors.Join(fmt.Errorf("list the keeper's processes: %w", err), conn.Close())
	}
	s.reconcile(ctx, conn, procs, exits)
	s.keeperMu.Lock()
	s.keeper, ses.established = conn, true
	s.keeperMu.Unlock()
	for _, e := range exits {
		s.Exited(e)
	}
	return nil
}

// Lost is called when the connection with the keeper has broken. A keeper that
// was killed is replaced and given the streams of all that runs.
func (s *session) Lost(cause error) {
	s.keeperMu.Lock()
	replace := s.established && !s.isClosing()
	if replace {
		s.keeper = nil
	}
	s.keeperMu.Unlock()
	if !replace {
		return
	}
	s.background.Go(s.cells.drop)
	slog.Warn("lost the keeper", "cause", cause)
	s.background.Go(func() {
		for delay := 10 * time.Millisecond; ; delay = min(2*delay, time.Second) {
			err := s.connect(context.Background())
			if err == nil {
				slog.Info("the keeper is back")
				return
			}
			slog.Error("replace the keeper", "err", err)
			if !s.pause(delay) {
				return
			}
		}
	})
}

func (s *Service) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// reconcile compares what we believe to run with what the keeper has.
func (s *Service) reconcile(ctx context.Context, conn *keeper.Conn, procs []keeper.Process, exits []keeper.Exit) {
	ended := map[string]bool{}
	for _, e := range exits {
		ended[e.ID] = true
	}
	known := map[string]*keeper.Process{}
	for i := range procs {
		known[procs[i].ID] = &procs[i]
	}
	for _, c := range s.index.List() {
		p := known[c.ID]
		delete(known, c.ID)
		if err := s.settleStart(conn, c, p, ended[c.ID]); err != nil {
			slog.Error("settle a start that was cut off", "container", c.ID, "err", err)
		}
		if err := s.reunite(ctx, conn, c, p); err != nil {
			slog.Error("adopt container", "container", c.ID, "err", err)
		}
	}
	for _, p := range known {
		if x := s.execOf(p); x != nil {
			x.adopt(p)
			continue
		}
		s.stray(conn, p)
	}
}

// execOf is the exec of a process; one of an earlier engine is booked again.
func (s *Service) execOf(p *keeper.Process) *Exec {
	if x := s.execs.get(p.ID); x != nil {
		return x
	}
	c := s.index.Get(p.Container)
	if c == nil || !c.View().Alive() || p.Orphan {
		return nil
	}
	x := &Exec{ID: p.ID, Container: p.Container, started: true, done: newTurn()}
	s.execs.add(x)
	return x
}

// settleStart finds out what became of a start during which the engine was
// killed: the keeper has the process, or its exit, or it never came about.
func (s *Service) settleStart(conn *keeper.Conn, c *Container, p *keeper.Process, ended bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	ours := c.process
	if ours == nil || ours.pid != 0 || ended {
		return nil
	}
	if p == nil || p.Parked {
		return s.neverStarted(c, ours)
	}
	ours.pid, ours.startTicks, ours.fd = p.Pid, p.StartTicks, openProcess(p.Pid, p.StartTicks)
	ours.live.Pid, ours.live.StartTicks = p.Pid, p.StartTicks
	v := *c.View()
	v.Pid = p.Pid
	c.view.Store(&v)
	return store.PutVolatile(s.livePath(c.ID), ours.live)
}

// neverStarted gives back what a start had acquired that was cut off.
//
// Preconditions: c.mu is held.
func (s *Service) neverStarted(c *Container, p *process) error {
	c.process = nil
	status := Created
	if !c.View().Last.StartedAt.IsZero() {
		status = Exited
	}
	c.view.Store(&View{Record: c.View().Record, Status: status, Started: c.View().Last.StartedAt})
	slog.Info("a start was cut off before the program ran", "container", c.ID)
	return errors.Join(s.giveBack(c, p), p.cgroup.Kill(), p.cgroup.Remove(), os.Remove(s.livePath(c.ID)))
}

// reunite makes a container's state and the keeper's agree. p is nil if the
// keeper does not know the container.
func (s *Service) reunite(ctx context.Context, conn *keeper.Conn, c *Container, p *keeper.Process) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	ours := c.process
	switch {
	case ours == nil && p == nil:
		return nil
	case ours == nil: // its start was never answered
		s.stray(conn, p)
		return nil
	case p != nil && p.Pid == ours.pid && !p.Orphan:
		ours.files.Close()
		ours.files = p.Files
		return nil
	}
	given := keeper.Process{ID: c.ID, Pid: ours.pid, StartTicks: ours.startTicks, Started: c.View().Started, Files: ours.files}
	// The clients were the old keeper's. Those of runs would wait for the end.
	s.background.Go(func() { s.endRuns(c, nil) })
	err := conn.Adopt(ctx, given, s.stdio(c.View(), c.user()))
	if errdefs.Is(err, errdefs.NotFound) { // it ended while no keeper was there
		s.reportGone(c.ID, ours)
		return nil
	}
	return err
}

// stray ends a process that belongs to no container we know: its start was cut
// off before it was answered.
func (s *Service) stray(conn *keeper.Conn, p *keeper.Process) {
	if p.Parked {
		if err := conn.Evict(context.Background(), p.ID); err != nil {
			slog.Warn("evict the cell of an earlier engine", "id", p.ID, "err", err)
		}
		return
	}
	slog.Warn("end a process of a start that was cut off", "id", p.ID, "pid", p.Pid)
	s.strays.killed(p.ID)
	p.Files.Close()
	if proc, err := os.FindProcess(p.Pid); err == nil { // by pidfd
		if err := proc.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			slog.Error("end stray process", "pid", p.Pid, "err", err)
		}
		proc.Release()
	}
	// It may have entered its group after the start that failed removed it.
	g, err := cgroup.Open(s.cfg.Cgroup + "/" + p.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = errors.Join(g.Kill(), g.Remove())
	}
	if err != nil {
		slog.Warn("remove the group of a stray process", "id", p.ID, "err", err)
	}
}

// user is the user that the container's first process had at its start: the
// owner of its FIFOs.
func (c *Container) user() specs.User {
	if c.process != nil {
		return c.process.user
	}
	return specs.User{}
}

// stdio says what a container's process gets as its streams.
func (s *Service) stdio(v *View, u specs.User) keeper.Stdio {
	st := keeper.Stdio{
		TTY: v.Config.Tty, Rows: uint16(v.HostConfig.ConsoleSize[0]), Cols: uint16(v.HostConfig.ConsoleSize[1]),
		OpenStdin: v.Config.OpenStdin, StdinOnce: v.Config.StdinOnce, UID: int(u.UID), GID: int(u.GID),
	}
	if v.HostConfig.LogConfig.Type != "none" {
		st.Log = s.logOf(v)
	}
	return st
}

// endKeeper asks a keeper that has nothing to do to end. One that still has a
// process does not.
func endKeeper(pid int) {
	p, err := os.FindProcess(pid) // by pidfd
	if err == nil {
		err = p.Signal(syscall.SIGTERM)
		p.Release()
	}
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		slog.Warn("end the keeper", "pid", pid, "err", err)
	}
}
