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

// patience is how long a forced removal leaves who is changing the container
// to finish.
const patience = time.Second

// takeOver is Lock for a forced removal. Who makes or starts the container may
// be held up for as long as a hook likes, so it is ended after a while, with its
// hooks and its child; what it leaves is what a creator that was killed leaves.
// One that only removes the container is waited for.
func (r Root) takeOver(id string) (*Container, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	dir := filepath.Join(r.Dir, id)
	lock, err := lockWithin(dir, patience)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		if r.beingRemoved(id) {
			lock, err = lockDir(dir, syscall.LOCK_EX)
		} else {
			lock, err = r.lockFromHolder(dir)
		}
	}
	if err != nil {
		return nil, err
	}
	return r.openLocked(id, lock)
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

// lockFromHolder ends who holds the lock and takes it.
func (r Root) lockFromHolder(dir string) (*os.File, error) {
	const limit = endTime * time.Millisecond
	f, err := os.Open(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if holder, pid, err := process.FlockHolder(f); err == nil {
		defer holder.Close()
		r.debug("container %s: process %d, which changes it, is ended with its children", filepath.Base(dir), pid)
		if _, err := process.KillTree(holder, pid, limit); err != nil {
			return nil, err
		}
	}
	lock, err := lockWithin(dir, limit)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("container %s is being changed by a process that does not end", filepath.Base(dir))
	}
	return lock, err
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
