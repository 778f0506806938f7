package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/cgroup"
	"github.com/tare-engine/tare/internal/linux/process"
)

// Kill sends a signal to the first process, or to all.
func (c *Container) Kill(sig syscall.Signal, all bool) error {
	if all {
		return c.killAll(sig)
	}
	pidfd, err := c.open()
	if errors.Is(err, os.ErrProcessDone) {
		return ErrNotRunning
	}
	if err != nil {
		return err
	}
	defer pidfd.Close()
	if ended, err := process.Ended(pidfd); ended || err != nil {
		return errors.Join(err, ErrNotRunning)
	}
	c.root.debug("container %s: signal %d to process %d", c.ID, sig, c.Pid)
	if err := process.Signal(pidfd, sig); err != nil {
		return err
	}
	if sig == syscall.SIGKILL {
		return c.thaw() // a frozen process does not end
	}
	return nil
}

func (c *Container) killAll(sig syscall.Signal) error {
	g, err := c.group()
	if err != nil || g == nil {
		return err
	}
	c.root.debug("container %s: signal %d to all of cgroup %s", c.ID, sig, c.Cgroup)
	if sig == syscall.SIGKILL {
		return g.Kill()
	}
	pids, err := g.Pids()
	for _, pid := range pids {
		if e := syscall.Kill(pid, sig); e != nil && e != syscall.ESRCH {
			err = errors.Join(err, e)
		}
	}
	return err
}

// group is the container's cgroup, nil if it is gone.
func (c *Container) group() (*cgroup.Group, error) {
	g, err := c.openGroup()
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return g, err
}

func (c *Container) thaw() error {
	g, err := c.group()
	if err != nil || g == nil {
		return err
	}
	if frozen, err := g.Frozen(); err != nil || !frozen {
		return err
	}
	return g.Thaw()
}

// Delete removes a container that is not running any more, or with force any,
// also one that is being made or started. A poststop hook of the container that asks
// for that by force has it already. warn takes what failed and does not matter.
func (r Root) Delete(id string, force bool, warn func(format string, args ...any)) error {
	lock := r.Lock
	if force {
		lock = r.takeOver
	}
	c, err := lock(id)
	if errors.Is(err, ErrNotExist) && force {
		return r.deleteUnrecorded(id)
	}
	if errors.Is(err, errOwnHook) && force {
		return nil
	}
	if err != nil {
		return err
	}
	defer c.Close()
	status, err := c.Status()
	if err != nil {
		return err
	}
	if status != Stopped && status != Created && !force {
		return fmt.Errorf("cannot delete container %s that is not stopped: %s", id, status)
	}
	return c.remove(warn)
}

// Finish removes a container whose process we have reaped, unless somebody
// else has meanwhile.
func (c *Container) Finish(warn func(format string, args ...any)) error {
	lock, err := lockDir(c.dir, syscall.LOCK_EX)
	if errors.Is(err, ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	c.lock = lock
	defer c.Close()
	if now, err := lock.Stat(); err != nil || !os.SameFile(now, c.made) {
		return err
	}
	return c.remove(warn)
}

// deleteUnrecorded removes what a creator that was killed early has left.
func (r Root) deleteUnrecorded(id string) error {
	lock, err := lockDir(filepath.Join(r.Dir, id), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	c := &Container{root: r, dir: filepath.Join(r.Dir, id), lock: lock}
	if _, err := os.Lstat(c.file(stateFile)); err == nil {
		c.Close()
		return fmt.Errorf("container %s: %s cannot be read", id, stateFile)
	}
	return c.forget()
}

// remove ends everything of the container and forgets it.
func (c *Container) remove(warn func(format string, args ...any)) error {
	c.root.debug("container %s: ends and is removed, with cgroup %s", c.dir, c.Cgroup)
	if err := errors.Join(c.end(), c.endHook()); err != nil {
		return err
	}
	g, err := c.group()
	if err != nil {
		return err
	}
	if g != nil {
		// Without a PID namespace of its own others may have stayed behind.
		if err := removeGroup(g); err != nil {
			return fmt.Errorf("unable to remove container's cgroup: %w", err)
		}
	} else if err := c.goneGroup(); err != nil {
		return err
	}
	if err := c.dropRdt(); err != nil {
		return err
	}
	if err := c.stopHooks(); err != nil {
		warn("%v", err)
	}
	return c.forget()
}

// removeGroup ends who is in the group and removes it. Killing freezes a group
// first, for which the kernel patches its own code: not for an empty one.
func removeGroup(g *cgroup.Group) error {
	pids, err := g.Pids()
	if len(pids) > 0 {
		err = errors.Join(err, g.Kill())
	}
	return errors.Join(err, g.Remove())
}

// Pause freezes all processes.
func (c *Container) Pause() error {
	status, err := c.Status()
	if err != nil {
		return err
	}
	if status != Running && status != Created {
		return ErrNotRunning
	}
	g, err := c.openGroup()
	if err != nil {
		return err
	}
	return g.Freeze()
}

// Resume lets them go on.
func (c *Container) Resume() error {
	status, err := c.Status()
	if err != nil {
		return err
	}
	if status != Paused {
		return ErrNotPaused
	}
	g, err := c.openGroup()
	if err != nil {
		return err
	}
	return g.Thaw()
}

// Pids are the container's processes.
func (c *Container) Pids() ([]int, error) {
	g, err := c.group()
	if err != nil || g == nil {
		return nil, err
	}
	return g.Pids()
}

// Update changes limits.
func (c *Container) Update(r *specs.LinuxResources) error {
	status, err := c.Status()
	if err != nil {
		return err
	}
	if status == Stopped || status == Creating {
		return ErrNotRunning
	}
	g, err := c.openGroup()
	if err != nil {
		return err
	}
	return g.Update(r)
}

// Stats are the container's counters.
func (c *Container) Stats() (*cgroup.Stats, error) {
	g, err := c.openGroup()
	if err != nil {
		return nil, err
	}
	return g.Stats()
}

// OOMKills counts the container's processes that the kernel has killed for
// want of memory.
func (c *Container) OOMKills() (uint64, error) {
	g, err := c.group()
	if err != nil || g == nil {
		return 0, err
	}
	return g.OOMKills()
}
