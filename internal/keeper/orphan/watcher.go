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

	r, w *os.File // a pipe that wakes the loop
}

type watched struct {
	pidfd *os.File
	ended func(time.Time)
}

// New returns a watcher that does nothing before Run.
func New() (*Watcher, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &Watcher{r: r, w: w}, nil
}

// Watch has ended called, in a goroutine of its own, when the process of pidfd
// has ended; until then pidfd must stay open.
func (w *Watcher) Watch(pidfd *os.File, ended func(at time.Time)) {
	w.mu.Lock()
	w.watched = append(w.watched, &watched{pidfd, ended})
	w.mu.Unlock()
	w.w.Write([]byte{0})
}

// Run waits for ever.
func (w *Watcher) Run() {
	b := make([]byte, 64)
	for {
		w.mu.Lock()
		list := slices.Clone(w.watched)
		w.mu.Unlock()
		if len(list) == 0 {
			w.r.Read(b) // parked here, it costs no thread
			continue
		}
		fds := make([]*os.File, len(list))
		for i, x := range list {
			fds[i] = x.pidfd
		}
		dead, err := process.Poll(w.r, fds, false, -1)
		if err != nil {
			time.Sleep(time.Second)
		}
		w.drain(b)
		for _, i := range dead {
			w.mu.Lock()
			w.watched = slices.DeleteFunc(w.watched, func(x *watched) bool { return x == list[i] })
			w.mu.Unlock()
			go list[i].ended(time.Now())
		}
	}
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
