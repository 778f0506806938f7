// Package restart decides whether a container that has ended is started again,
// and when.
package restart

import (
	"time"

	"github.com/moby/moby/api/types/container"
)

// Docker's numbers: the wait doubles with each restart of a program that does
// not stay up.
const (
	firstDelay = 100 * time.Millisecond
	maxDelay   = time.Minute
	settled    = 10 * time.Second // a run this long begins the row anew
)

// End is how a run came to its end.
type End struct {
	ExitCode int
	Ran      time.Duration
	Stopped  bool // by a user's stop or kill
	Failed   bool // it never began: the start itself failed
	GivenUp  bool // by its startup probe: it is to begin anew, policy or not
}

// Row is the present row of restarts of one container; its zero value is that
// of one that a user has started. It is not safe for concurrent use.
type Row struct {
	Count int // restarts since a user's start; inspect's RestartCount
	delay time.Duration
}

// Next returns how long to wait before the next start, false if there is none.
func (r *Row) Next(p container.RestartPolicy, e End) (time.Duration, bool) {
	if e.Stopped || !wanted(p, e, r.Count) {
		return 0, false
	}
	switch {
	case r.delay == 0 || e.Ran >= settled:
		r.delay = firstDelay
	default:
		r.delay = min(2*r.delay, maxDelay)
	}
	r.Count++
	return r.delay, true
}

func wanted(p container.RestartPolicy, e End, count int) bool {
	switch p.Name {
	case container.RestartPolicyAlways, container.RestartPolicyUnlessStopped:
		return true
	case container.RestartPolicyOnFailure:
		return (e.ExitCode != 0 || e.Failed || e.GivenUp) && (p.MaximumRetryCount == 0 || count < p.MaximumRetryCount)
	}
	return e.GivenUp
}

// AtBoot reports whether a container that does not run is started with the
// engine: stopped says that a user's stop ended it.
func AtBoot(p container.RestartPolicy, exitCode, count int, stopped bool) bool {
	switch p.Name {
	case container.RestartPolicyAlways:
		return true // a stop by hand holds until the engine starts anew
	case container.RestartPolicyUnlessStopped:
		return !stopped
	}
	return !stopped && wanted(p, End{ExitCode: exitCode}, count)
}
