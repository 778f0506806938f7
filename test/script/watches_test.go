//go:build root

package script

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestTimeoutOutlivesEngine: the next engine ends a run at the time that was set
// when it began.
func TestTimeoutOutlivesEngine(t *testing.T) {
	e := startTared(t)
	e.docker = filepath.Join(e.bin, "tare")
	e.load(t, "busybox.tar")
	e.output(t, "run", "-d", "--name", "timed", "--timeout", "3", "busybox", "sleep", "1000")
	e.output(t, "run", "-d", "--name", "untimed", "busybox", "sleep", "1000")
	e.again(t)
	e.shows(t, "137 false", "inspect", "-f", "{{.State.ExitCode}} {{.State.Running}}", "timed")
	e.shows(t, "true", "inspect", "-f", "{{.State.Running}}", "untimed")
	e.output(t, "rm", "-f", "timed", "untimed")
}

// TestUnhealthyActionOutlivesEngine: what was to be done with an unhealthy
// container, and was cut off by the engine's death, the next engine does.
func TestUnhealthyActionOutlivesEngine(t *testing.T) {
	e := startTared(t)
	e.docker = filepath.Join(e.bin, "tare")
	e.load(t, "busybox.tar")
	e.output(t, "run", "-d", "--name", "sick", "--health-cmd", "false", "--health-interval", "100ms", "--health-retries", "1",
		"--health-on-failure", "stop", "--stop-timeout", "2", "busybox", "sh", "-c", `trap "" TERM; while :; do sleep 0.1; done`)
	e.shows(t, "unhealthy", "inspect", "-f", "{{.State.Health.Status}}", "sick")
	e.kill(t)
	e.rise(t)
	e.shows(t, "137 false", "inspect", "-f", "{{.State.ExitCode}} {{.State.Running}}", "sick")
	e.output(t, "rm", "sick")
}

// TestStartupProbeOutlivesEngine: what a startup probe has found, and what
// follows from it, is not lost with the engine that was told.
func TestStartupProbeOutlivesEngine(t *testing.T) {
	e := startTared(t)
	e.docker = filepath.Join(e.bin, "tare")
	e.load(t, "busybox.tar")
	e.output(t, "run", "-d", "--name", "passed", "--health-cmd", "test -e /live", "--health-interval", "100ms", "--health-retries", "1",
		"--health-startup-file", "/ready", "--health-startup-interval", "50ms", "busybox", "sh", "-c", "touch /ready; sleep 1000")
	e.shows(t, "unhealthy", "inspect", "-f", "{{.State.Health.Status}}", "passed")
	e.output(t, "exec", "passed", "rm", "/ready")
	e.kill(t)
	e.rise(t)
	e.output(t, "exec", "passed", "touch", "/live")
	e.shows(t, "is healthy", "inspect", "-f", "is {{.State.Health.Status}}", "passed")

	// It is stopped so slowly that the engine dies meanwhile, and comes up anew.
	e.output(t, "run", "-d", "--name", "failed", "--health-cmd", "true", "--stop-timeout", "2",
		"--health-startup-cmd", "test -e /again", "--health-startup-interval", "50ms", "--health-startup-retries", "2",
		"busybox", "sh", "-c", `trap "echo asked; touch /again" TERM; echo run; while :; do sleep 0.1; done`)
	e.shows(t, "asked", "logs", "failed")
	e.kill(t)
	e.rise(t)
	e.shows(t, "run\nasked\nasked\nrun", "logs", "failed")
	e.shows(t, "is healthy", "inspect", "-f", "is {{.State.Health.Status}}", "failed")
	e.output(t, "rm", "-f", "passed", "failed")
}

// TestRestartOfStartupProbeOutlivesEngine: a container that waits for its next
// start, because its startup probe failed, is started by the next engine, but not
// if a user has stopped it meanwhile.
func TestRestartOfStartupProbeOutlivesEngine(t *testing.T) {
	e := startTared(t)
	e.docker = filepath.Join(e.bin, "tare")
	e.load(t, "busybox.tar")
	for _, name := range []string{"stopped", "waits"} {
		e.output(t, "run", "-d", "--name", name, "--health-cmd", "true", "--stop-signal", "KILL",
			"--health-startup-cmd", "false", "--health-startup-interval", "10ms", "--health-startup-retries", "1", "busybox", "sh", "-c", "echo run; sleep 1000")
		await(t, name+" waits for its fourth restart", func() bool {
			return e.output(t, "inspect", "-f", "{{.State.Status}} {{.RestartCount}}", name) == "restarting 4"
		})
		if name == "stopped" {
			e.output(t, "stop", name)
		}
	}
	e.kill(t)
	e.rise(t)
	e.shows(t, "run\nrun\nrun\nrun\nrun", "logs", "waits")
	if got := e.output(t, "inspect", "-f", "{{.State.Status}}", "stopped"); got != "exited" {
		t.Errorf("a container that was stopped is %s", got)
	}
	e.output(t, "rm", "-f", "waits", "stopped")
}

// TestRequiredStartsFirstAtBoot: the policies keep the order, at the first
// attempt.
func TestRequiredStartsFirstAtBoot(t *testing.T) {
	e := startTared(t)
	e.docker = filepath.Join(e.bin, "tare")
	e.load(t, "busybox.tar")
	e.output(t, "create", "--name", "quiet", "busybox", "sleep", "1000") // no policy of its own
	e.output(t, "create", "--name", "base", "--restart", "always", "--requires", "quiet", "busybox", "sleep", "1000")
	for _, name := range []string{"one", "two"} {
		e.output(t, "create", "--name", name, "--restart", "always", "--requires", "base", "busybox", "sleep", "1000")
	}
	e.output(t, "create", "--name", "between", "--requires", "base", "busybox", "sleep", "1000")
	e.output(t, "create", "--name", "three", "--restart", "always", "--requires", "between", "busybox", "sleep", "1000")
	e.output(t, "start", "one", "two", "three")
	e.output(t, "stop", "-t", "0", "one", "two", "three", "between", "base", "quiet")
	await(t, "the ends of all are recorded", func() bool {
		live, err := filepath.Glob(filepath.Join(filepath.Dir(e.socket), "run/containers/*.live.json"))
		return err == nil && len(live) == 0
	})
	e.kill(t)
	e.rise(t)
	for _, name := range []string{"one", "two", "three", "between", "base", "quiet"} {
		e.shows(t, "running 0", "inspect", "-f", "{{.State.Status}} {{.RestartCount}}", name) // one that is restarting says that it is running too
	}
	started := map[string]time.Time{}
	for _, name := range []string{"quiet", "base", "between", "one", "two", "three"} {
		at, err := time.Parse(time.RFC3339Nano, e.output(t, "inspect", "-f", "{{.State.StartedAt}}", name))
		if err != nil {
			t.Fatal(err)
		}
		started[name] = at
	}
	for name, before := range map[string]string{"base": "quiet", "one": "base", "two": "base", "between": "base", "three": "between"} {
		if !started[name].After(started[before]) {
			t.Errorf("%s started at %s, %s, which it requires, at %s", name, started[name], before, started[before])
		}
	}
	e.output(t, "rm", "-f", "one", "two", "three", "between", "base", "quiet")
}

// TestLocalTimeZoneFollowsTheHost at each start, whichever engine makes it.
func TestLocalTimeZoneFollowsTheHost(t *testing.T) {
	e := startTared(t)
	e.docker = filepath.Join(e.bin, "tare")
	e.load(t, "busybox.tar")
	e.output(t, "run", "-d", "--name", "local", "--tz", "local", "busybox", "sleep", "1000")
	e.output(t, "run", "-d", "--name", "named", "--tz", "Europe/Berlin", "busybox", "sleep", "1000")
	const zone = "/usr/share/zoneinfo/Asia/Tokyo" // in this test's own mount namespace
	if out, err := exec.Command("mount", "--bind", zone, "/etc/localtime").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "/etc/localtime").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	if got := e.output(t, "exec", "local", "date", "+%Z"); got == "JST" {
		t.Error("the zone changes while the container runs")
	}
	e.kill(t)
	e.rise(t)
	e.output(t, "restart", "-t", "0", "local", "named")
	if got := e.output(t, "exec", "local", "date", "+%Z"); got != "JST" {
		t.Errorf("after a restart it is %s", got)
	}
	if got := e.output(t, "exec", "named", "date", "+%Z"); got != "CET" && got != "CEST" {
		t.Errorf("the named zone has become %s", got)
	}
	e.output(t, "rm", "-f", "local", "named")
}
