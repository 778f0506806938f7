package health

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/moby/api/types/container"
)

// script is a probe that gives one code after the other, then the last again.
type script struct {
	codes []int
	calls []time.Duration // since the start
	begun time.Time
}

func (s *script) probe(context.Context) (int, string, error) {
	s.calls = append(s.calls, time.Since(s.begun))
	code := s.codes[min(len(s.calls), len(s.codes))-1]
	return code, "output", nil
}

func watch(t Timing, p Probe) (*Monitor, *[]container.HealthStatus) {
	var seen []container.HealthStatus
	m := Start(Config{Timing: t, Probe: p, Started: time.Now(), From: container.Starting, Changed: func(s container.HealthStatus) { seen = append(seen, s) }})
	return m, &seen
}

func TestStatusFollowsTheProbes(t *testing.T) {
	for name, c := range map[string]struct {
		timing Timing
		codes  []int
		after  time.Duration
		want   []container.HealthStatus
		streak int
	}{
		"healthy at once":            {Timing{Interval: time.Second, Retries: 3}, []int{0}, 1500 * time.Millisecond, []container.HealthStatus{container.Healthy}, 0},
		"two failures are not three": {Timing{Interval: time.Second, Retries: 3}, []int{1}, 2500 * time.Millisecond, nil, 2},
		"three failures":             {Timing{Interval: time.Second, Retries: 3}, []int{1}, 3500 * time.Millisecond, []container.HealthStatus{container.Unhealthy}, 3},
		"and back":                   {Timing{Interval: time.Second, Retries: 1}, []int{1, 0, 1}, 3500 * time.Millisecond, []container.HealthStatus{container.Unhealthy, container.Healthy, container.Unhealthy}, 1},
		"start period forgives":      {Timing{Interval: time.Second, StartPeriod: 10 * time.Second, StartInterval: time.Second, Retries: 1}, []int{1}, 9500 * time.Millisecond, nil, 0},
		"until it is over":           {Timing{Interval: time.Second, StartPeriod: 3 * time.Second, StartInterval: time.Second, Retries: 1}, []int{1}, 4500 * time.Millisecond, []container.HealthStatus{container.Unhealthy}, 2},
		"or one probe succeeded":     {Timing{Interval: time.Second, StartPeriod: time.Hour, StartInterval: time.Second, Retries: 1}, []int{0, 1}, 2500 * time.Millisecond, []container.HealthStatus{container.Healthy, container.Unhealthy}, 1},
		"a success ends the row":     {Timing{Interval: time.Second, Retries: 2}, []int{1, 0, 1, 0, 1}, 5500 * time.Millisecond, []container.HealthStatus{container.Healthy}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.timing.Timeout = time.Minute
				s := &script{codes: c.codes, begun: time.Now()}
				m, seen := watch(c.timing, s.probe)
				defer m.Stop()
				time.Sleep(c.after)
				synctest.Wait()
				if !slices.Equal(*seen, c.want) || m.Health().FailingStreak != c.streak {
					t.Errorf("%v, streak %d; want %v, %d", *seen, m.Health().FailingStreak, c.want, c.streak)
				}
			})
		})
	}
}

func TestStartIntervalIsForTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{codes: []int{1, 1, 0}, begun: time.Now()}
		m, _ := watch(Timing{Interval: 30 * time.Second, Timeout: time.Second, StartPeriod: time.Minute, StartInterval: 2 * time.Second, Retries: 3}, s.probe)
		defer m.Stop()
		time.Sleep(40 * time.Second)
		synctest.Wait()
		want := []time.Duration{2 * time.Second, 4 * time.Second, 6 * time.Second, 36 * time.Second}
		if !slices.Equal(s.calls, want) {
			t.Errorf("probed at %v, want %v", s.calls, want)
		}
	})
}

func TestSlowProbeIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, seen := watch(Timing{Interval: time.Second, Timeout: 2 * time.Second, Retries: 1}, func(ctx context.Context) (int, string, error) {
			<-ctx.Done()
			return 0, "half", nil
		})
		defer m.Stop()
		time.Sleep(3500 * time.Millisecond)
		synctest.Wait()
		h := m.Health()
		if len(*seen) != 1 || len(h.Log) != 1 || h.Log[0].ExitCode != -1 || h.Log[0].Output != "Health check exceeded timeout (2s): half" {
			t.Errorf("%v %+v", *seen, h.Log)
		}
	})
}

func TestFiveResultsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		m, _ := watch(Timing{Interval: time.Second, Timeout: time.Second, Retries: 3}, func(context.Context) (int, string, error) {
			n++
			if n == 7 {
				return 0, "", errors.New("no such container")
			}
			return n, strings.Repeat("x", 2*MaxOutput), nil
		})
		time.Sleep(7500 * time.Millisecond)
		synctest.Wait()
		m.Stop()
		log := m.Health().Log
		if len(log) != 5 || log[0].ExitCode != 3 || len(log[0].Output) != MaxOutput || log[4].Output != "no such container" || log[4].ExitCode != -1 {
			t.Errorf("%d results, first %d, last %+v", len(log), log[0].ExitCode, log[4])
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n != 7 {
			t.Error("it goes on after Stop")
		}
	})
}

func TestTimingHasDockersDefaults(t *testing.T) {
	got := TimingOf(&container.HealthConfig{})
	want := Timing{30 * time.Second, 30 * time.Second, 0, 5 * time.Second, 3}
	if got != want {
		t.Errorf("%+v", got)
	}
	if got := TimingOf(&container.HealthConfig{Retries: 1, Interval: 1, Timeout: 2, StartPeriod: 3, StartInterval: 4}); got != (Timing{1, 2, 3, 4, 1}) {
		t.Errorf("%+v", got)
	}
}

func TestPauseKeepsTheHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{codes: []int{0}, begun: time.Now()}
		m, seen := watch(Timing{Interval: time.Second, Timeout: time.Second, Retries: 1}, s.probe)
		time.Sleep(1500 * time.Millisecond)
		m.Pause()
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(s.calls) != 1 || m.Status() != container.Healthy {
			t.Error(len(s.calls), m.Status())
		}
		m.Resume()
		time.Sleep(1500 * time.Millisecond)
		m.Stop()
		m.Resume() // not after Stop
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(s.calls) != 2 || len(*seen) != 1 {
			t.Error(len(s.calls), *seen)
		}
	})
}

func TestHealthGoesOnWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{codes: []int{1}, begun: time.Now()}
		m := Start(Config{
			Timing: Timing{Interval: time.Second, Timeout: time.Second, StartPeriod: time.Hour, StartInterval: time.Second, Retries: 1},
			Probe:  s.probe, Started: time.Now(), From: container.Healthy, Changed: func(container.HealthStatus) {},
		})
		defer m.Stop()
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if m.Status() != container.Unhealthy {
			t.Error(m.Status())
		}
	})
}

// TestAProbeKeepsToItsPeriod runs a timer's function late, after a pause and
// the next beginning: it must not start a second chain of probes.
func TestAProbeKeepsToItsPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{codes: []int{0}, begun: time.Now()}
		m, _ := watch(Timing{Interval: time.Second, Timeout: time.Second, Retries: 1}, s.probe)
		m.mu.Lock()
		old := m.ctx
		m.mu.Unlock()
		m.Pause()
		m.Resume()
		m.run(old)
		time.Sleep(3500 * time.Millisecond)
		synctest.Wait()
		m.Stop()
		if len(s.calls) != 3 {
			t.Errorf("%d probes in 3.5 intervals", len(s.calls))
		}
	})
}
