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
