package oci

import (
	"errors"
	"os"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/host"
	"github.com/tare-engine/tare/internal/linux/process"
)

// Status looks at the first process, its FIFO and its cgroup.
func (c *Container) Status() (Status, error) {
	if c.Pid == 0 {
		// The creator writes the pid before it lets the child go on; without it
		// there is a creator at work, or nobody.
		if lock, err := lockDir(c.dir, syscall.LOCK_SH|syscall.LOCK_NB); err == nil {
			lock.Close()
			return Stopped, nil
		}
		if c.lock != nil {
			return Stopped, nil
		}
		return Creating, nil
	}
	pidfd, err := c.open()
	if err != nil {
		return Stopped, nil
	}
	defer pidfd.Close()
	if ended, err := process.Ended(pidfd); ended || err != nil {
		return Stopped, err
	}
	if g, err := c.openGroup(); err == nil {
		if frozen, err := g.Frozen(); err == nil && frozen {
			return Paused, nil
		}
	}
	if c.waits() {
		return Created, nil
	}
	return Running, nil
}

// open returns a pidfd of the first process; os.ErrProcessDone if it is gone.
func (c *Container) open() (*os.File, error) {
	if c.Pid == 0 || c.Boot != bootID() {
		return nil, os.ErrProcessDone
	}
	return process.Reopen(c.Pid, c.Ticks)
}

// waits reports whether the first process waits at its FIFO. One that was let
// go has closed it, even if whoever did that was killed before removing it.
func (c *Container) waits() bool {
	f, err := c.openFIFO()
	if err == nil {
		f.Close()
	}
	return err == nil
}

func (c *Container) openFIFO() (*os.File, error) {
	f, err := os.OpenFile(c.file(fifoFile), os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return f, err
}

// bootID is empty if the kernel does not say.
func bootID() string {
	id, _ := host.BootID()
	return id
}
