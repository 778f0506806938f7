package logs

import (
	"sync"

	"github.com/tare-engine/tare/internal/linux/inotify"
)

// wakers wakes the readers that follow logs. It is the process's: inotify
// instances are few (128 a user by default). While nobody follows there is
// neither an instance nor a goroutine.
var wakers hub

type hub struct {
	mu      sync.Mutex
	watcher *inotify.Watcher
	ofWatch map[int]map[*waker]bool
}

// waker is one reader's: c receives after its directory has changed, once for
// any number of changes.
type waker struct {
	hub   *hub
	watch int
	c     chan struct{}
	call  func() // instead of c; nil: none
}

// add wakes the result, or calls call, when something changes in dir.
func (h *hub) add(dir string, call func()) (*waker, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watcher == nil {
		w, err := inotify.New()
		if err != nil {
			return nil, err
		}
		h.watcher, h.ofWatch = w, map[int]map[*waker]bool{}
		go h.run(w)
	}
	watch, err := h.watcher.Add(dir)
	if err != nil {
		h.stopIfIdle()
		return nil, err
	}
	w := &waker{hub: h, watch: watch, c: make(chan struct{}, 1), call: call}
	if h.ofWatch[watch] == nil {
		h.ofWatch[watch] = map[*waker]bool{}
	}
	h.ofWatch[watch][w] = true
	return w, nil
}

// close stops waking.
func (w *waker) close() {
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.ofWatch[w.watch], w)
	if len(h.ofWatch[w.watch]) == 0 {
		delete(h.ofWatch, w.watch)
		_ = h.watcher.Remove(w.watch) // fails if the directory is gone
	}
	h.stopIfIdle()
}

// stopIfIdle gives the instance back, which ends its goroutine.
func (h *hub) stopIfIdle() {
	if len(h.ofWatch) == 0 {
		h.watcher.Close()
		h.watcher = nil
	}
}

// run wakes readers until its watcher is closed.
func (h *hub) run(w *inotify.Watcher) {
	for {
		watches, err := w.Read()
		if err != nil {
			return
		}
		h.mu.Lock()
		if h.watcher == w {
			for _, watch := range watches {
				h.wake(watch)
			}
		}
		h.mu.Unlock()
	}
}

func (h *hub) wake(watch int) {
	if watch == inotify.Overflow {
		for _, set := range h.ofWatch {
			for k := range set {
				k.wake()
			}
		}
		return
	}
	for k := range h.ofWatch[watch] {
		k.wake()
	}
}

func (w *waker) wake() {
	if w.call != nil {
		w.call()
		return
	}
	select {
	case w.c <- struct{}{}:
	default: // it has not looked since the last time
	}
}
