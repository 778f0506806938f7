// Package forward sends the logs of containers to receivers (package remote), from the
// files that the keeper writes.
//
// A Service has a forward for each container whose log driver is a remote one. It reads the
// log from where the last engine has come to, and notes how far the receiver has taken it:
// what it has not, the next engine sends again. A container never waits for its receiver;
// while nobody receives, the lines are in the log as far as its bounds reach, and beyond
// them in files that are held open (1 GB).
//
// An idle container costs an inotify watch and a connection, but no goroutine: one runs
// while there is something to send.
package forward

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tare-engine/tare/internal/logfile"
	"github.com/tare-engine/tare/internal/logs"
	"github.com/tare-engine/tare/internal/logs/remote"
)

// Log is what is to be forwarded.
type Log struct {
	ID       string // of the container
	Dir      string
	Name     string // see logfile.Name
	Position string // the file that says how far the receiver has it
	Driver   string
	Options  map[string]string
	Subject  remote.Subject
}

// Service forwards the logs of an engine's containers. Safe for concurrent use.
type Service struct {
	ctx    context.Context
	cancel context.CancelFunc
	all    sync.WaitGroup

	mu sync.Mutex
	of map[string]*forward // by container, until all is sent and no more comes, or it is removed

	departed map[*forward]bool // of removed containers, until all is sent or it is too late
}

// New returns a service that forwards nothing yet.
func New() *Service {
	ctx, cancel := context.WithCancel(context.Background())
	return &Service{ctx: ctx, cancel: cancel, of: map[string]*forward{}, departed: map[*forward]bool{}}
}

// Begin forwards a log from where it was left, and on as it grows, until Finish.
func (s *Service) Begin(l Log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return
	}
	if f := s.of[l.ID]; f != nil { // its last run's lines are not all sent yet
		f.goOn()
		return
	}
	r, err := remote.Open(l.Driver, l.Options, &l.Subject)
	if err != nil { // checked at create
		slog.Error("a container's log is not sent anywhere", "container", l.ID, "driver", l.Driver, "err", err)
		return
	}
	f := &forward{s: s, log: l, receiver: r, done: make(chan struct{})}
	if f.unwatch, err = logs.Notify(l.Dir, f.wake); err != nil {
		slog.Error("a container's log is sent when its run ends", "container", l.ID, "driver", l.Driver, "err", err)
	}
	s.of[l.ID] = f
	f.wake()
}

// Finish says that the log is complete: what is left of it is sent still. It waits until
// that is done, or it is known that nobody receives now, but for no longer than patience.
func (s *Service) Finish(id string, patience time.Duration) {
	s.mu.Lock()
	f := s.of[id]
	s.mu.Unlock()
	if f == nil {
		return
	}
	done := f.finish()
	if patience <= 0 {
		return
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	case <-s.ctx.Done():
	}
}

// departedPatience is how long it is tried to send what a removed container has said.
const departedPatience = 10 * time.Minute

// Depart holds what is not sent yet of a log whose directory is about to go. It is sent as
// long as this engine lives, but for no longer than ten minutes.
func (s *Service) Depart(id string) {
	s.mu.Lock()
	f := s.of[id]
	if f != nil {
		delete(s.of, id)
		s.departed[f] = true
	}
	s.mu.Unlock()
	if f == nil {
		return
	}
	f.depart()
	time.AfterFunc(departedPatience, func() {
		if f.close(true) {
			slog.Warn("what a removed container has said was not all sent: nobody received it", "container", id, "driver", f.log.Driver)
		}
		s.forget(f)
	})
}

// Close ends all forwarding; the next engine goes on.
func (s *Service) Close() {
	s.mu.Lock()
	s.cancel()
	all := slices.AppendSeq(slices.Collect(maps.Keys(s.departed)), maps.Values(s.of))
	s.of, s.departed = map[string]*forward{}, map[*forward]bool{}
	s.mu.Unlock()
	for _, f := range all {
		f.close(true)
	}
	s.all.Wait()
}

// forget lets go of a forward that has nothing to do any more.
func (s *Service) forget(f *forward) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.close(false)
	if !f.isClosed() {
		return
	}
	delete(s.departed, f)
	if s.of[f.log.ID] == f {
		delete(s.of, f.log.ID)
	}
}

// forward is the way of one log.
type forward struct {
	s        *Service
	log      Log
	receiver *remote.Receiver
	unwatch  func() // nil: not watched

	mu       sync.Mutex
	busy     bool // a goroutine is at work
	again    bool // there is more to look at
	retry    *time.Timer
	complete bool // no more is written
	departed bool // the directory is gone: no position is noted
	closed   bool
	conn     *remote.Conn
	done     chan struct{} // closed once complete and at rest: all is sent, or nobody receives

	reading sync.Mutex // guards reader and at
	reader  *logfile.Reader
	at      position // to which the receiver has the log

	// What only the goroutine at work has.
	window   []batch // sent, or about to be, and not known to have arrived
	failures int
}

// wake has what is new sent, unless it is known that nobody receives now: then it is held.
func (f *forward) wake() {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
	case f.busy || f.retry != nil:
		f.again = true
		f.hold()
	default:
		f.work()
	}
}

// work starts the goroutine.
//
// Preconditions: f.mu is held, nothing is at work, f is not closed.
func (f *forward) work() {
	f.busy, f.again, f.retry = true, false, nil
	f.s.all.Add(1)
	go func() {
		defer f.s.all.Done()
		f.run()
	}()
}

// run sends until there is no more, or nobody receives.
func (f *forward) run() {
	for {
		err := f.pass()
		f.mu.Lock()
		if err == nil && f.again && !f.closed {
			f.again = false
			f.mu.Unlock()
			continue
		}
		f.busy = false
		if err != nil && !f.closed {
			f.retry = time.AfterFunc(f.delay(), f.tryAgain)
		}
		rest := f.complete
		if rest {
			f.atRest()
		}
		if f.closed {
			f.letGo()
		}
		f.mu.Unlock()
		if rest && err == nil {
			f.s.forget(f)
		}
		return
	}
}

// atRest tells who waits for it.
//
// Preconditions: f.mu is held.
func (f *forward) atRest() {
	select {
	case <-f.done:
	default:
		close(f.done)
	}
}

func (f *forward) tryAgain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed && !f.busy {
		f.work()
	}
}

// Waits between two attempts to reach a receiver.
const (
	firstDelay = 500 * time.Millisecond
	lastDelay  = 15 * time.Second
)

// delay is how long to wait after failures.
func (f *forward) delay() time.Duration {
	d := f.receiver.RetryWait
	if d <= 0 {
		d = firstDelay
	}
	return min(d<<min(max(f.failures-1, 0), 10), max(lastDelay, d))
}

// goOn says that more will be written after all.
func (f *forward) goOn() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.complete = false
	select {
	case <-f.done:
		f.done = make(chan struct{})
	default:
	}
}

// finish says that no more is written. What it returns is closed at rest.
func (f *forward) finish() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.complete = true
	switch {
	case f.closed || f.retry != nil && !f.busy:
		f.atRest()
	case f.busy:
		f.again = true
	default:
		f.work()
	}
	return f.done
}

// depart opens what there is to read.
func (f *forward) depart() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.departed, f.complete = true, true
	f.hold()
	if f.unwatch != nil {
		go f.unwatch() // it waits for who calls wake
		f.unwatch = nil
	}
}

// hold opens files that may be removed before they are read.
//
// Preconditions: f.mu is held.
func (f *forward) hold() {
	f.reading.Lock()
	defer f.reading.Unlock()
	if f.reader == nil && f.openLog() != nil {
		return // there is none yet
	}
	if err := f.reader.Hold(); err != nil {
		slog.Warn("hold a container's log until it is sent", "container", f.log.ID, "err", err)
	}
}

func (f *forward) isClosed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

// close ends the forward, with force also if it has something to do yet, and reports
// whether it has. What is at work ends soon.
func (f *forward) close(force bool) (did bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || !force && (f.busy || f.retry != nil || !f.complete) {
		return false
	}
	f.closed = true
	f.atRest()
	if f.retry != nil {
		f.retry.Stop()
	}
	if f.unwatch != nil {
		go f.unwatch()
	}
	switch {
	case !f.busy:
		f.letGo()
	case f.conn != nil:
		f.conn.Abort()
	}
	return true
}

// letGo gives back what an ended forward has open.
//
// Preconditions: f.mu is held, nothing is at work.
func (f *forward) letGo() {
	if f.conn != nil {
		conn := f.conn
		f.s.all.Add(1)
		go func() {
			defer f.s.all.Done()
			conn.Close()
		}()
		f.conn = nil
	}
	f.reading.Lock()
	defer f.reading.Unlock()
	if f.reader != nil {
		f.reader.Close()
		f.reader = nil
	}
}
