package keeper

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
	Process
	State               state
	Mounts, Park, Pidfd int
	Arena               int
	Addr                uint64
}

// upgrade executes the program in m's descriptor. It returns only if that
// fails, and then the keeper goes on as before.
func (k *Keeper) upgrade(s *session, m *message) error {
	if len(m.files) != 1 {
		return errdefs.New(errdefs.InvalidArgument, "an upgrade needs one program")
	}
	program, err := memfd.Program("tare-keeper", io.NewSectionReader(m.files[0], 0, 1<<30))
	if err != nil {
		return err
	}
	defer program.Close()
	if err := k.quiesce(); err != nil {
		return err
	}
	failpoint.Hit("keeper/upgrade-quiet")
	err = k.exec(s, m.request, program)
	return errors.Join(err, k.resume())
}

// quiesce lets everything in flight end and nothing new begin. No child is
// reaped until resume.
func (k *Keeper) quiesce() error {
	k.freezeRequests(true)
	if !within(upgradeWait, k.service.Wait) {
		k.freezeRequests(false)
		return errdefs.New(errdefs.Unavailable, "starts are in flight")
	}
	k.nursery.close()
	for !k.nursery.gone() { // they end at once; their arenas are about to be used again
		time.Sleep(time.Millisecond)
	}
	k.reaping.Lock()
	k.finishing.Wait()
	return nil
}

// resume undoes quiesce.
func (k *Keeper) resume() error {
	k.reaping.Unlock()
	k.nursery.reopen()
	err := k.openNurseries()
	k.freezeRequests(false)
	return err
}

func (k *Keeper) freezeRequests(frozen bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.frozen = frozen
}

// within reports whether f returns in time.
func within(d time.Duration, f func()) bool {
	done := make(chan struct{})
	go func() {
		f()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(d):
		return false
	}
}

// exec replaces the program. It returns only on failure.
func (k *Keeper) exec(s *session, request uint64, program *os.File) error {
	streams, err := k.streams.freeze()
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
			args := []string{os.Args[0], "--exec-root", k.root, "--log-level", k.level, "--state", strconv.Itoa(fd)}
			err = memfd.Exec(program, args, keptEnv())
		}
		file.Close()
	}
	return errors.Join(err, k.streams.thaw(streams))
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
	k.mu.Lock()
	defer k.mu.Unlock()
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
		Engine: keep(s.c), EngineID: s.engine, Request: request,
	}
	for _, c := range k.children {
		cs := childState{Process: c.process, State: c.state, Mounts: file(c.mounts), Park: file(c.park), Pidfd: file(c.pidfd)}
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
	k := newKeeper(root, log, level)
	k.lock = given(st.Lock, "lock")
	var used []int
	for _, c := range st.Children {
		if c.Park >= 0 {
			used = append(used, c.Arena)
		}
	}
	var err error
	if k.region, err = spawn.OpenRegion(given(st.Region, "plans"), used); err != nil {
		return nil, err
	}
	if k.listener, err = reopenListener(given(st.Listener, "listener")); err != nil {
		return nil, err
	}
	if k.streams, err = newStreams(k.path("live"), k); err != nil {
		return nil, err
	}
	if err := k.streams.thaw(st.Streams); err != nil {
		k.log.Error("streams after an upgrade", "error", err)
	}
	for _, c := range st.Children {
		if err := k.reopenChild(c); err != nil {
			return nil, err
		}
	}
	if err := k.takeUpExits(); err != nil {
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
	c := &child{
		process: cs.Process, state: cs.State, ended: make(chan ended, 1),
		mounts: given(cs.Mounts, "mounts"), park: given(cs.Park, "park"), pidfd: given(cs.Pidfd, "pidfd"),
	}
	if c.park != nil {
		var err error
		if c.slab, err = k.region.Parked(cs.Arena, cs.Addr); err != nil {
			return err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.children[c.process.ID] = c
	if c.state != orphan {
		k.ends[c.process.Pid] = k.finishes(c)
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
	s := newSession(newWire(uc))
	s.engine = st.EngineID
	k.session, k.upgraded = s, st.Request
	return nil
}
