package stream

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/epoll"
	"github.com/tare-engine/tare/internal/linux/rawfd"
)

// Streams owns the standard input, output and error of all processes. All
// methods are safe for concurrent use; none waits for a client.
type Streams struct {
	live string // directory of the FIFOs: live/ID/{stdout,stderr}
	ev   Events
	poll *epoll.Poller

	queue   turnQueue
	running sync.WaitGroup // the waiting goroutine and the workers

	mu            sync.Mutex
	containersDir *os.File // log directories are below it; nil until hello
	spoolDir      *os.File // nil until hello
	sets          map[string]*set
	lingering     map[*set]bool // processes forgotten, clients not yet served
	sources       map[uint64]*source
	clients       map[uint64]*client
	nextKey       uint64
	nextClient    uint64
	busy          map[*set]bool // hold something that time takes back; see sweep
	sweeper       *time.Timer
	closed        bool
	frozen        []*set // whose mu Freeze holds
}

const (
	turnWorkers = 4
	// sweepEvery is how often idle files are looked at and stopped clients timed.
	sweepEvery = 2 * time.Second
	// idleAfter is how long files stay open behind the last byte.
	idleAfter = 10 * time.Second
)

// source is one descriptor that the loop waits for.
type source struct {
	key    uint64
	fd     int
	set    *set
	client *client       // nil: the process's end
	ready  atomic.Uint32 // epoll.Ready bits nobody has acted on yet
}

// take returns whether the bits are set and clears them.
func (s *source) take(what epoll.Ready) bool {
	for {
		old := s.ready.Load()
		if old&uint32(what) == 0 {
			return false
		}
		if s.ready.CompareAndSwap(old, old&^uint32(what)) {
			return true
		}
	}
}

func (s *source) mark(what epoll.Ready)    { s.ready.Or(uint32(what)) }
func (s *source) is(what epoll.Ready) bool { return s.ready.Load()&uint32(what) != 0 }

// New starts the loop. The directories that logs and spools are in come
// later, by SetDirs.
func New(live string, ev Events) (*Streams, error) {
	p, err := epoll.New()
	if err != nil {
		return nil, err
	}
	s := &Streams{
		live: live, ev: ev, poll: p,
		sets: map[string]*set{}, lingering: map[*set]bool{}, sources: map[uint64]*source{}, clients: map[uint64]*client{}, busy: map[*set]bool{},
	}
	s.run()
	return s, nil
}

// SetDirs gives the directories and takes them over; nil changes nothing.
func (s *Streams) SetDirs(containers, spool *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if containers != nil {
		if s.containersDir != nil {
			s.containersDir.Close()
		}
		s.containersDir = containers
	}
	if spool != nil {
		if s.spoolDir != nil {
			s.spoolDir.Close()
		}
		s.spoolDir = spool
	}
}

// logDir opens a log directory below the containers directory; no path leads
// out of that.
func (s *Streams) logDir(dir string) (*os.Root, error) {
	s.mu.Lock()
	var fd int
	err := errors.New("no containers directory")
	if s.containersDir != nil {
		fd, err = rawfd.DupFile(s.containersDir)
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	defer rawfd.Close(fd)
	containers, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, err
	}
	defer containers.Close()
	return containers.OpenRoot(dir)
}

func (s *Streams) run() {
	s.poll.Resume()
	s.queue.reopen()
	s.running.Add(1 + turnWorkers)
	go s.wait()
	for range turnWorkers {
		go s.work()
	}
}

// wait tells sets what their descriptors are ready for, until the poller is
// stopped.
func (s *Streams) wait() {
	defer s.running.Done()
	events := make([]epoll.Event, 64)
	for {
		n, err := s.poll.Wait(events)
		if err != nil {
			return
		}
		s.mu.Lock()
		for _, e := range events[:n] {
			if src := s.sources[e.Key]; src != nil {
				src.mark(e.Ready)
				s.queue.put(src.set)
			}
		}
		s.mu.Unlock()
	}
}

// work gives sets their turns.
func (s *Streams) work() {
	defer s.running.Done()
	for {
		t := s.queue.get()
		if t == nil {
			return
		}
		again := t.turn()
		s.queue.done(t, again)
	}
}

// watch adds a descriptor, which src owns from now on.
func (s *Streams) watch(src *source, what epoll.Ready) error {
	s.mu.Lock()
	s.nextKey++
	src.key = s.nextKey
	s.sources[src.key] = src
	s.mu.Unlock()
	if err := s.poll.Add(src.fd, src.key, what); err != nil {
		s.mu.Lock()
		delete(s.sources, src.key)
		s.mu.Unlock()
		return err
	}
	return nil
}

// unwatch takes a descriptor out of the loop and closes it.
func (s *Streams) unwatch(src *source) {
	s.mu.Lock()
	delete(s.sources, src.key)
	s.mu.Unlock()
	s.poll.Remove(src.fd) // fails only for what is not there
	rawfd.Close(src.fd)
	src.fd = -1
}

// set returns the streams of a process.
func (s *Streams) set(id string) (*set, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errdefs.New(errdefs.Unavailable, "the keeper is being replaced")
	}
	t := s.sets[id]
	if t == nil {
		return nil, errdefs.New(errdefs.NotFound, "no streams of process %s", id)
	}
	return t, nil
}

// add books a new set.
func (s *Streams) add(t *set) error {
	if !wire.UsableID(t.id) {
		return errdefs.New(errdefs.InvalidArgument, "process id %q cannot name a directory", t.id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errdefs.New(errdefs.Unavailable, "the keeper is being replaced")
	}
	if s.sets[t.id] != nil {
		return errdefs.New(errdefs.Conflict, "process %s has streams already", t.id)
	}
	s.sets[t.id] = t
	return nil
}

// stop ends the loop's goroutines; what it waits for stays, and run goes on
// with it.
func (s *Streams) stop() {
	s.mu.Lock()
	s.closed = true
	if s.sweeper != nil {
		s.sweeper.Stop()
	}
	s.mu.Unlock()
	s.poll.Stop()
	s.queue.close()
	s.running.Wait()
}

// markBusy lets sweep look after a set. The set's mu may be held.
func (s *Streams) markBusy(t *set) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[t] || s.closed {
		return
	}
	s.busy[t] = true
	if len(s.busy) == 1 {
		s.sweeper = time.AfterFunc(sweepEvery, s.sweep)
	}
}

// spoolDir returns the directory for spools, nil until hello.
func (t *set) spoolDir() *os.File {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	return t.s.spoolDir
}

func (t *set) busy() { t.s.markBusy(t) }
func (t *set) wake() { t.s.queue.put(t) }

var _ owner = (*set)(nil)

// sweep closes idle files and gives sets a turn in which stopped clients are
// noticed.
func (s *Streams) sweep() {
	s.mu.Lock()
	sets := make([]*set, 0, len(s.busy))
	for t := range s.busy {
		sets = append(sets, t)
	}
	s.mu.Unlock()
	for _, t := range sets {
		if !t.mu.TryLock() {
			continue // at work
		}
		idle := t.sweep(time.Now())
		t.unlock()
		if idle {
			s.mu.Lock()
			delete(s.busy, t)
			s.mu.Unlock()
		} else {
			s.queue.put(t)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.busy) > 0 && !s.closed {
		s.sweeper.Reset(sweepEvery)
	}
}
