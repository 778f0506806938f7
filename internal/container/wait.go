package container

import (
	"context"
	"sync"

	"github.com/moby/moby/api/types/container"
)

// Result is how a wait ended.
type Result struct {
	ExitCode int
	Error    string // set when the container could not be started or removed
}

// turn is one event that can be waited for: the end of a run, or the removal.
type turn struct {
	done   chan struct{} // closed when result is set
	result Result
}

func newTurn() *turn { return &turn{done: make(chan struct{})} }

func (t *turn) wait(ctx context.Context) (Result, error) {
	select {
	case <-t.done:
		return t.result, nil
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
}

// turns holds the next end of a run and the removal of one container.
type turns struct {
	mu      sync.Mutex
	exit    *turn
	removal *turn
}

func newTurns() turns { return turns{exit: newTurn(), removal: newTurn()} }

func (t *turns) next() (exit, removal *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.exit, t.removal
}

// exited ends the current turn and begins the next.
func (t *turns) exited(r Result) {
	t.mu.Lock()
	old := t.exit
	t.exit = newTurn()
	t.mu.Unlock()
	old.result = r
	close(old.done)
}

// removed ends all waiting for this container.
func (t *turns) removed(r Result) {
	t.mu.Lock()
	exit, removal := t.exit, t.removal
	t.exit = newTurn()
	t.mu.Unlock()
	removal.result, exit.result = r, r
	close(exit.done)
	close(removal.done)
}

// Wait returns a function that waits for a condition. The wait has begun when
// Wait returns: an end of the run after that is not missed.
func (s *Service) Wait(ref string, cond container.WaitCondition) (func(context.Context) (Result, error), error) {
	c, err := s.index.Find(ref)
	if err != nil {
		if r, ok := s.departed.find(ref, cond); ok {
			return func(context.Context) (Result, error) { return r, nil }, nil
		}
		return nil, err
	}
	exit, removal := c.turns.next()
	switch cond {
	case container.WaitConditionRemoved:
		return removal.wait, nil
	case container.WaitConditionNextExit:
		return exit.wait, nil
	}
	if v := c.View(); !v.Up() {
		return func(context.Context) (Result, error) { return Result{v.Last.ExitCode, v.Last.Error}, nil }, nil
	}
	return exit.wait, nil
}
