package keeper

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

const (
	arenas       = 256 // plans in flight, parked children and nurseries
	maxStarts    = 64  // starts in flight; more of them wait
	maxInService = 256 // requests of any kind
)

// Keeper parents processes. It is made by [Open] and driven by one engine
// connection at a time.
type Keeper struct {
	root    string // exec root
	log     *slog.Logger
	region  *spawn.Region
	nursery nurseries
	streams streamer
	mounts  *mountHolder
	starts  chan struct{} // a token for each start in flight

	mu       sync.Mutex
	children map[string]*child // by ID; +checklocks:mu
	ends     map[int]onEnd     // by pid; +checklocks:mu
	early    map[int]ended     // ends of children not booked yet; +checklocks:mu
	inFlight int               // clones whose pid is not booked; +checklocks:mu
	seconds  map[string]int    // second halves that have not begun, by container; +checklocks:mu
	exits    map[string]Exit   // not acknowledged; +checklocks:mu
	session  *session          // the engine; nil: none; +checklocks:mu
	last     *session          // the engine that is or was; +checklocks:mu
	orphans  orphanage

	listener *net.UnixListener
	lock     *os.File // held: one keeper for an exec root
	level    string   // of the log, for the next program

	// An upgrade waits for requests and reports under way and lets no new ones
	// begin, nor children be reaped.
	reaping   sync.Mutex
	service   sync.WaitGroup
	finishing sync.WaitGroup
	frozen    bool   // +checklocks:mu
	upgraded  uint64 // the request that Serve has to answer
}

// Open makes a keeper for the exec root, takes up what an earlier one left
// there, and listens.
func Open(execRoot string, log *slog.Logger, level string) (*Keeper, error) {
	k := newKeeper(execRoot, log, level)
	for _, d := range []string{execRoot, k.path("live"), k.path("exits"), k.path("keeper")} {
		if err := os.MkdirAll(d, 0o710); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod(k.path("keeper"), 0o700); err != nil {
		return nil, err
	}
	var err error
	if k.lock, err = takeLock(k.path("keeper", "lock")); err != nil {
		return nil, err
	}
	region, err := spawn.NewRegion(arenas)
	if err != nil {
		return nil, err
	}
	k.region = region
	if k.streams, err = newStreams(k.path("live"), k); err != nil {
		return nil, err
	}
	if err := k.takeUp(); err != nil {
		return nil, err
	}
	if k.listener, err = listen(SocketPath(execRoot)); err != nil {
		return nil, err
	}
	return k, nil
}

func newKeeper(execRoot string, log *slog.Logger, level string) *Keeper {
	return &Keeper{
		root:     execRoot,
		log:      log,
		level:    level,
		mounts:   newMountHolder(),
		starts:   make(chan struct{}, maxStarts),
		children: map[string]*child{},
		ends:     map[int]onEnd{},
		early:    map[int]ended{},
		seconds:  map[string]int{},
		exits:    map[string]Exit{},
	}
}

func (k *Keeper) path(elem ...string) string {
	return filepath.Join(append([]string{k.root}, elem...)...)
}

// SocketPath is where the keeper of an exec root listens.
func SocketPath(execRoot string) string { return filepath.Join(execRoot, "keeper", "keeper.sock") }

// Serve makes the nurseries and serves engines until the listener closes.
func (k *Keeper) Serve() error {
	if err := k.openNurseries(); err != nil {
		return err
	}
	go k.reap()
	go k.watchOrphans()
	if k.session != nil {
		go k.serveUpgraded(k.session)
	}
	for {
		c, err := k.listener.AcceptUnix()
		if err != nil {
			return err
		}
		go k.serve(c)
	}
}

// serve talks to one engine until it goes or a newer one comes.
func (k *Keeper) serve(c *net.UnixConn) {
	s, err := k.greet(c)
	if err != nil {
		if !errors.Is(err, errPing) {
			k.log.Warn("connection refused", "error", err)
		}
		c.Close()
		return
	}
	k.serveSession(s)
}

func (k *Keeper) serveSession(s *session) {
	defer k.leave(s)
	go s.sendEvents()
	limit := make(chan struct{}, maxInService)
	for {
		m, err := s.receive()
		if err != nil {
			k.log.Info("engine left", "engine", s.engine, "error", err)
			return
		}
		switch {
		case m.op == opUpgrade || m.op == opShutdown:
			k.conclude(s, m)
			m.close()
			continue
		case !k.enter():
			m.close()
			return
		}
		s.requests.Add(1)
		limit <- struct{}{}
		go func() {
			defer func() {
				m.close()
				<-limit
				s.requests.Done()
				k.service.Done()
			}()
			k.handle(s, m)
		}()
	}
}

// conclude does what ends the program.
func (k *Keeper) conclude(s *session, m *message) {
	var err error
	if m.op == opShutdown {
		if err = k.shutdown(); err == nil {
			_ = s.reply(m.request, errorDoc{}, nil)
			os.Exit(0)
		}
	} else {
		err = k.upgrade(s, m)
	}
	k.log.Warn("the keeper goes on", "request", m.op, "error", err)
	_ = s.reply(m.request, errorOf(err), nil)
}

// serveUpgraded goes on with the engine of the program before. What it may
// have missed is told again.
func (k *Keeper) serveUpgraded(s *session) {
	if s.reply(k.upgraded, helloReply{Version: protocolVersion, Pid: os.Getpid()}, nil) == nil {
		for _, i := range k.listed("") {
			if i.exit != nil {
				s.queue(opExited, *i.exit)
			}
		}
	}
	k.serveSession(s)
}

// shutdown makes the keeper ready to end, if nothing runs.
func (k *Keeper) shutdown() error {
	k.mu.Lock()
	for id, c := range k.children {
		if c.state != parked {
			k.mu.Unlock()
			return errdefs.New(errdefs.Conflict, "process %s is running", id)
		}
	}
	k.frozen = true
	k.mu.Unlock()
	k.service.Wait()
	k.nursery.close()
	return os.Remove(SocketPath(k.root))
}

// takeLock makes sure that one keeper serves an exec root.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	fd, err := descriptor(f)
	for begun := time.Now(); err == nil; time.Sleep(5 * time.Millisecond) {
		err = syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		// A nursery of a keeper that has just died may hold it for a moment.
		if errors.Is(err, syscall.EWOULDBLOCK) && time.Since(begun) < time.Second {
			err = nil
		}
	}
	return nil, errors.Join(fmt.Errorf("another keeper serves this directory: %w", err), f.Close())
}

// enter counts a request in, unless the keeper is about to be replaced.
func (k *Keeper) enter() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.frozen {
		k.service.Add(1)
	}
	return !k.frozen
}

// errPing ends a connection that only asked whether somebody is here.
var errPing = errors.New("ping")

// greet checks who is there and makes it the engine.
func (k *Keeper) greet(c *net.UnixConn) (*session, error) {
	if err := k.checkPeer(c); err != nil {
		return nil, err
	}
	s := newSession(newWire(c))
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return nil, err
	}
	m, err := s.receive()
	if err != nil {
		return nil, err
	}
	defer m.close()
	var hello helloDoc
	if m.op == opPing {
		return nil, errors.Join(errPing, s.reply(m.request, helloReply{Version: protocolVersion, Pid: os.Getpid()}, nil))
	}
	if m.op != opHello {
		return nil, fmt.Errorf("%v before hello", m.op)
	}
	if err := m.unmarshal(&hello); err != nil {
		return nil, err
	}
	if hello.Version < 1 {
		return nil, fmt.Errorf("protocol version %d", hello.Version)
	}
	if hello.Dirs {
		k.streams.setDirs(m.take(0), m.take(1))
	}
	s.engine = hello.EngineID
	if err := errors.Join(c.SetReadDeadline(time.Time{}), s.reply(m.request, helloReply{Version: protocolVersion, Pid: os.Getpid()}, nil)); err != nil {
		return nil, err
	}
	k.replace(s)
	return s, nil
}

// replace makes s the engine and sends the one before away.
func (k *Keeper) replace(s *session) {
	k.mu.Lock()
	old := k.session
	k.session, s.before, k.last = s, k.last, s
	k.mu.Unlock()
	k.log.Info("engine connected", "engine", s.engine)
	if old != nil {
		old.close()
	}
	k.orphans.wakeUp()
}

func (k *Keeper) leave(s *session) {
	s.close()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.session == s {
		k.session = nil
	}
}

// tell sends an event to the engine, if there is one. Whatever matters is told
// again when the next one asks for the list.
func (k *Keeper) tell(o op, doc any) {
	k.mu.Lock()
	s := k.session
	k.mu.Unlock()
	if s != nil {
		s.queue(o, doc)
	}
}

func (k *Keeper) detached(id string, client uint64) {
	k.tell(opDetached, idDoc{ID: id, Client: client})
}

func (k *Keeper) stdinClosed(id string) { k.tell(opStdinClosed, idDoc{ID: id}) }
