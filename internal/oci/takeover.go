package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/linux/process"
)

const (
	// patience is how long a forced removal leaves who is changing the container
	// to finish.
	patience = time.Second
	// takeOverLimit is how long it tries to end those who do not.
	takeOverLimit = endTime * time.Millisecond
)

// takeOver is Lock for a forced removal. Who makes or starts the container may
// be held up for as long as a hook likes, so it is ended after a while, with its
// hooks and its child; what it leaves is what a creator that was killed leaves.
// One that only removes the container is waited for.
func (r Root) takeOver(id string) (*Container, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	lock, err := lockDir(filepath.Join(r.Dir, id), syscall.LOCK_EX|syscall.LOCK_NB)
	for end := time.Now().Add(takeOverLimit); errors.Is(err, syscall.EWOULDBLOCK); {
		if time.Now().After(end) {
			return nil, fmt.Errorf("container %s is being changed by a process that does not end", id)
		}
		lock, err = r.lockFromHolder(id)
	}
	if err != nil {
		return nil, err
	}
	return r.openLocked(id, lock)
}

// lockFromHolder leaves who holds the lock a while to finish, then ends it, and
// takes the lock, if nobody else has it meanwhile (EWOULDBLOCK): that is not who
// has had the while, but perhaps one more who removes the container.
func (r Root) lockFromHolder(id string) (*os.File, error) {
	dir := filepath.Join(r.Dir, id)
	f, err := os.Open(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	holder, pid, unseen := process.FlockHolder(f)
	if unseen == nil {
		defer holder.Close()
	}
	lock, err := lockWithin(dir, patience)
	switch {
	case !errors.Is(err, syscall.EWOULDBLOCK):
		return lock, err
	case r.beingRemoved(id) && unseen == nil && process.Descends(os.Getpid(), pid):
		return nil, waitsForUs(id, pid)
	case r.beingRemoved(id):
		return lockDir(dir, syscall.LOCK_EX)
	case unseen != nil:
		return nil, err
	}
	r.debug("container %s: process %d, which changes it, is ended with its children", id, pid)
	if _, err := process.KillTree(holder, pid, takeOverLimit); err != nil {
		return nil, err
	}
	return lockDir(dir, syscall.LOCK_EX|syscall.LOCK_NB)
}

// errOwnHook is of a change to a container that is asked for by one of its hooks: who runs
// the hook holds the lock until it has ended.
var errOwnHook = errors.New("which waits for this hook of it")

func waitsForUs(id string, pid int) error {
	return fmt.Errorf("container %s is being changed by process %d, %w", id, pid, errOwnHook)
}

// lock locks a container's directory as soon as nobody else has it, which must not be who
// waits for us.
func (r Root) lock(id string) (*os.File, error) {
	dir := filepath.Join(r.Dir, id)
	f, err := lockDir(dir, syscall.LOCK_EX|syscall.LOCK_NB)
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return f, err
	}
	if f, err = os.Open(dir); err == nil {
		holder, pid, unseen := process.FlockHolder(f)
		f.Close()
		if unseen == nil {
			holder.Close()
			if process.Descends(os.Getpid(), pid) {
				return nil, waitsForUs(id, pid)
			}
		}
	}
	return lockDir(dir, syscall.LOCK_EX)
}

// beingRemoved reports whether nothing is left of a container that ran but its
// poststop hooks.
func (r Root) beingRemoved(id string) bool {
	c, err := r.Open(id)
	if err != nil || c.Pid == 0 {
		return false
	}
	g, err := c.group()
	return err == nil && g == nil
}

// lockWithin locks a container's directory, or gives up with EWOULDBLOCK.
func lockWithin(dir string, limit time.Duration) (*os.File, error) {
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		f, err := lockDir(dir, syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(end) {
			return f, err
		}
	}
}
