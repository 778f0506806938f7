package build

import (
	"context"
	"sync"
	"time"

	"github.com/moby/buildkit/executor"
	resourcestypes "github.com/moby/buildkit/executor/resources/types"
)

// steps are the containers of builds that are under way, so that an engine that ends
// can wait for their ends.
type steps struct {
	executor.Executor
	running sync.WaitGroup
}

// Run runs a step.
func (s *steps) Run(ctx context.Context, id string, root executor.Mount, mounts []executor.Mount, process executor.ProcessInfo, started chan<- struct{}) (resourcestypes.Recorder, error) {
	s.running.Add(1)
	defer s.running.Done()
	return s.Executor.Run(ctx, id, root, mounts, process, started)
}

// wait returns when none is under way any more, or false after a time.
func (s *steps) wait(limit time.Duration) bool {
	ended := make(chan struct{})
	go func() { // as long as the steps
		s.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return true
	case <-time.After(limit):
		return false
	}
}
