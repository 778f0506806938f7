package container

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/logfile"
	"github.com/tare-engine/tare/internal/logs"
)

// Logs writes lines of the container's log to what start returns: as they are
// if the container has a terminal, else as frames.
func (s *Service) Logs(ctx context.Context, ref string, o api.LogsOptions, start func(tty bool) io.Writer) error {
	c, err := s.index.Find(ref)
	if err != nil {
		return err
	}
	v := c.View()
	if !o.Stdout && !o.Stderr {
		return errdefs.New(errdefs.InvalidArgument, "You must choose at least one stream")
	}
	if !spec.LogReadable(v.HostConfig.LogConfig) {
		return errdefs.New(errdefs.NotImplemented, "configured logging driver does not support reading")
	}
	ro := logs.Options{Format: spec.LogFormat(v.HostConfig.LogConfig.Type), Since: o.Since, Until: o.Until, Tail: tail(o.Tail), Follow: o.Follow, Stdout: o.Stdout, Stderr: o.Stderr}
	// Who is answered may remove the container.
	log, done, err := s.followers.Open(s.records.logDir(c.ID), ro)
	if err != nil {
		return err
	}
	defer done()
	out := newBatcher(start(v.Config.Tty))
	w := &logWriter{w: out, framed: !v.Config.Tty, timestamps: o.Timestamps, details: o.Details}
	err = log.Read(ctx, c.ended(), w.write)
	err = errors.Join(err, out.flush())
	if errors.Is(err, context.Canceled) {
		return nil // the client left
	}
	return err
}

// tail understands a number of lines; anything else is all of them, as in
// Docker.
func tail(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}

// ended returns a channel that is closed when the container's run has ended
// and no more output will come.
func (c *Container) ended() <-chan struct{} {
	exit, _ := c.turns.next()
	if c.View().Alive() {
		return exit.done
	}
	closed := make(chan struct{})
	close(closed)
	return closed
}

// fixedNano is how logs show a time: with all nine digits, also if the last are
// zero, so that columns stand below each other.
const fixedNano = "2006-01-02T15:04:05.000000000Z07:00"

// logWriter writes entries as the Engine API sends them.
type logWriter struct {
	w                           io.Writer
	framed, timestamps, details bool
	buf                         []byte
}

func (l *logWriter) write(e logfile.Entry) error {
	b := l.buf[:0]
	if l.framed {
		b = append(b, make([]byte, api.HeaderLen)...)
	}
	if l.timestamps {
		b = e.Time.UTC().AppendFormat(b, fixedNano+" ")
	}
	if l.details {
		b = append(append(b, attributes(e.Attrs)...), ' ')
	}
	b = append(b, e.Line...)
	if l.framed {
		h := api.Header(api.Stream(e.Stream), len(b)-api.HeaderLen)
		copy(b, h[:])
	}
	l.buf = b
	_, err := l.w.Write(b)
	return err
}

// attributes renders the log's attributes as --details shows them.
func attributes(raw []byte) string {
	var m map[string]string
	if json.Unmarshal(raw, &m) != nil {
		return ""
	}
	pairs := make([]string, 0, len(m))
	for k, v := range m {
		pairs = append(pairs, url.QueryEscape(k)+"="+url.QueryEscape(v))
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}

// replay writes all of the log so far to a client that asked for it.
func (a *attaching) replay(ctx context.Context, w io.Writer) error {
	if !a.o.Logs {
		return nil
	}
	lw := &logWriter{w: w, framed: !a.c.View().Config.Tty}
	return logs.Read(ctx, a.logDir, a.wholeLog(), a.c.ended(), lw.write)
}

var errReplayed = errors.New("replayed")

// replayUntil writes the log up to a position, from which on the keeper goes on.
func (a *attaching) replayUntil(ctx context.Context, w io.Writer, at logfile.Position) error {
	lw := &logWriter{w: w, framed: !a.c.View().Config.Tty}
	err := logs.Read(ctx, a.logDir, a.wholeLog(), a.c.ended(), func(e logfile.Entry) error {
		if at.Before(e.End) {
			return errReplayed
		}
		return lw.write(e)
	})
	if errors.Is(err, errReplayed) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// logEnd is where the log ends now.
func (a *attaching) logEnd(ctx context.Context) (at logfile.Position, err error) {
	last := logs.Options{Format: a.logFormat(), Tail: 1, Stdout: true, Stderr: true}
	err = logs.Read(ctx, a.logDir, last, a.c.ended(), func(e logfile.Entry) error {
		at = e.End
		return nil
	})
	return at, err
}

// wholeLog asks for all lines of the streams that the client attaches to.
func (a *attaching) wholeLog() logs.Options {
	return logs.Options{Format: a.logFormat(), Tail: -1, Stdout: a.o.Stdout, Stderr: a.o.Stderr}
}

func (a *attaching) logFormat() logfile.Format {
	return spec.LogFormat(a.c.View().HostConfig.LogConfig.Type)
}

// batcher collects small writes for a moment: each would be a system call, and
// a chunk of HTTP.
type batcher struct {
	mu    sync.Mutex
	w     *bufio.Writer
	timer *time.Timer // runs while something is collected
	err   error       // of a flush by the timer
}

const (
	batchSize = 16 << 10
	batchTime = 5 * time.Millisecond // what a follower may have to wait for a line
)

func newBatcher(w io.Writer) *batcher { return &batcher{w: bufio.NewWriterSize(w, batchSize)} }

func (b *batcher) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	if b.timer == nil {
		b.timer = time.AfterFunc(batchTime, func() { b.flush() })
	}
	return b.w.Write(p)
}

func (b *batcher) flush() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
	if err := b.w.Flush(); b.err == nil {
		b.err = err
	}
	return b.err
}
