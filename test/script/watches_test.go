//go:build root

package script

import (
	"path/filepath"
	"testing"
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
