package container

import (
	"github.com/tare-engine/tare/internal/container/index"
	"github.com/tare-engine/tare/internal/container/stats"
)

// Stats measures the containers.
func (s *Service) Stats() *stats.Collector { return s.stats }

// measured is what the collector of statistics sees of the containers.
type measured struct{ index *index.Index[*Container] }

func (m measured) Target(id string) (stats.Target, bool, error) {
	c, err := m.index.Find(id)
	if err != nil {
		return stats.Target{}, false, err
	}
	t, running := target(c)
	return t, running, nil
}

func (m measured) Running() []stats.Target {
	var all []stats.Target
	for _, c := range m.index.List() {
		if t, running := target(c); running {
			all = append(all, t)
		}
	}
	return all
}

// target waits for no start: that may take its time, and all containers are measured
// one after the other.
func target(c *Container) (t stats.Target, running bool) {
	if v := c.View(); !v.Alive() {
		return targetOf(v), false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	v, p := c.View(), c.process
	t = targetOf(v)
	if p == nil || p.pid == 0 {
		return t, false
	}
	t.Group, t.Pid = p.cgroup, p.pid
	return t, true
}

func targetOf(v *View) stats.Target {
	return stats.Target{ID: v.ID, Name: "/" + v.Name, HostNet: v.HostConfig.NetworkMode.IsHost()}
}
