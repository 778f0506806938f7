package tree

import (
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/union"
)

// patience is how long a union that is being mounted waits for a writable branch. The
// server of one that has just been unmounted takes a moment to end.
const patience = 10 * time.Second

// furnish opens what a branch has of the union's, and locks it, if it is writable and
// lock is no descriptor yet.
func (t *Tree) furnish(s Source, h *home, lock *dirat.FD) error {
	err := h.open(s.Root, s.Perm == union.RW, lock, t.patience)
	switch err {
	case nil:
		return nil
	case syscall.EBUSY:
		return &BranchError{Dir: s.Dir, Text: "another union mount or container writes to it; let one of them have it as ro", Err: err}
	}
	return &BranchError{Dir: s.Dir, Text: "prepare it", Err: err}
}

// lockWork locks a writable branch by its work directory, so that no other union
// writes to it: each would throw away what the other has on its way. Who inherits the
// descriptor has the lock too. The error EBUSY says that another one has it, and None
// is returned where the file system knows no locks.
func lockWork(root dirat.FD, patience time.Duration) (dirat.FD, error) {
	fd, err := root.OpenAt(union.WorkDir, syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return dirat.None, err
	}
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		switch err := syscall.Flock(int(fd), syscall.LOCK_EX|syscall.LOCK_NB); {
		case err == nil:
			return fd, nil
		case err == syscall.EINTR || err == syscall.EWOULDBLOCK && time.Now().Before(end):
			continue
		case err == syscall.EWOULDBLOCK:
			fd.Close()
			return dirat.None, syscall.EBUSY
		case err == syscall.ENOSYS || err == syscall.EOPNOTSUPP || err == syscall.ENOLCK:
			fd.Close()
			return dirat.None, nil
		default:
			fd.Close()
			return dirat.None, err
		}
	}
}
