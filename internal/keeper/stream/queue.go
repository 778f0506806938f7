package stream

import "sync"

// turnQueue is the sets that wait for a turn. A set is in it once at most, and
// with one worker at most; what becomes ready during its turn gives it another.
type turnQueue struct {
	mu     sync.Mutex
	some   sync.Cond
	sets   []*set
	closed bool
}

// turnState is where a set is, guarded by the queue's mu.
type turnState byte

const (
	turnNone   turnState = iota // not in the queue
	turnQueued                  // waits for a worker
	turnTaken                   // a worker has it
	turnAgain                   // a worker has it, and it is to have another turn
)

func (q *turnQueue) put(t *set) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch t.state {
	case turnNone:
		t.state = turnQueued
		q.sets = append(q.sets, t)
		q.some.Signal()
	case turnTaken:
		t.state = turnAgain
	}
}

// get waits for a set; nil says that the queue is closed.
func (q *turnQueue) get() *set {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.sets) == 0 && !q.closed {
		q.some.Wait()
	}
	if q.closed {
		return nil
	}
	t := q.sets[0]
	q.sets = q.sets[1:]
	t.state = turnTaken
	return t
}

// done ends a turn; again asks for another.
func (q *turnQueue) done(t *set, again bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	again = again || t.state == turnAgain
	t.state = turnNone
	if again {
		t.state = turnQueued
		q.sets = append(q.sets, t)
		q.some.Signal()
	}
}

// Close lets the workers end.
func (q *turnQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.some.Broadcast()
}

// reopen makes the queue usable, with the sets that are in it.
func (q *turnQueue) reopen() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = false
	q.some.L = &q.mu
}
