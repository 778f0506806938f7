package restart

import (
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
)

func TestDelayDoublesAndIsBounded(t *testing.T) {
	always := container.RestartPolicy{Name: container.RestartPolicyAlways}
	var r Row
	want := 100 * time.Millisecond
	for range 20 {
		d, ok := r.Next(always, End{Ran: time.Second})
		if !ok || d != want {
			t.Fatal(r.Count, d, ok, want)
		}
		want = min(2*want, time.Minute)
	}
	if d, _ := r.Next(always, End{Ran: 10 * time.Second}); d != 100*time.Millisecond {
		t.Error("a long run does not begin anew:", d)
	}
	if r.Count != 21 {
		t.Error(r.Count)
	}
}

func TestPolicies(t *testing.T) {
	policy := func(n container.RestartPolicyMode, most int) container.RestartPolicy {
		return container.RestartPolicy{Name: n, MaximumRetryCount: most}
	}
	for name, c := range map[string]struct {
		policy container.RestartPolicy
		end    End
		count  int
		want   bool
	}{
		"no":                          {policy("no", 0), End{ExitCode: 1}, 0, false},
		"unset":                       {policy("", 0), End{ExitCode: 1}, 0, false},
		"always, success":             {policy("always", 0), End{}, 9, true},
		"always, stopped":             {policy("always", 0), End{Stopped: true}, 0, false},
		"unless-stopped":              {policy("unless-stopped", 0), End{ExitCode: 137}, 0, true},
		"unless-stopped, stopped":     {policy("unless-stopped", 0), End{Stopped: true}, 0, false},
		"on-failure, success":         {policy("on-failure", 0), End{}, 0, false},
		"on-failure, failure":         {policy("on-failure", 0), End{ExitCode: 3}, 99, true},
		"on-failure, last but one":    {policy("on-failure", 2), End{ExitCode: 3}, 1, true},
		"on-failure, no more":         {policy("on-failure", 2), End{ExitCode: 3}, 2, false},
		"no, given up":                {policy("no", 0), End{GivenUp: true}, 9, true},
		"no, given up, stopped":       {policy("no", 0), End{GivenUp: true, Stopped: true}, 0, false},
		"on-failure, given up":        {policy("on-failure", 2), End{GivenUp: true}, 1, true},
		"on-failure, given up, limit": {policy("on-failure", 2), End{GivenUp: true}, 2, false},
		"on-failure, start failed":    {policy("on-failure", 1), End{Failed: true}, 0, true},
		"on-failure, failed, no more": {policy("on-failure", 1), End{Failed: true}, 1, false},
	} {
		r := Row{Count: c.count}
		if _, got := r.Next(c.policy, c.end); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAtBoot(t *testing.T) {
	for _, c := range []struct {
		name    container.RestartPolicyMode
		code    int
		stopped bool
		want    bool
	}{
		{"no", 1, false, false}, {"always", 0, true, true}, {"always", 0, false, true},
		{"unless-stopped", 0, true, false}, {"unless-stopped", 0, false, true},
		{"on-failure", 0, false, false}, {"on-failure", 1, false, true}, {"on-failure", 1, true, false},
	} {
		if got := AtBoot(container.RestartPolicy{Name: c.name}, c.code, 0, c.stopped); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
