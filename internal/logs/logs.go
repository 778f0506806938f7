// Package logs reads the log of a container for clients: a part of it by time or
// by number of lines, over rotated files, and on as it grows.
//
// The keeper writes the log (package logfile); nothing but the file system is
// between the two. A reader that has come to the end waits for inotify to tell
// that the directory has changed; all readers of the process share one inotify
// instance (see wakers).
package logs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tare-engine/tare/internal/logfile"
)

// Options say which entries are wanted.
type Options struct {
	Since, Until   time.Time // zero: no bound; entries at the bounds belong
	Tail           int       // as many entries from the present end; negative: all
	Follow         bool      // go on at the end
	Stdout, Stderr bool

	Format logfile.Format // that its driver writes

	// ID is the container's; by default that is the name of the directory above
	// the log's.
	ID string
}

// Read calls emit for each entry wanted, in the order in which they were
// written. As in Docker, Tail counts entries of both streams, before Since and
// Until take their part.
//
// With Follow it ends when ended is closed and all that was written before is
// read; also at Until, when ctx is cancelled, and with the error of emit. The
// entry's slices are valid during emit only. A log that does not exist is empty.
func Read(ctx context.Context, dir string, o Options, ended <-chan struct{}, emit func(logfile.Entry) error) error {
	r := newReader(dir, o)
	defer r.close()
	return r.Read(ctx, ended, emit)
}

// Reader reads a log once. See Followers.
type Reader struct {
	dir  string
	o    Options
	wake *waker // nil: not following
	over bool   // ended was closed before the last look

	mu  sync.Mutex
	log *logfile.Reader // nil: there is none yet
}

func newReader(dir string, o Options) *Reader { return &Reader{dir: dir, o: o} }

// noDirectory is how often a directory that does not exist yet is looked for.
const noDirectory = 100 * time.Millisecond

func (r *Reader) close() {
	if r.wake != nil {
		r.wake.close()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.log != nil {
		r.log.Close()
	}
}

// Read is Read of the log that the reader was made for.
func (r *Reader) Read(ctx context.Context, ended <-chan struct{}, emit func(logfile.Entry) error) error {
	var until <-chan time.Time
	if r.o.Follow && !r.o.Until.IsZero() {
		t := time.NewTimer(time.Until(r.o.Until))
		defer t.Stop()
		until = t.C
	}
	for last := false; ; {
		there, err := r.look()
		if there && err == nil {
			err = r.toEnd(ctx, emit)
		}
		switch {
		case errors.Is(err, errUntil):
			return nil
		case err != nil:
			return err
		}
		if !r.o.Follow || r.over || last {
			return nil
		}
		if last, err = r.wait(ctx, ended, until); err != nil {
			return err
		}
	}
}

// wait returns when there may be more; last says that Until has passed.
func (r *Reader) wait(ctx context.Context, ended <-chan struct{}, until <-chan time.Time) (last bool, err error) {
	var changed <-chan struct{}
	var retry <-chan time.Time
	if r.wake != nil {
		changed = r.wake.c
	} else {
		retry = time.After(noDirectory)
	}
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-ended:
		r.over = true
	case <-until:
		return true, nil
	case <-changed:
	case <-retry:
	}
	return false, nil
}

// look opens the log, if that has not been done, and reports whether there is one.
func (r *Reader) look() (there bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.log != nil {
		return true, nil
	}
	err = r.open()
	if errors.Is(err, fs.ErrNotExist) && r.log == nil {
		return false, nil
	}
	return true, err
}

// open opens the log and goes to where reading begins.
//
// Preconditions: r.mu is held.
func (r *Reader) open() error {
	if r.o.Follow && r.wake == nil {
		// Before the first look, or what comes in between is missed.
		w, err := wakers.add(r.dir, nil)
		if err != nil {
			return err
		}
		r.wake = w
	}
	root, err := os.OpenRoot(r.dir)
	if err != nil {
		return err
	}
	id := r.o.ID
	if id == "" {
		id = filepath.Base(filepath.Dir(filepath.Clean(r.dir)))
	}
	if r.log, err = logfile.Open(root, logfile.Name(id, r.o.Format)); err != nil {
		return err
	}
	switch {
	case r.o.Tail >= 0:
		return r.log.SeekTail(int64(r.o.Tail))
	case !r.o.Since.IsZero():
		return r.log.SeekTime(r.o.Since)
	}
	return nil
}

// errUntil says that an entry beyond Until was met.
var errUntil = errors.New("until")

// toEnd emits what there is.
func (r *Reader) toEnd(ctx context.Context, emit func(logfile.Entry) error) error {
	var e logfile.Entry
	for n := 0; ; n++ {
		if n%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		r.mu.Lock()
		err := r.log.Next(&e)
		r.mu.Unlock()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if !r.o.Until.IsZero() && e.Time.After(r.o.Until) {
			return errUntil
		}
		if r.wanted(&e) {
			if err := emit(e); err != nil {
				return err
			}
		}
	}
}

func (r *Reader) wanted(e *logfile.Entry) bool {
	if !r.o.Since.IsZero() && e.Time.Before(r.o.Since) {
		return false
	}
	if e.Stream == logfile.Stderr {
		return r.o.Stderr
	}
	return r.o.Stdout
}
