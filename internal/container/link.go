package container

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/logfile"
)

// DialKeeper connects with the keeper, starting one if there is none. The
// service's events come over the connection.
type DialKeeper func(ctx context.Context, ev keeper.Events) (*keeper.Conn, error)

// keeperConn is what the engine asks of its keeper; see [keeper.Conn].
type keeperConn interface {
	adopter
	List(ctx context.Context) (running []keeper.Process, exits []keeper.Exit, err error)
	Start(ctx context.Context, s keeper.Start) (*keeper.Process, error)
	Park(ctx context.Context, s keeper.Start) (*keeper.Process, error)
	Wake(ctx context.Context, s keeper.Start) (*keeper.Process, error)
	Attach(ctx context.Context, id string, cl keeper.Client) (client uint64, at logfile.Position, err error)
	Resume(ctx context.Context, client uint64) error
	Resize(ctx context.Context, id string, rows, cols uint16) error
	Ack(ctx context.Context, id string) error
	KeeperPid() int
	Close() error
}

var _ keeperConn = (*keeper.Conn)(nil)

// open is the dialer as the link calls it.
func (dial DialKeeper) open(ctx context.Context, ev keeper.Events) (keeperConn, error) {
	conn, err := dial(ctx, ev)
	if err != nil {
		return nil, err // and no interface that holds a nil
	}
	return conn, nil
}

// keeperPatience is how long a request waits for a keeper that is being
// replaced.
const keeperPatience = 5 * time.Second

// link is the connection with the keeper, and its replacement after a loss.
//
// A keeper that is killed is replaced, and what the new one has is brought
// together with what we believe to run before it serves anybody:
//
//	Lost ──▶ dial ──▶ list ──▶ far.reconcile ──▶ serves ──▶ its exits are told
//	  ▲                │ again, later                │
//	  └────────────────┴───────── lost again ────────┘
//
// Reconciling takes the lock of every container and exec. So nobody waits for a
// keeper while holding one of them: who is about to take such a lock calls wait
// before, and now below it.
type link struct {
	dial func(context.Context, keeper.Events) (keeperConn, error)
	far  farSide
	work *work

	mu        sync.Mutex
	conn      keeperConn    // nil while the keeper is away; guarded by mu
	losses    uint64        // of keepers; guarded by mu
	replacing chan struct{} // closed at the end of the last replacement; guarded by mu
}

// farSide is what the link tells of the keeper.
type farSide interface {
	Exited(keeper.Exit)
	Detached(id string, client uint64)
	StdinClosed(id string)
	LogLost(id string, lines int64, reason string)
	// reconcile compares what we believe to run with what a new keeper has.
	reconcile(ctx context.Context, conn adopter, procs []keeper.Process, exits []keeper.Exit)
	// lostKeeper is called when the keeper has gone, and the children that it had
	// parked. It does not block.
	lostKeeper()
}

// wait returns the connection with the keeper, which may have to be replaced
// first. Its caller holds no lock of a container or exec.
func (l *link) wait() (keeperConn, error) {
	for end := time.Now().Add(keeperPatience); ; time.Sleep(5 * time.Millisecond) {
		conn, err := l.now()
		if err == nil || time.Now().After(end) {
			return conn, err
		}
	}
}

// now returns the connection with the keeper if there is one.
func (l *link) now() (keeperConn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return nil, errdefs.New(errdefs.Unavailable, "the keeper of the containers' processes is being replaced; try again")
	}
	return l.conn, nil
}

// KeeperPid is the pid of the keeper, false while it is being replaced.
func (s *Service) KeeperPid() (int, bool) {
	conn, err := s.link.now()
	if err != nil {
		return 0, false
	}
	return conn.KeeperPid(), true
}

// KeepersLost counts the keepers that this engine has seen die.
func (s *Service) KeepersLost() uint64 {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	return s.link.losses
}

// session is one connection with the keeper. Only the loss of an established
// one starts a replacement: while one is being made its maker tries again.
type session struct {
	farSide
	link        *link
	established bool // guarded by link.mu
	lost        bool // guarded by link.mu
}

var _ keeper.Events = (*session)(nil)

// begin is connect at the boot. A keeper that is killed meanwhile is replaced at
// once; one that cannot be had is an error.
func (l *link) begin(ctx context.Context) error {
	err := l.connect(ctx)
	if errors.Is(err, keeper.ErrLost) {
		slog.Warn("lost the keeper", "err", err)
		err = l.connect(ctx)
	}
	return err
}

// connect dials the keeper and brings it and our view of what runs together.
func (l *link) connect(ctx context.Context) error {
	ses := &session{farSide: l.far, link: l}
	conn, err := l.dial(ctx, ses)
	if err != nil {
		return fmt.Errorf("connect with the keeper: %w", err)
	}
	procs, exits, err := conn.List(ctx)
	if err != nil {
		return errors.Join(fmt.Errorf("list the keeper's processes: %w", err), conn.Close())
	}
	l.far.reconcile(ctx, conn, procs, exits)
	if !l.serve(ses, conn) {
		return fmt.Errorf("reunite with the keeper: %w", keeper.ErrLost)
	}
	for _, e := range exits {
		l.far.Exited(e)
	}
	return nil
}

// serve makes a session the one of all requests; false: it was lost while it was
// being made, and nobody would be told.
func (l *link) serve(ses *session, conn keeperConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ses.lost {
		return false
	}
	l.conn, ses.established = conn, true
	return true
}

// Lost is called when the connection with the keeper has broken. A keeper that
// was killed is replaced and given the streams of all that runs.
func (s *session) Lost(cause error) {
	l := s.link
	l.mu.Lock()
	s.lost = true
	replace := s.established && !l.work.closes()
	done := make(chan struct{})
	if replace {
		l.conn, l.replacing = nil, done
		l.losses++
	}
	l.mu.Unlock()
	if !replace {
		return
	}
	slog.Warn("lost the keeper", "cause", cause)
	l.far.lostKeeper()
	if !l.work.runOpen(func() { defer close(done); l.replace() }) {
		close(done)
	}
}

// settle waits for the end of a replacement that is under way.
func (l *link) settle() {
	l.mu.Lock()
	done := l.replacing
	l.mu.Unlock()
	if done != nil {
		<-done
	}
}

// replace connects with a new keeper, however long that takes.
func (l *link) replace() {
	for delay := 10 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		err := l.connect(context.Background())
		if err == nil {
			slog.Info("the keeper is back")
			return
		}
		slog.Error("replace the keeper", "err", err)
		if !l.work.pause(delay) {
			return
		}
	}
}

// acknowledge lets the keeper forget an exit. A keeper that is lost tells it
// again when it has been replaced.
func (l *link) acknowledge(id string) {
	for {
		conn, err := l.wait()
		if err == nil {
			if err := conn.Ack(context.Background(), id); err != nil {
				slog.Warn("acknowledge exit", "id", id, "err", err)
			}
			return
		}
		if l.work.closes() {
			return
		}
	}
}

// close leaves the keeper, and asks it to end if it has nothing to do.
func (l *link) close(idle bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return
	}
	l.conn.Close()
	if idle {
		endKeeper(l.conn.KeeperPid())
	}
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
