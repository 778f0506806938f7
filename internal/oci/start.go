package oci

import (
	"errors"
	"os"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/process"
)

// Start lets the first process of a created container become its program; notify
// is the address of a caller's socket for readiness, see Ready.
func (c *Container) Start(notify string) (err error) {
	status, err := c.Status()
	switch {
	case err != nil:
		return err
	case status == Running || status == Paused:
		return errors.New("cannot start an already running container")
	case status == Stopped:
		return errors.New("cannot start a container that has stopped")
	}
	f, err := c.openFIFO()
	if err != nil {
		return err
	}
	defer f.Close()
	if c.Ready, err = c.listen(notify); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			c.Ready.Close()
		}
	}()
	if err := c.startHooks(); err != nil {
		return errors.Join(err, c.end())
	}
	if _, err := f.Write([]byte{0}); err != nil {
		return err
	}
	if err := os.Remove(c.file(fifoFile)); err != nil {
		return err
	}
	c.root.debug("container %s: process %d may execute the program", c.ID, c.Pid)
	if !c.hasStartedHooks() {
		return nil
	}
	if err := awaitNoReader(f); err != nil {
		return err
	}
	// "If any poststart hook fails, the runtime MUST generate an error, stop the
	// container, and continue the lifecycle at step 12."
	if err := c.startedHooks(); err != nil {
		return errors.Join(err, c.end())
	}
	return nil
}

// awaitNoReader waits until nobody can read from the FIFO any more: the first
// process loses it by its execve, or by its end.
func awaitNoReader(f *os.File) error {
	_, err := process.Poll(f, nil, false, -1) // an error event; there is nothing to read
	return err
}

// end kills the first process and waits for its end, as long as it takes for
// the kernel to take it down; it is another's child.
func (c *Container) end() error {
	pidfd, err := c.open()
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer pidfd.Close()
	if err := process.Signal(pidfd, syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if ended, err := process.Poll(nil, []*os.File{pidfd}, false, endTime); err != nil || len(ended) > 0 {
		return err
	}
	return errors.New("container init still running")
}

// endTime is how long a killed process may take to end, in milliseconds.
const endTime = 10_000
