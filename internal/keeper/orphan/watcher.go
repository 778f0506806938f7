// Package orphan waits for processes that are nobody's children here.
package orphan

import (
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/linux/process"
)

// Watcher waits for any number of processes in one loop.
type Watcher struct {
	mu      sync.Mutex
	watched []*watched // +checklocks:mu

	r, w   *os.File // a pipe that wakes the loop
	failed func(error)
}

type watched struct {
	pidfd *os.File
	ended func(time.Time)
}

// New returns a watcher that does nothing before Run. failed hears why it cannot
// wait for all at once; then it looks at each in turn.
func New(failed func(error)) (*Watcher, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &Watcher{r: r, w: w, failed: failed}, nil
}

// Watch has ended called, in a goroutine of its own, when the process of pidfd
// has ended; until then pidfd must stay open.
func (w *Watcher) Watch(pidfd *os.File, ended func(at time.Time)) {
	w.mu.Lock()
	w.watched = append(w.watched, &watched{pidfd, ended})
	w.mu.Unlock()
	w.w.Write([]byte{0})
}

// lookEvery is how often each process is looked at while the loop cannot wait.
const lookEvery = time.Second

// Run waits for ever.
func (w *Watcher) Run() {
	b := make([]byte, 64)
	said := ""
	for {
		w.mu.Lock()
		list := slices.Clone(w.watched)
		w.mu.Unlock()
		if len(list) == 0 {
			w.r.Read(b) // parked here, it costs no thread
			continue
		}
		dead, err := w.wait(list)
		if err == nil {
			w.drain(b)
		} else {
			if text := err.Error(); text != said { // it stays the same for long
				said = text
				w.failed(err)
			}
			time.Sleep(lookEvery)
			dead = ended(list)
		}
		for _, x := range dead {
			w.mu.Lock()
			w.watched = slices.DeleteFunc(w.watched, func(y *watched) bool { return y == x })
			w.mu.Unlock()
			go x.ended(time.Now())
		}
	}
}

// wait returns those of the list that have ended, when one has or the loop is
// woken.
func (w *Watcher) wait(list []*watched) (dead []*watched, err error) {
	fds := make([]*os.File, len(list))
	for i, x := range list {
		fds[i] = x.pidfd
	}
	indexes, err := process.Poll(w.r, fds, false, -1)
	for _, i := range indexes {
		dead = append(dead, list[i])
	}
	return dead, err
}

// ended looks at each process by itself: what keeps the loop from waiting for
// all of them (a limit of files that was lowered below their number) may not
// keep it from that. One that cannot be looked at counts as running.
func ended(list []*watched) (dead []*watched) {
	for _, x := range list {
		if over, err := process.Ended(x.pidfd); err == nil && over {
			dead = append(dead, x)
		}
	}
	return dead
}

// drain takes what has woken the loop, if anything has. A Read with a deadline
// that is over would take nothing.
func (w *Watcher) drain(b []byte) {
	c, err := w.r.SyscallConn()
	if err != nil {
		return
	}
	_ = c.Read(func(fd uintptr) bool {
		_, _ = syscall.Read(int(fd), b) // EAGAIN: a process ended
		return true
	})
}
