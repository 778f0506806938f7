package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/memfd"
	"github.com/tare-engine/tare/internal/linux/rawfd"
)

// An upgrade replaces the keeper's program by exec: the pid, the children and
// the descriptors stay, and the engine's connection with them. The new program
// answers the request (reopen.go).
//
//	asked ──▶ quiet ──▶ frozen ──▶ exec ──▶ state taken over ──▶ answered
//	  │         │          │         │              │
//	  └─────────┴──────────┴─────────┘              └──▶ exec of the old program
//	     all goes on as before, and the error is answered
const (
	// upgradeWait is how long what is in flight may hold an upgrade up. It is longer
	// than a container may hold up what appears in it.
	upgradeWait = secondWait + secondTime + 3*time.Second
	// maxProgram is how large a program may be.
	maxProgram = 256 << 20
)

// stateVersion changes when a program could not take the state of one of an
// earlier version over, or the other way round.
const stateVersion = 1

// keeperState goes from one program to the next. Descriptors are numbers that
// stay open over the exec, -1 where there is none. Fields are only added.
type keeperState struct {
	Version  int
	Listener int
	Lock     int
	Region   int
	Engine   int
	EngineID string
	Request  uint64 // to be answered by the new program
	Children []childState
	Streams  json.RawMessage
	Before   *int // the program before, which goes on if this one cannot; nil: unknown

	plans, before *os.File // Region and Before, in the new program
}

type childState struct {
	wire.Process
	State               state
	Mounts, Park, Pidfd int
	HostPorts           []int
	Arena               int
	Addr                uint64
	Ended               *syscall.WaitStatus // of an orphan: it has ended, and how is known
}

// upgrade executes the program in m's descriptor. It returns only if that
// fails, and then the keeper goes on as before.
//
// Preconditions: k.concluding is held.
func (k *Keeper) upgrade(s *session, m *wire.Message) error {
	program, err := newProgram(m)
	if err != nil {
		return err
	}
	defer program.Close()
	failpoint.Hit("keeper/upgrade-asked")
	err = k.quiesce()
	if err == nil {
		err = failpoint.Err("keeper/upgrade-quiet")
	}
	if err == nil {
		err = k.exec(s, m.Request, program)
	}
	k.goOn()
	return err
}

// newProgram is a sealed copy of the program that comes with m.
func newProgram(m *wire.Message) (*os.File, error) {
	var d wire.UpgradeDoc
	if err := m.Unmarshal(&d); err != nil {
		return nil, errdefs.As(errdefs.InvalidArgument, err)
	}
	if len(m.Files) != 1 {
		return nil, errdefs.New(errdefs.InvalidArgument, "an upgrade needs one program")
	}
	program, err := memfd.Program("tare-keeper", io.NewSectionReader(m.Files[0], 0, maxProgram))
	if err != nil {
		return nil, err
	}
	digest, err := wire.ProgramDigest(io.NewSectionReader(program, 0, maxProgram))
	if err == nil && digest != d.Program {
		err = errdefs.New(errdefs.InvalidArgument, "the program is %s, not %s", digest, d.Program)
	}
	if err != nil {
		return nil, errors.Join(err, program.Close())
	}
	return program, nil
}

// quiesce lets everything in flight end and nothing new begin. No child is
// reaped until goOn, which is called after an error too.
func (k *Keeper) quiesce() error {
	end := time.Now().Add(upgradeWait)
	k.gate.shut()
	if !k.gate.emptied(time.Until(end)) {
		return errdefs.New(errdefs.Unavailable, "starts are in flight")
	}
	k.nursery.Close()
	// They end at once; their arenas are about to be used again.
	if !comesTrue(time.Until(end), k.nursery.Gone) {
		return errdefs.New(errdefs.Unavailable, "a nursery does not end")
	}
	k.reaper.Hold(true)
	k.exits.underWay.Wait()
	return nil
}

// goOn undoes quiesce, however far that has come.
func (k *Keeper) goOn() {
	k.reaper.Hold(false)
	if err := k.nursery.Open(); err != nil {
		k.log.Error("nurseries are tried again", "error", err)
	}
	k.gate.open()
}

// exec replaces the program. It returns only on failure, and then everything
// is as it was.
func (k *Keeper) exec(s *session, request uint64, program *os.File) error {
	streams, err := k.streams.Freeze()
	if err != nil {
		return fmt.Errorf("freeze streams: %w", err)
	}
	defer k.streams.Unfreeze()
	if !s.toldAll(sendTimeout) {
		return errdefs.New(errdefs.Unavailable, "the engine does not take what it is told")
	}
	var kept keeping
	defer kept.undo()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer self.Close()
	st := k.state(s, &kept)
	before := kept.file(self)
	st.Request, st.Streams, st.Before = request, streams, &before
	file, err := stateFile(st)
	if err != nil {
		return err
	}
	defer file.Close()
	fd := kept.file(file)
	if err := errors.Join(kept.err, failpoint.Err("keeper/upgrade-frozen")); err != nil {
		return err
	}
	args := []string{os.Args[0], "--exec-root", string(k.dir), "--log-level", k.level, "--state", strconv.Itoa(fd)}
	return fmt.Errorf("execute: %w", memfd.Exec(program, args, wire.KeptEnv()))
}

func stateFile(st keeperState) (*os.File, error) {
	f, err := memfd.New("state")
	if err != nil {
		return nil, err
	}
	if err := json.NewEncoder(f).Encode(st); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// state describes everything but the streams.
func (k *Keeper) state(s *session, kept *keeping) keeperState {
	st := keeperState{
		Version: stateVersion, Listener: kept.conn(k.listener), Lock: kept.file(k.lock), Region: kept.file(k.region.File()),
		Engine: kept.conn(s.Net()), EngineID: s.engine,
	}
	for _, c := range k.children.all() {
		cs := childState{
			Process: c.process, State: c.state, Mounts: kept.file(c.mounts), Park: kept.file(c.park), Pidfd: kept.file(c.pidfd),
			Ended: c.ended.Load(),
		}
		for _, f := range c.ports { // nothing else changes them: all is quiet
			cs.HostPorts = append(cs.HostPorts, kept.file(f))
		}
		if c.slab != nil {
			cs.Arena, cs.Addr = c.slab.Place()
		}
		st.Children = append(st.Children, cs)
	}
	return st
}

// keeping are descriptors that are to stay open over an exec.
type keeping struct {
	fds []int
	err error // of any of them
}

// file adds f, which may be nil, and returns its number, -1 if there is none.
func (p *keeping) file(f *os.File) int {
	if f == nil {
		return -1
	}
	return p.conn(f)
}

func (p *keeping) conn(f interface {
	SyscallConn() (syscall.RawConn, error)
}) int {
	n := -1
	c, err := f.SyscallConn()
	if err == nil {
		err = c.Control(func(fd uintptr) { n = int(fd) })
	}
	if err == nil {
		p.fds = append(p.fds, n)
		err = rawfd.KeepOverExec(n, true)
	}
	p.err = errors.Join(p.err, err)
	return n
}

func (p *keeping) undo() {
	for _, fd := range p.fds {
		_ = rawfd.KeepOverExec(fd, false) // fails only for what is not open
	}
}
