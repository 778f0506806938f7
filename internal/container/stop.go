package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
)

// killWait is how long an end by SIGKILL may take before we say that it did
// not work: a process in an uninterruptible wait cannot be killed.
const killWait = 10 * time.Second

// stopTimeout is how long a container may take over its stop signal if neither
// it nor the caller says.
const stopTimeout = 10

// errNotRunning is Docker's text for a signal to a container without process.
func errNotRunning(v *View) error {
	return errdefs.New(errdefs.Conflict, "container %s is not running", v.ID)
}

// Stop ends the container's run: its stop signal, then SIGKILL. It returns a
// NotModified error if the container does not run.
func (s *Service) Stop(ctx context.Context, ref string, o api.StopOptions) error {
	c, err := s.index.Find(ref)
	if err != nil {
		return err
	}
	stopped, err := s.stops.stop(context.WithoutCancel(ctx), c, o)
	if err == nil && !stopped {
		err = errdefs.New(errdefs.NotModified, "container %s is already stopped", c.ID)
	}
	return err
}

// stops end runs: for a user, or because a run has lasted too long or is not well.
type stops struct {
	events   eventLog
	restarts *restarter
}

// stop is Stop; false: there was nothing to be stopped.
func (s *stops) stop(ctx context.Context, c *Container, o api.StopOptions) (bool, error) {
	sig, patience, err := howToStop(c.View(), o)
	if err != nil {
		return false, err
	}
	exit, up, err := s.end(c, sig)
	if err != nil || exit == nil {
		return up, err
	}
	failpoint.Hit("stop/signalled")
	ended, err := waitFor(ctx, exit, patience)
	if err != nil {
		return true, err
	}
	if !ended {
		if _, err := s.killNow(ctx, c); err != nil {
			return true, err
		}
	}
	failpoint.Hit("stop/ended")
	s.events.publish(c.View(), events.ActionStop)
	c.awaitSettled()
	return true, nil
}

// howToStop is the signal that stops a container, and how long it may take over
// it; negative is without end.
func howToStop(v *View, o api.StopOptions) (syscall.Signal, time.Duration, error) {
	name := o.Signal
	if name == "" {
		name = v.Config.StopSignal
	}
	sig := syscall.SIGTERM
	if name != "" {
		var err error
		if sig, err = spec.ParseSignal(name); err != nil {
			return 0, 0, err
		}
	}
	seconds := stopTimeout
	if v.Config.StopTimeout != nil {
		seconds = *v.Config.StopTimeout
	}
	if o.Timeout != nil {
		seconds = *o.Timeout
	}
	return sig, time.Duration(seconds) * time.Second, nil
}

// end asks for the end of what the container does, in one step with the note
// that a user wants it so: no start of the restart policy comes in between. exit
// is the end of the run, to be waited for; it is nil if the container waited for
// its next start, or did nothing at all: then up is false.
func (s *stops) end(c *Container, sig syscall.Signal) (exit *turn, up bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.endRestarts() {
		s.events.publish(c.View(), events.ActionStop)
		return nil, true, s.restarts.markStopped(c)
	}
	if c.process == nil {
		return nil, false, nil
	}
	if err := s.restarts.markStopped(c); err != nil {
		return nil, true, err
	}
	exit, _ = c.turns.next() // of this run: its end is published below the lock
	err = s.deliver(c, sig)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil // it has ended, and that will be told
	}
	return exit, true, err
}

// waitFor waits for a turn at most so long; negative is without end.
func waitFor(ctx context.Context, t *turn, d time.Duration) (bool, error) {
	if d >= 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d, errPatience)
		defer cancel()
	}
	_, err := t.wait(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errPatience) {
		return false, nil
	}
	return err == nil, err
}

var errPatience = errors.New("waited long enough")

// awaitSettled waits until the outcome of the container's last run is durable. On a
// disk where that cannot be, what ended has ended all the same. Nobody waits for a
// container that removes itself.
func (c *Container) awaitSettled() {
	c.mu.Lock()
	settled := c.settled
	c.mu.Unlock()
	if settled == nil || c.goes() {
		return
	}
	select {
	case <-settled:
	case <-time.After(clearPatience):
	}
}

// killNow sends SIGKILL and waits for the end; false: nothing ran.
func (s *stops) killNow(ctx context.Context, c *Container) (bool, error) {
	exit, up, err := s.end(c, syscall.SIGKILL)
	if err != nil || exit == nil {
		return up, err
	}
	ended, err := waitFor(ctx, exit, killWait)
	if err == nil && !ended {
		err = fmt.Errorf("container %s: its process did not end within %s of SIGKILL", c.ID, killWait)
	}
	return true, err
}

// signal sends a signal to the container's first process.
func (s *stops) signal(c *Container, sig syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		return errNotRunning(c.View())
	}
	err := s.deliver(c, sig)
	if errors.Is(err, os.ErrProcessDone) {
		return errNotRunning(c.View())
	}
	return err
}

// killRun kills the container's process if it is still p.
func (s *stops) killRun(c *Container, p *process) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != p {
		return nil
	}
	if err := s.deliver(c, syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// endRun ends the run of process p as a stop does, but not as a user's: what
// follows is the restarter's.
func (s *stops) endRun(ctx context.Context, c *Container, p *process) error {
	sig, patience, err := howToStop(c.View(), api.StopOptions{})
	if err != nil {
		return err
	}
	c.mu.Lock()
	if c.process != p {
		c.mu.Unlock()
		return nil
	}
	exit, _ := c.turns.next()
	err = s.deliver(c, sig)
	c.mu.Unlock()
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if ended, err := waitFor(ctx, exit, patience); ended || err != nil {
		return err
	}
	return s.killRun(c, p)
}

// deliver sends a signal to the process; os.ErrProcessDone if it has ended. A
// frozen container is thawed if the signal would end it.
//
// Preconditions: c.mu is held, c.process is set.
func (s *stops) deliver(c *Container, sig syscall.Signal) error {
	v := c.View()
	if err := c.process.signal(sig); err != nil {
		return fmt.Errorf("kill container %s: %w", v.ID, err)
	}
	s.events.publish(v, events.ActionKill, "signal", strconv.Itoa(int(sig)))
	if v.Status == Paused && endsRun(v, sig) {
		return c.thaw(s.events)
	}
	return nil
}

// endsRun reports whether a signal is meant to end the container.
func endsRun(v *View, sig syscall.Signal) bool {
	if sig == syscall.SIGKILL || v.Config.StopSignal == "" && sig == syscall.SIGTERM {
		return true
	}
	stop, err := spec.ParseSignal(v.Config.StopSignal)
	return err == nil && stop == sig
}

// Kill sends a signal; empty is SIGKILL, for whose effect it waits.
func (s *Service) Kill(ctx context.Context, ref, name string) error {
	c, err := s.index.Find(ref)
	if err != nil {
		return err
	}
	sig := syscall.SIGKILL
	if name != "" {
		if sig, err = spec.ParseSignal(name); err != nil {
			return err
		}
	}
	up := true
	switch {
	case sig == syscall.SIGKILL:
		up, err = s.stops.killNow(context.WithoutCancel(ctx), c)
	case endsRun(c.View(), sig):
		_, up, err = s.stops.end(c, sig)
	default:
		err = s.stops.signal(c, sig)
	}
	if err == nil && !up {
		err = errNotRunning(c.View())
	}
	if err != nil {
		return fmt.Errorf("cannot kill container: %s: %w", ref, err)
	}
	return nil
}

// Restart stops the container if it runs, and starts it. One that removes itself
// is there all the time, unless it cannot be started.
func (s *Service) Restart(ctx context.Context, ref string, o api.StopOptions) error {
	c, err := s.index.Find(ref)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	c.renewals.Add(1)
	_, err = s.stops.stop(ctx, c, o)
	c.awaitSettled()
	c.renewals.Add(-1)
	if err != nil {
		return err
	}
	if err := s.Start(ctx, c.ID); err != nil && !errdefs.Is(err, errdefs.NotModified) {
		return err
	}
	s.events.publish(c.View(), events.ActionRestart)
	return nil
}

// Pause freezes the container's processes.
func (s *Service) Pause(ref string) error {
	c, err := s.index.Find(ref)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.View()
	switch v.Status {
	case Paused:
		return errdefs.New(errdefs.Conflict, "container %s is already paused", v.ID)
	case Restarting:
		return errRestarting(v)
	case Running:
	default:
		return errNotRunning(v)
	}
	if err := c.process.freeze(); err != nil {
		return fmt.Errorf("cannot pause container %s: %w", v.ID, err)
	}
	if m := c.health.Load(); m != nil {
		m.Pause()
	}
	v = c.publish(func(v *View) { v.Status = Paused })
	s.events.publish(v, events.ActionPause)
	return nil
}

// Unpause thaws what Pause froze.
func (s *Service) Unpause(ref string) error {
	c, err := s.index.Find(ref)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.View()
	if v.Status != Paused {
		return errdefs.New(errdefs.Conflict, "container %s is not paused", v.ID)
	}
	return c.thaw(s.events)
}

// Preconditions: c.mu is held, the container is paused.
func (c *Container) thaw(told eventLog) error {
	if err := c.process.thaw(); err != nil {
		return fmt.Errorf("cannot unpause container %s: %w", c.ID, err)
	}
	if m := c.health.Load(); m != nil {
		m.Resume()
	}
	told.publish(c.publish(func(v *View) { v.Status = Running }), events.ActionUnPause)
	return nil
}
