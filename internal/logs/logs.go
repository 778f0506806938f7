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
	"time"

	"github.com/tare-engine/tare/internal/logfile"
)

// Options say which entries are wanted.
type Options struct {
	Since, Until   time.Time // zero: no bound; entries at the bounds belong
	Tail           int       // as many entries from the present end; negative: all
	Follow         bool      // go on at the end
	Stdout, Stderr bool

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
	r := reader{dir: dir, o: o, ended: ended, emit: emit}
	defer r.close()
	return r.read(ctx)
}

type reader struct {
	dir   string
	o     Options
	ended <-chan struct{}
	emit  func(logfile.Entry) error

	log  *logfile.Reader
	wake *waker // nil: not following
	over bool   // ended was closed before the last look
}

// noDirectory is how often a directory that does not exist yet is looked for.
const noDirectory = 100 * time.Millisecond

func (r *reader) close() {
	if r.wake != nil {
		r.wake.close()
	}
	if r.log != nil {
		r.log.Close()
	}
}

func (r *reader) read(ctx context.Context) error {
	var until <-chan time.Time
	if r.o.Follow && !r.o.Until.IsZero() {
		t := time.NewTimer(time.Until(r.o.Until))
		defer t.Stop()
		until = t.C
	}
	for last := false; ; {
		err := r.open()
		if err == nil {
			err = r.toEnd(ctx)
		}
		switch {
		case errors.Is(err, errUntil):
			return nil
		case errors.Is(err, fs.ErrNotExist) && r.log == nil:
		case err != nil:
			return err
		}
		if !r.o.Follow || r.over || last {
			return nil
		}
		if last, err = r.wait(ctx, until); err != nil {
			return err
		}
	}
}

// wait returns when there may be more; last says that Until has passed.
func (r *reader) wait(ctx context.Context, until <-chan time.Time) (last bool, err error) {
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
	case <-r.ended:
		r.over = true
	case <-until:
		return true, nil
	case <-changed:
	case <-retry:
	}
	return false, nil
}

// open opens the log and goes to where reading begins.
func (r *reader) open() error {
	if r.log != nil {
		return nil
	}
	if r.o.Follow && r.wake == nil {
		// Before the first look, or what comes in between is missed.
		w, err := wakers.add(r.dir)
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
	if r.log, err = logfile.Open(root, logfile.Name(id)); err != nil {
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
func (r *reader) toEnd(ctx context.Context) error {
	var e logfile.Entry
	for n := 0; ; n++ {
		if n%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		err := r.log.Next(&e)
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
			if err := r.emit(e); err != nil {
				return err
			}
		}
	}
}

func (r *reader) wanted(e *logfile.Entry) bool {
	if !r.o.Since.IsZero() && e.Time.Before(r.o.Since) {
		return false
	}
	if e.Stream == logfile.Stderr {
		return r.o.Stderr
	}
	return r.o.Stdout
}
