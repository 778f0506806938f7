package process

import (
	"errors"
	"os"
	"strconv"
	"syscall"
	"time"
)

// KillTree ends the process of a pidfd and all that descends from it, and
// reports whether they have ended in time. All are stopped first, so that none
// has children of which nobody knows any more. Who was orphaned before is
// another's. A caller that descends from it lives, with its own children.
func KillTree(pidfd *os.File, pid int, patience time.Duration) (bool, error) {
	tree := map[int]*os.File{pid: pidfd}
	defer func() {
		for _, f := range tree {
			if f != pidfd {
				f.Close()
			}
		}
	}()
	err := Signal(pidfd, syscall.SIGSTOP)
	if errors.Is(err, os.ErrProcessDone) { // the pid may be another's
		return true, nil
	}
	for found := true; err == nil && found; {
		found, err = stopChildren(tree)
	}
	var all []*os.File
	for _, f := range tree {
		err = errors.Join(err, signalOne(f, syscall.SIGKILL))
		all = append(all, f)
	}
	for end := time.Now().Add(patience); err == nil && len(all) > 0; {
		ended, e := Poll(nil, all[:1], false, int(max(0, time.Until(end).Milliseconds())))
		if e != nil || len(ended) == 0 {
			return false, e
		}
		all = all[1:]
	}
	return err == nil, err
}

// stopChildren stops the children of a tree's processes, adds them, and reports
// whether there were any.
func stopChildren(tree map[int]*os.File) (found bool, err error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return false, err
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || tree[pid] != nil || pid == os.Getpid() {
			continue
		}
		f, err := openChild(pid, tree)
		if f == nil || err != nil {
			continue // it has ended
		}
		tree[pid], found = f, true
		if err := signalOne(f, syscall.SIGSTOP); err != nil {
			return found, err
		}
	}
	return found, nil
}

// openChild opens a process if it is a child of one in the tree.
func openChild(pid int, tree map[int]*os.File) (*os.File, error) {
	isChild := func() bool {
		parent, err := Parent(pid)
		return err == nil && tree[parent] != nil
	}
	if !isChild() {
		return nil, nil
	}
	f, err := Open(pid)
	if err != nil {
		return nil, err
	}
	if !isChild() { // the pid has become another's
		return nil, f.Close()
	}
	return f, nil
}

// signalOne is Signal to a process that may be gone.
func signalOne(pidfd *os.File, sig syscall.Signal) error {
	err := Signal(pidfd, sig)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
