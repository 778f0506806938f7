// Package health probes containers and tells when their health changes.
//
// A Monitor belongs to one running container. Between two probes it is a timer
// and costs no goroutine; the probe itself is a function that the owner gives:
// a command in the container (the exec of Docker's HEALTHCHECK), or one of the
// probes of this package, which the engine makes itself inside the container's
// network namespace or root, without a process.
//
// The rules are Docker's ("HEALTHCHECK" in the Dockerfile reference): probes
// that fail in the start period do not count until one has succeeded; Retries
// failures in a row make the container unhealthy; one success makes it healthy.
// Those of a startup probe, which goes before, are Podman's (see Startup).
package health

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
)

// What applies where the configuration says nothing (Docker's values).
const (
	defaultInterval      = 30 * time.Second
	defaultTimeout       = 30 * time.Second
	defaultStartInterval = 5 * time.Second
	defaultRetries       = 3
)

// How much is kept of the past: the last results, and of each so much output.
const (
	keptResults = 5
	MaxOutput   = 4096 // bytes
)

// timedOut is the exit code of a probe that did not answer in time.
const timedOut = -1

// Probe asks a container once. The code is 0 for healthy; the output says why
// it is not. An error means that the question could not be put at all. It must
// return soon after ctx has ended, with whatever output there is by then.
type Probe func(ctx context.Context) (code int, output string, err error)

// Timing says how often to probe, and what to make of the answers.
type Timing struct {
	Interval, Timeout          time.Duration
	StartPeriod, StartInterval time.Duration
	Retries                    int // failures in a row that make it unhealthy
}

// TimingOf returns the timing of a configuration, with Docker's defaults.
func TimingOf(c *container.HealthConfig) Timing {
	or := func(d, preset time.Duration) time.Duration {
		if d == 0 {
			return preset
		}
		return d
	}
	t := Timing{
		Interval: or(c.Interval, defaultInterval), Timeout: or(c.Timeout, defaultTimeout),
		StartPeriod: c.StartPeriod, StartInterval: or(c.StartInterval, defaultStartInterval), Retries: c.Retries,
	}
	if t.Retries == 0 {
		t.Retries = defaultRetries
	}
	return t
}

// Monitor probes one running container.
type Monitor struct {
	Config

	mu      sync.Mutex
	ctx     context.Context // of the time between Resume and Pause
	cancel  context.CancelFunc
	timer   *time.Timer
	quiet   bool // paused
	stopped bool
	status  container.HealthStatus
	streak  int // failures in a row that count
	results []*container.HealthcheckResult
	startup Progress
}

// Config is what a Monitor does.
type Config struct {
	Timing  Timing
	Probe   Probe
	Startup *Startup               // what goes before; nil: nothing
	Started time.Time              // of the container
	From    container.HealthStatus // when it was last probed: Starting after a start

	// Changed is called, on a goroutine of its own and with no lock held, when
	// the status has become another.
	Changed func(container.HealthStatus)
}

// Start begins to probe a container.
func Start(c Config) *Monitor {
	m := &Monitor{Config: c, status: c.From, quiet: true}
	if c.Startup != nil {
		c.Startup.defaults()
		m.startup = c.Startup.From
	}
	m.Resume()
	return m
}

// Pause ends the probing until Resume; the health stays as it is. A probe under
// way is cancelled and says no more.
func (m *Monitor) Pause() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.quiet {
		return
	}
	m.quiet = true
	if m.timer != nil {
		m.timer.Stop()
	}
	m.cancel()
}

// Resume goes on after Pause.
func (m *Monitor) Resume() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.quiet || m.stopped {
		return
	}
	m.quiet = false
	m.ctx, m.cancel = context.WithCancel(context.Background())
	if !m.startup.GivenUp {
		m.schedule(m.pace())
	}
}

// Stop ends the probing for good.
func (m *Monitor) Stop() {
	m.Pause()
	m.mu.Lock()
	m.stopped = true
	m.mu.Unlock()
}

// Status is the health as of the last probe.
func (m *Monitor) Status() container.HealthStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status
}

// Health is what inspect shows. The caller owns it.
func (m *Monitor) Health() *container.Health {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &container.Health{Status: m.status, FailingStreak: m.streak, Log: append([]*container.HealthcheckResult{}, m.results...)}
}

// pace is the time between two probes.
//
// Preconditions: m.mu is held.
func (m *Monitor) pace() time.Duration {
	switch {
	case m.inStartup():
		return m.Startup.Interval
	case m.starting(time.Now()):
		return min(m.Timing.Interval, m.Timing.StartInterval)
	}
	return m.Timing.Interval
}

// schedule sets the timer for the next probe.
//
// Preconditions: m.mu is held.
func (m *Monitor) schedule(d time.Duration) {
	period := m.ctx // a timer that fires as it is stopped must not run on in the next one
	m.timer = time.AfterFunc(d, func() { m.run(period) })
}

// starting reports whether failures do not count yet.
//
// Preconditions: m.mu is held.
func (m *Monitor) starting(now time.Time) bool {
	return m.status == container.Starting && now.Sub(m.Started) < m.Timing.StartPeriod
}

// run is one probe, on the timer's goroutine, in the time between a Resume and
// a Pause that period stands for.
func (m *Monitor) run(period context.Context) {
	if period.Err() != nil {
		return
	}
	m.mu.Lock()
	startup, probe, timeout := m.inStartup(), m.Probe, m.Timing.Timeout
	if startup {
		probe, timeout = m.Startup.Probe, m.Startup.Timeout
	}
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(period, timeout)
	defer cancel()
	r := &container.HealthcheckResult{Start: time.Now()}
	code, output, err := probe(ctx)
	r.ExitCode, r.Output = code, clip(output)
	switch {
	case ctx.Err() != nil:
		r.ExitCode = timedOut
		text := fmt.Sprintf("Health check exceeded timeout (%v)", timeout)
		if r.Output != "" {
			text += ": " + r.Output
		}
		r.Output = clip(text)
	case err != nil:
		r.ExitCode, r.Output = timedOut, clip(err.Error())
	}
	r.End = time.Now()
	if startup {
		if m.takeStartup(period, r) {
			m.Startup.Changed()
		}
	} else if status, changed := m.take(period, r); changed {
		m.Changed(status)
	}
}

// take enters the result of a probe that began in that period, and plans the
// next.
func (m *Monitor) take(period context.Context, r *container.HealthcheckResult) (container.HealthStatus, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if period.Err() != nil {
		return m.status, false
	}
	m.keep(r)
	was := m.status
	switch {
	case r.ExitCode == 0:
		m.streak, m.status = 0, container.Healthy
	case !m.starting(r.End):
		m.streak++
		if m.streak >= m.Timing.Retries {
			m.status = container.Unhealthy
		}
	}
	m.schedule(m.pace())
	return m.status, m.status != was
}

// keep adds a result to the last ones.
//
// Preconditions: m.mu is held.
func (m *Monitor) keep(r *container.HealthcheckResult) {
	m.results = append(m.results, r)
	if n := len(m.results); n > keptResults {
		m.results = append(m.results[:0:0], m.results[n-keptResults:]...)
	}
}

func clip(s string) string {
	if len(s) <= MaxOutput {
		return s
	}
	return s[:MaxOutput]
}
