package store

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/tare-engine/tare/internal/linux/disk"
)

// Reserve is a directory that holds space and inodes back on the data root, for
// operations that must work on a full disk: those that free space, the start of
// the engine, and changes to the records of what exists. They empty it, and it
// is filled again when there is room. A nil Reserve holds nothing.
//
//	DATAROOT/reserve/0      the space
//	                 1 …    empty files: inodes
type Reserve struct {
	dir  string
	size int64

	mu     sync.Mutex
	held   bool
	users  int // operations that live on it
	retry  *time.Timer
	pause  time.Duration
	closed bool
}

// Below these the disk counts as full: a removal writes some pages of a data
// base and of directories, and makes a file or two.
const (
	fullBytes  = 2 << 20
	fullInodes = 32

	reservedInodes = 32

	firstRetry = time.Second
	lastRetry  = time.Minute
)

// OpenReserve makes the reserve of size bytes in the directory dir. On a full
// disk it is made later.
func OpenReserve(dir string, size int64) *Reserve {
	r := &Reserve{dir: dir, size: size, pause: firstRetry}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held = r.whole(); !r.held {
		r.refill()
	}
	return r
}

// Close ends the attempts to make the files again.
func (r *Reserve) Close() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.retry != nil {
		r.retry.Stop()
	}
}

// Use runs f, which must be safe to repeat, with the reserved space at its
// disposal if there is no other: given up before f where the disk is full by
// the numbers, else after f has failed for want of space.
func (r *Reserve) Use(f func() error) error {
	if r == nil {
		return f()
	}
	r.mu.Lock()
	r.users++
	if u, err := disk.Of(r.dir); err == nil && (u.Free < fullBytes || u.Inodes > 0 && u.FreeInodes < fullInodes) {
		r.release()
	}
	r.mu.Unlock()
	err := f()
	r.mu.Lock()
	defer r.mu.Unlock()
	if disk.IsFull(err) && r.release() {
		r.mu.Unlock()
		err = f()
		r.mu.Lock()
	}
	if r.users--; !r.held {
		r.refill()
	}
	return err
}

// release gives the space up and reports whether there was any. Preconditions:
// r.mu is held.
func (r *Reserve) release() bool {
	if !r.held {
		return false
	}
	r.held = false
	r.empty()
	slog.Warn("disk is full: the reserve is given up for this operation", "reserve", r.dir)
	return true
}

// refill makes the files, now or later. Preconditions: r.mu is held.
func (r *Reserve) refill() {
	if r.held || r.closed || r.users > 0 {
		return
	}
	if r.make() == nil {
		r.held, r.pause = true, firstRetry
		return
	}
	if r.retry != nil {
		r.retry.Stop()
	}
	r.retry = time.AfterFunc(r.pause, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.refill()
	})
	r.pause = min(2*r.pause, lastRetry)
}

// make makes the directory whole or empty.
func (r *Reserve) make() (err error) {
	r.empty()
	if err := os.Mkdir(r.dir, 0700); err != nil && !os.IsExist(err) {
		return err
	}
	defer func() {
		if err != nil {
			r.empty()
		}
	}()
	for i := range reservedInodes {
		f, err := os.OpenFile(filepath.Join(r.dir, strconv.Itoa(i)), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0600)
		if err != nil {
			return err
		}
		if i == 0 {
			err = disk.Allocate(f, r.size)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// whole reports whether an earlier run left it as make makes it.
func (r *Reserve) whole() bool {
	st, err := os.Stat(filepath.Join(r.dir, "0"))
	list, lerr := os.ReadDir(r.dir)
	return err == nil && lerr == nil && st.Size() == r.size && len(list) == reservedInodes
}

// empty removes the files. The directory stays: it may be needed when there is
// no room for one.
func (r *Reserve) empty() {
	list, _ := os.ReadDir(r.dir)
	for _, e := range list {
		if err := os.Remove(filepath.Join(r.dir, e.Name())); err != nil {
			slog.Warn("give up the reserve", "err", err)
		}
	}
}
