// Package server is the keeper's side of the protocol; package keeper tells
// what a keeper does.
//
// A request runs through [Keeper], which knows the engine and little else, to
// one of
//
//	starter    starts, parks and wakes processes
//	exits      leads them from their end to the acknowledgement
//	orphans    processes of an earlier keeper
//	stream     (package) their standard input and output
//
// which share the list of [children]. Beneath them are the packages nursery
// (who clones), reaper (who waits), orphan (who waits without being the
// parent) and rundir (what the next keeper finds).
package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/keeper/nursery"
	"github.com/tare-engine/tare/internal/keeper/orphan"
	"github.com/tare-engine/tare/internal/keeper/reaper"
	"github.com/tare-engine/tare/internal/keeper/rundir"
	"github.com/tare-engine/tare/internal/keeper/stream"
	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

const (
	arenas       = 256 // plans in flight, parked children and nurseries
	maxStarts    = 64  // starts in flight; more of them wait
	maxInService = 256 // requests of any kind, but for what a container may hold up
)

// Keeper parents processes. It is made by [Open] and driven by one engine
// connection at a time.
type Keeper struct {
	dir     rundir.Dir
	log     *slog.Logger
	level   string // of the log, for the next program
	release string
	program func() string // the digest of what it runs

	children *children
	reaper   *reaper.Reaper
	nursery  *nursery.Pool
	streams  *stream.Streams
	starter  *starter
	exits    *exits
	orphans  *orphans
	engine   *engines
	gate     *gate // requests and reports under way

	concluding sync.Mutex // held by who is about to replace or end the program

	region   *spawn.Region
	listener *net.UnixListener
	lock     *os.File // held: one keeper for an exec root
	upgraded uint64   // the request that Serve has to answer
}

// Open makes a keeper for the exec root, takes up what an earlier one left
// there, and listens.
func Open(o options, log *slog.Logger) (*Keeper, error) {
	dir := rundir.Dir(o.root)
	lock, err := dir.Make()
	if err != nil {
		return nil, err
	}
	region, err := spawn.NewRegion(arenas)
	if err != nil {
		return nil, err
	}
	k, err := assemble(o, log, region)
	if err != nil {
		return nil, err
	}
	k.lock = lock
	if err := k.orphans.takeUp(); err != nil {
		return nil, err
	}
	if k.listener, err = listen(wire.SocketPath(o.root)); err != nil {
		return nil, err
	}
	return k, nil
}

// assemble puts the parts together.
func assemble(o options, log *slog.Logger, region *spawn.Region) (*Keeper, error) {
	dir := rundir.Dir(o.root)
	k := &Keeper{
		dir: dir, log: log, level: o.level, region: region, release: o.release, program: sync.OnceValue(ownProgram),
		children: newChildren(), reaper: reaper.New(), engine: &engines{log: log, losses: map[string]wire.LossDoc{}}, gate: &gate{},
	}
	var err error
	if k.streams, err = stream.New(dir.Live(), streamEvents{k.engine, k.children}); err != nil {
		return nil, err
	}
	k.nursery = nursery.New(region, k.reaper, log)
	mounts := newMountHolder()
	k.exits = &exits{dir: dir, log: log, streams: k.streams, children: k.children, engine: k.engine, mounts: mounts}
	k.starter = &starter{
		dir: dir, log: log, nursery: k.nursery, reaper: k.reaper, streams: k.streams,
		children: k.children, exits: k.exits, mounts: mounts, tokens: make(chan struct{}, maxStarts),
	}
	watcher, err := orphan.New(func(err error) { log.Error("processes of an earlier keeper are looked at one by one", "error", err) })
	if err != nil {
		return nil, err
	}
	k.orphans = &orphans{children: k.children, exits: k.exits, gate: k.gate, watcher: watcher}
	return k, nil
}

// Serve makes the nurseries and serves engines until the listener closes.
func (k *Keeper) Serve() error {
	if err := k.nursery.Open(); err != nil {
		return err
	}
	go k.reaper.Run()
	go k.orphans.watcher.Run()
	if s := k.engine.current(); s != nil {
		go k.serveUpgraded(s)
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
		if !errors.Is(err, errAsked) {
			k.log.Warn("connection refused", "error", err)
		}
		c.Close()
		return
	}
	k.serveSession(s)
}

func (k *Keeper) serveSession(s *session) {
	defer k.engine.leave(s)
	go s.sendEvents()
	limit := make(chan struct{}, maxInService)
	for {
		m, err := s.Receive()
		if err != nil {
			k.log.Info("engine left", "engine", s.engine, "error", err)
			return
		}
		switch {
		case m.Op == wire.OpUpgrade || m.Op == wire.OpShutdown:
			k.conclude(s, m)
			m.Close()
			continue
		}
		k.gate.enter()
		s.requests.Add(1)
		limit <- struct{}{}
		leave := sync.OnceFunc(func() { <-limit })
		go func() {
			defer func() {
				m.Close()
				leave()
				s.requests.Done()
				k.gate.leave()
			}()
			k.handle(s, m, leave)
		}()
	}
}

// conclude does what ends the program.
func (k *Keeper) conclude(s *session, m *wire.Message) {
	k.concluding.Lock()
	defer k.concluding.Unlock()
	var err error
	if m.Op == wire.OpShutdown {
		if err = k.shutdown(); err == nil {
			_ = s.reply(m.Request, wire.ErrorDoc{}, nil)
			os.Exit(0)
		}
	} else {
		err = k.upgrade(s, m)
	}
	k.log.Warn("the keeper goes on", "request", m.Op, "error", err)
	_ = s.reply(m.Request, wire.ErrorOf(err), nil)
}

// serveUpgraded goes on with the engine of the program before. What it may
// have missed is told again.
func (k *Keeper) serveUpgraded(s *session) {
	failpoint.Hit("keeper/upgrade-unanswered")
	if s.reply(k.upgraded, k.hello(), nil) == nil {
		for _, i := range k.children.listed("") {
			if i.exit != nil {
				s.queue(wire.OpExited, *i.exit)
			}
		}
	}
	k.serveSession(s)
}

// shutdown makes the keeper ready to end, if nothing runs.
func (k *Keeper) shutdown() error {
	if err := k.children.whenIdle(k.gate.shut); err != nil {
		return err
	}
	if !k.gate.emptied(upgradeWait) {
		k.gate.open()
		return errdefs.New(errdefs.Conflict, "requests are being served")
	}
	k.nursery.Close()
	// From here on it only remains to end: without the nurseries a keeper is none.
	if err := os.Remove(wire.SocketPath(string(k.dir))); err != nil && !errors.Is(err, os.ErrNotExist) {
		k.log.Warn("socket is not removed", "error", err)
	}
	return nil
}

// errAsked ends a connection that had one question and is no engine.
var errAsked = errors.New("asked")

func (k *Keeper) hello() wire.HelloReply {
	return wire.HelloReply{Version: wire.ProtocolVersion, Pid: os.Getpid(), Program: k.program(), Release: k.release, State: stateVersion}
}

// ownProgram is the digest of the program that runs; "" if it cannot be read,
// which is another one to every engine.
func ownProgram() string {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return ""
	}
	defer self.Close()
	digest, err := wire.ProgramDigest(self)
	if err != nil {
		return ""
	}
	return digest
}

// greet checks who is there and makes it the engine.
func (k *Keeper) greet(c *net.UnixConn) (*session, error) {
	if err := k.children.checkPeer(c); err != nil {
		return nil, err
	}
	s := newSession(wire.NewSocket(c))
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return nil, err
	}
	m, err := s.Receive()
	if err != nil {
		return nil, err
	}
	defer m.Close()
	switch m.Op {
	case wire.OpPing:
		return nil, errors.Join(errAsked, s.reply(m.Request, k.hello(), nil))
	case wire.OpHeld:
		return nil, errors.Join(errAsked, k.sendHeld(s, m.Request))
	case wire.OpHello:
		k.gate.enter() // the next program asks for another hello
		defer k.gate.leave()
		return s, k.welcome(c, s, m)
	}
	return nil, fmt.Errorf("%v before hello", m.Op)
}

// welcome makes the peer that sent the hello m the engine.
func (k *Keeper) welcome(c *net.UnixConn, s *session, m *wire.Message) error {
	var d wire.HelloDoc
	if err := m.Unmarshal(&d); err != nil {
		return err
	}
	if err := wire.Speaks(d.Version); err != nil {
		return errors.Join(err, s.reply(m.Request, wire.ErrorOf(err), nil))
	}
	if d.Dirs {
		k.streams.SetDirs(m.Take(0), m.Take(1))
	}
	s.engine = d.EngineID
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	k.engine.replace(s) // before the answer: of two, the one that is answered last is the newer
	if err := s.reply(m.Request, k.hello(), nil); err != nil {
		k.engine.leave(s)
		return err
	}
	return nil
}
