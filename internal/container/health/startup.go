package health

import (
	"context"
	"time"

	"github.com/moby/moby/api/types/container"
)

// Startup is a probe that has to succeed before the health check begins, for
// programs that take long, or no one knows how long, until they can be asked
// (Podman's "startup healthcheck"). Until then the health is Starting.
//
// Both its failures and its successes are counted from the container's start
// on, not in a row. Once there are Retries failures the container is given up:
// it is not probed any more, and the owner restarts it. Once there are Successes
// the health check begins, at once.
type Startup struct {
	Probe             Probe
	Interval, Timeout time.Duration // 0: 30 s
	Retries           int           // 0: any number of failures
	Successes         int           // 0 is 1
	From              Progress      // when it was last probed

	// Changed is called after each probe, as Config.Changed is.
	Changed func()
}

// Progress is how far a startup probe has come.
type Progress struct {
	Failures  int  `json:",omitempty"`
	Successes int  `json:",omitempty"`
	Passed    bool `json:",omitempty"` // the health check has begun
	GivenUp   bool `json:",omitempty"` // it has failed too often
}

// defaults fills what is left open, as Podman does.
func (s *Startup) defaults() {
	if s.Interval == 0 {
		s.Interval = defaultInterval
	}
	if s.Timeout == 0 {
		s.Timeout = defaultTimeout
	}
	s.Successes = max(s.Successes, 1)
}

// Progress is how far the startup probe has come.
func (m *Monitor) Progress() Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.startup
}

// inStartup reports whether the health check has to wait yet.
//
// Preconditions: m.mu is held.
func (m *Monitor) inStartup() bool { return m.Startup != nil && !m.startup.Passed }

// takeStartup enters the result of a startup probe that began in that period, and
// plans the next, of whichever kind; false: its period is over.
func (m *Monitor) takeStartup(period context.Context, r *container.HealthcheckResult) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if period.Err() != nil {
		return false
	}
	m.keep(r)
	p, s := &m.startup, m.Startup
	if r.ExitCode == 0 {
		p.Successes++
		p.Passed = p.Successes >= s.Successes
	} else {
		p.Failures++
		p.GivenUp = s.Retries > 0 && p.Failures >= s.Retries
	}
	switch {
	case p.GivenUp: // the owner ends the run
	case p.Passed:
		m.schedule(0)
	default:
		m.schedule(s.Interval)
	}
	return true
}
