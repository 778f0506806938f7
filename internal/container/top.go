package container

import (
	"fmt"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/container/ps"
)

// Top lists the processes of a container as ps(1) would. args are ps's.
func (s *Service) Top(ref, args string) (container.TopResponse, error) {
	c, err := s.index.Find(ref)
	if err != nil {
		return container.TopResponse{}, err
	}
	return ps.List(args, func() ([]int, error) {
		c.mu.Lock()
		v, p := c.View(), c.process
		c.mu.Unlock()
		if p == nil {
			return nil, errNotRunning(v)
		}
		pids, err := p.cgroup.Pids()
		if err != nil {
			return nil, fmt.Errorf("list the processes of container %s: %w", v.ID, err)
		}
		return pids, nil
	})
}
