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

	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/memfd"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// reopen makes the keeper of a new program from the state of the one before.
// Where this program cannot take the state over, the one before goes on.
func reopen(o options, log *slog.Logger) (*Keeper, error) {
	defer o.state.Close()
	failpoint.Hit("keeper/upgrade-executed")
	st, err := readState(o.state, o.back)
	if err != nil {
		return nil, err
	}
	k, err := prepareFor(st, o, log)
	if err != nil {
		return nil, errors.Join(err, goBack(st, o, log, err))
	}
	return k, k.takeOver(st)
}

func readState(file *os.File, back bool) (st keeperState, err error) {
	if err := json.NewDecoder(io.NewSectionReader(file, 0, 1<<30)).Decode(&st); err != nil {
		return st, fmt.Errorf("state: %w", err)
	}
	st.plans = given(st.Region, "plans")
	if st.Before != nil && !back { // on the way back it is closed already
		st.before = given(*st.Before, "before")
	}
	return st, nil
}

// prepareFor makes all that can fail before the state is touched.
func prepareFor(st keeperState, o options, log *slog.Logger) (*Keeper, error) {
	if st.Version != stateVersion && !o.back {
		return nil, fmt.Errorf("state of version %d, not %d", st.Version, stateVersion)
	}
	if err := failpoint.Err("keeper/upgrade-taking"); err != nil && !o.back {
		return nil, err
	}
	var used []int
	for _, c := range st.Children {
		if c.Park >= 0 {
			used = append(used, c.Arena)
		}
	}
	region, err := spawn.OpenRegion(st.plans, used)
	if err != nil {
		return nil, err
	}
	return assemble(o, log, region)
}

// goBack executes the program before, whose state it is. It returns only on
// failure.
func goBack(st keeperState, o options, log *slog.Logger, cause error) error {
	if st.before == nil {
		return nil
	}
	log.Error("the program before goes on: this one cannot take its state over", "release", o.release, "error", cause)
	var kept keeping
	kept.file(st.plans)
	args := []string{os.Args[0], "--exec-root", o.root, "--log-level", o.level, "--back", "--state", strconv.Itoa(kept.file(o.state))}
	if kept.err != nil {
		return kept.err
	}
	return fmt.Errorf("execute the program before: %w", memfd.Exec(st.before, args, wire.KeptEnv()))
}

// takeOver makes everything of the state the keeper's.
func (k *Keeper) takeOver(st keeperState) (err error) {
	if st.before != nil {
		st.before.Close()
	}
	k.lock = given(st.Lock, "lock")
	if k.listener, err = reopenListener(given(st.Listener, "listener")); err != nil {
		return err
	}
	if err := k.streams.Thaw(st.Streams); err != nil {
		k.log.Error("streams after an upgrade", "error", err)
	}
	for _, c := range st.Children {
		if err := k.reopenChild(c); err != nil {
			return err
		}
	}
	if err := k.orphans.takeUpExits(); err != nil {
		return err
	}
	failpoint.Hit("keeper/upgrade-taken")
	return k.reopenEngine(st)
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
	c.ended.Store(cs.Ended)
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
