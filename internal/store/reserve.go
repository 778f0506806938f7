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
// the engine, and changes to the records of what exists. They get what they need of it, and it
// is filled again when there is room, as far as there is: what a record has taken is
// missing then, and nothing else. A nil Reserve holds nothing.
//
//	DATAROOT/reserve/0 …    files, each with its share of the space
type Reserve struct {
	dir  string
	size int64

	mu     sync.Mutex
	files  int // how many there are
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

	reservedFiles = 32

	// givenUp is how many files an operation gets at first: enough for a record. Others
	// that come meanwhile cannot take more.
	givenUp = 4

	firstRetry = time.Second
	lastRetry  = time.Minute
)

// OpenReserve makes the reserve of size bytes in the directory dir. On a full
// disk it is made later.
func OpenReserve(dir string, size int64) *Reserve {
	r := &Reserve{dir: dir, size: size, pause: firstRetry}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refill()
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

// Use runs f, which must be safe to repeat, with reserved space at its disposal if
// there is no other: some is given up before f where the disk is full by the numbers,
// and more each time that f has failed for want of space.
func (r *Reserve) Use(f func() error) error {
	if r == nil {
		return f()
	}
	r.mu.Lock()
	r.users++
	if u, err := disk.Of(r.dir); err == nil && (u.Free < fullBytes || u.Inodes > 0 && u.FreeInodes < fullInodes) {
		r.release(givenUp)
	}
	r.mu.Unlock()
	err := f()
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := givenUp; disk.IsFull(err) && r.release(n); n *= 2 {
		r.mu.Unlock()
		err = f()
		r.mu.Lock()
	}
	r.users--
	r.refill()
	return err
}

// release gives n files up and reports whether there was any. Preconditions: r.mu is
// held.
func (r *Reserve) release(n int) bool {
	if r.files == 0 {
		return false
	}
	for range min(n, r.files) {
		r.files--
		if err := os.Remove(r.file(r.files)); err != nil {
			slog.Warn("give up the reserve", "err", err)
		}
	}
	slog.Warn("disk is full: a part of the reserve is given up for this operation", "reserve", r.dir, "left", r.files)
	return true
}

func (r *Reserve) file(n int) string { return filepath.Join(r.dir, strconv.Itoa(n)) }

// refill makes the files that are missing, now or later. Preconditions: r.mu is held.
func (r *Reserve) refill() {
	if r.files == reservedFiles || r.closed || r.users > 0 {
		return
	}
	if r.make() == nil {
		r.pause = firstRetry
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

// make makes the files that are missing, until there is no more room.
func (r *Reserve) make() error {
	if err := os.Mkdir(r.dir, 0700); err != nil && !os.IsExist(err) {
		return err
	}
	for ; r.files < reservedFiles; r.files++ {
		if err := r.makeFile(r.file(r.files)); err != nil {
			return err
		}
	}
	return nil
}

// makeFile makes a file, unless an earlier run has left it whole.
func (r *Reserve) makeFile(path string) (err error) {
	share := r.size / reservedFiles
	if st, err := os.Stat(path); err == nil && st.Size() == share {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0600)
	if err != nil {
		return err
	}
	if err = errors.Join(disk.Allocate(f, share), f.Close()); err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}
