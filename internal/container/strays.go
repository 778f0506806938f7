package container

import (
	"sync"
	"time"
)

// strays are the processes without container that were ended and whose exit the
// keeper has not told yet. An engine that closes waits for them: an exit that
// nobody acknowledges would lie at the keeper until another engine comes.
type strays struct {
	mu    sync.Mutex
	alive map[string]bool // by ID
	empty chan struct{}   // closed when the last is gone; nil: nobody waits
}

// strayWait is how long their exits may take. That of an orphan shows when init
// reaps it, after 2 s at the most.
const strayWait = 3 * time.Second

func (t *strays) killed(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.alive == nil {
		t.alive = map[string]bool{}
	}
	t.alive[id] = true
}

// gone takes note of an exit that the keeper has told and we have acknowledged.
func (t *strays) gone(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.alive, id)
	if len(t.alive) == 0 && t.empty != nil {
		close(t.empty)
		t.empty = nil
	}
}

// wait returns when all are gone, or after the time d.
func (t *strays) wait(d time.Duration) {
	t.mu.Lock()
	if len(t.alive) == 0 {
		t.mu.Unlock()
		return
	}
	if t.empty == nil {
		t.empty = make(chan struct{})
	}
	empty := t.empty
	t.mu.Unlock()
	select {
	case <-empty:
	case <-time.After(d):
	}
}
