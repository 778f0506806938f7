package health

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/moby/api/types/container"
)

// startup begins to watch a container with a startup probe; the health check
// fails at once.
func startup(s Startup, codes ...int) (m *Monitor, probes, checks *script, seen *[]container.HealthStatus) {
	probes, checks = &script{codes: codes, begun: time.Now()}, &script{codes: []int{1}, begun: time.Now()}
	seen = new([]container.HealthStatus)
	s.Probe = probes.probe
	if s.Changed == nil {
		s.Changed = func() {}
	}
	m = Start(Config{
		Timing: Timing{Interval: 10 * time.Second, Timeout: time.Second, Retries: 1}, Probe: checks.probe, Startup: &s,
		Started: time.Now(), From: container.Starting, Changed: func(s container.HealthStatus) { *seen = append(*seen, s) },
	})
	return m, probes, checks, seen
}

func TestHealthCheckBeginsWhenTheStartupProbeHasSucceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, probes, checks, seen := startup(Startup{Interval: time.Second, Successes: 2}, 1, 0, 1, 1, 0)
		defer m.Stop()
		time.Sleep(4500 * time.Millisecond)
		synctest.Wait()
		if got := m.Progress(); got != (Progress{Failures: 3, Successes: 1}) || len(checks.calls) != 0 || m.Status() != container.Starting {
			t.Errorf("%+v, %d checks, %s", got, len(checks.calls), m.Status())
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if got := m.Progress(); got != (Progress{Failures: 3, Successes: 2, Passed: true}) || len(probes.calls) != 5 {
			t.Errorf("%+v, %d probes", got, len(probes.calls))
		}
		if want := []time.Duration{5 * time.Second, 15 * time.Second}; !slices.Equal(checks.calls, want) {
			t.Errorf("checked at %v, want %v", checks.calls, want)
		}
		if !slices.Equal(*seen, []container.HealthStatus{container.Unhealthy}) || len(m.Health().Log) != 5 {
			t.Errorf("%v, %d results", *seen, len(m.Health().Log))
		}
	})
}

func TestStartupProbeGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told atomic.Int32
		m, probes, checks, seen := startup(Startup{Interval: time.Second, Retries: 3, Successes: 2, Changed: func() { told.Add(1) }}, 1, 0, 1)
		defer m.Stop()
		time.Sleep(time.Second / 2)
		for i, want := range []Progress{{Failures: 1}, {Failures: 1, Successes: 1}, {Failures: 2, Successes: 1}, {Failures: 3, Successes: 1, GivenUp: true}} {
			time.Sleep(time.Second)
			synctest.Wait()
			if m.Progress() != want || int(told.Load()) != i+1 {
				t.Errorf("after %d probes %+v, told %d times", i+1, m.Progress(), told.Load())
			}
		}
		time.Sleep(time.Hour)
		m.Pause()
		m.Resume() // nor is it probed again then
		time.Sleep(time.Hour)
		synctest.Wait()
		if told.Load() != 4 || len(probes.calls) != 4 || len(checks.calls) != 0 || len(*seen) != 0 {
			t.Errorf("told %d times, %d probes, %d checks, %v", told.Load(), len(probes.calls), len(checks.calls), *seen)
		}
	})
}

func TestStartupProbeWithoutRetriesGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, probes, _, _ := startup(Startup{}, 1) // Podman's defaults
		defer m.Stop()
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(probes.calls) != 120 || m.Progress() != (Progress{Failures: 120}) || m.Status() != container.Starting {
			t.Errorf("%d probes, %+v, %s", len(probes.calls), m.Progress(), m.Status())
		}
	})
}

func TestStartupProbeGoesOnWhereItWas(t *testing.T) {
	for name, c := range map[string]struct {
		from           Progress
		probes, checks int
		want           Progress
	}{
		"begun":    {Progress{Failures: 2}, 1, 0, Progress{Failures: 3, GivenUp: true}},
		"passed":   {Progress{Failures: 2, Successes: 1, Passed: true}, 0, 1, Progress{Failures: 2, Successes: 1, Passed: true}},
		"given up": {Progress{Failures: 3, GivenUp: true}, 0, 0, Progress{Failures: 3, GivenUp: true}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, probes, checks, _ := startup(Startup{Interval: time.Second, Retries: 3, From: c.from}, 1)
				defer m.Stop()
				time.Sleep(15 * time.Second)
				synctest.Wait()
				if m.Progress() != c.want || len(probes.calls) != c.probes || len(checks.calls) != c.checks {
					t.Errorf("%+v, %d probes, %d checks", m.Progress(), len(probes.calls), len(checks.calls))
				}
			})
		})
	}
}
