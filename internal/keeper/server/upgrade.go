package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/keeper/rundir"
	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/memfd"
	"github.com/tare-engine/tare/internal/linux/rawfd"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// An upgrade replaces the keeper's program by exec: the pid, the children and
// the descriptors stay, and the engine's connection with them. The new program
// answers the request.

// upgradeWait is how long starts in flight may hold an upgrade up.
const upgradeWait = 10 * time.Second

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
}

type childState struct {
	wire.Process
	State               state
	Mounts, Park, Pidfd int
	HostPorts           []int
	Arena               int
	Addr                uint64
}

// upgrade executes the program in m's descriptor. It returns only if that
// fails, and then the keeper goes on as before.
func (k *Keeper) upgrade(s *session, m *wire.Message) error {
	if len(m.Files) != 1 {
		return errdefs.New(errdefs.InvalidArgument, "an upgrade needs one program")
	}
	program, err := memfd.Program("tare-keeper", io.NewSectionReader(m.Files[0], 0, 1<<30))
	if err != nil {
		return err
	}
	defer program.Close()
	if err := k.quiesce(); err != nil {
		return err
	}
	failpoint.Hit("keeper/upgrade-quiet")
	err = k.exec(s, m.Request, program)
	return errors.Join(err, k.goOn())
}

// quiesce lets everything in flight end and nothing new begin. No child is
// reaped until goOn.
func (k *Keeper) quiesce() error {
	k.gate.set(true)
	if !within(upgradeWait, k.gate.inside.Wait) {
		k.gate.set(false)
		return errdefs.New(errdefs.Unavailable, "starts are in flight")
	}
	k.nursery.Close()
	for !k.nursery.Gone() { // they end at once; their arenas are about to be used again
		time.Sleep(time.Millisecond)
	}
	k.reaper.Pause()
	k.exits.underWay.Wait()
	return nil
}

// goOn undoes quiesce.
func (k *Keeper) goOn() error {
	k.reaper.Resume()
	err := k.nursery.Open()
	k.gate.set(false)
	return err
}

// exec replaces the program. It returns only on failure.
func (k *Keeper) exec(s *session, request uint64, program *os.File) error {
	streams, err := k.streams.Freeze()
	if err != nil {
		return fmt.Errorf("freeze streams: %w", err)
	}
	st, err := k.state(s, request)
	st.Streams = streams
	var file *os.File
	if err == nil {
		file, err = stateFile(st)
	}
	if err == nil {
		var fd int
		if fd, err = kept(file); err == nil {
			args := []string{os.Args[0], "--exec-root", string(k.dir), "--log-level", k.level, "--state", strconv.Itoa(fd)}
			err = memfd.Exec(program, args, wire.KeptEnv())
		}
		file.Close()
	}
	return errors.Join(err, k.streams.Thaw(streams))
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
func (k *Keeper) state(s *session, request uint64) (keeperState, error) {
	var errs []error
	keep := func(f interface {
		SyscallConn() (syscall.RawConn, error)
	}) int {
		fd, err := kept(f)
		errs = append(errs, err)
		return fd
	}
	file := func(f *os.File) int {
		if f == nil {
			return -1
		}
		return keep(f)
	}
	st := keeperState{
		Version: 1, Listener: keep(k.listener), Lock: file(k.lock), Region: file(k.region.File()),
		Engine: keep(s.Net()), EngineID: s.engine, Request: request,
	}
	for _, c := range k.children.all() {
		cs := childState{Process: c.process, State: c.state, Mounts: file(c.mounts), Park: file(c.park), Pidfd: file(c.pidfd)}
		for _, f := range c.ports { // nothing else changes them: all is quiet
			cs.HostPorts = append(cs.HostPorts, file(f))
		}
		if c.slab != nil {
			cs.Arena, cs.Addr = c.slab.Place()
		}
		st.Children = append(st.Children, cs)
	}
	return st, errors.Join(errs...)
}

// kept makes the descriptor stay open over an exec and returns its number.
func kept(f interface {
	SyscallConn() (syscall.RawConn, error)
}) (int, error) {
	c, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	n, keepErr := -1, error(nil)
	err = c.Control(func(fd uintptr) {
		n = int(fd)
		keepErr = rawfd.KeepOverExec(n, true)
	})
	return n, errors.Join(err, keepErr)
}

// reopen makes the keeper of a new program from the state of the one before.
func reopen(root string, log *slog.Logger, level string, file *os.File) (*Keeper, error) {
	var st keeperState
	defer file.Close()
	if err := json.NewDecoder(io.NewSectionReader(file, 0, 1<<30)).Decode(&st); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	var used []int
	for _, c := range st.Children {
		if c.Park >= 0 {
			used = append(used, c.Arena)
		}
	}
	region, err := spawn.OpenRegion(given(st.Region, "plans"), used)
	if err != nil {
		return nil, err
	}
	k, err := assemble(rundir.Dir(root), log, level, region)
	if err != nil {
		return nil, err
	}
	k.lock = given(st.Lock, "lock")
	if k.listener, err = reopenListener(given(st.Listener, "listener")); err != nil {
		return nil, err
	}
	if err := k.streams.Thaw(st.Streams); err != nil {
		k.log.Error("streams after an upgrade", "error", err)
	}
	for _, c := range st.Children {
		if err := k.reopenChild(c); err != nil {
			return nil, err
		}
	}
	if err := k.orphans.takeUpExits(); err != nil {
		return nil, err
	}
	return k, k.reopenEngine(st)
}

// given is a descriptor that came over the exec, nil if there is none.
func given(fd int, name string) *os.File {
	if fd < 0 {
		return nil
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), name)
}

func reopenListener(f *os.File) (*net.UnixListener, error) {
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	ul, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.New("the listener is no unix socket")
	}
	ul.SetUnlinkOnClose(false)
	return ul, nil
}

func (k *Keeper) reopenChild(cs childState) error {
	c := newChild(cs.Process)
	c.state = cs.State
	c.mounts, c.park, c.pidfd = given(cs.Mounts, "mounts"), given(cs.Park, "park"), given(cs.Pidfd, "pidfd")
	for _, fd := range cs.HostPorts {
		c.ports = append(c.ports, given(fd, "port"))
	}
	if c.park != nil {
		var err error
		if c.slab, err = k.region.Parked(cs.Arena, cs.Addr); err != nil {
			return err
		}
	}
	if err := k.children.claim(c); err != nil {
		return err
	}
	if c.state == orphaned {
		k.orphans.watch(c)
	} else {
		k.reaper.Book(c.process.Pid, k.exits.finishes(c))
	}
	return nil
}

// reopenEngine takes the engine's connection up again; Serve answers it.
func (k *Keeper) reopenEngine(st keeperState) error {
	f := given(st.Engine, "engine")
	if f == nil {
		return nil
	}
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return err
	}
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return errors.New("the engine's connection is no unix socket")
	}
	s := newSession(wire.NewSocket(uc))
	s.engine = st.EngineID
	k.engine.resume(s)
	k.upgraded = st.Request
	return nil
}
