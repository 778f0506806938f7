//go:build root

package script

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestLostLogLines: output that finds the disk full is missed by nobody's
// silence. An event tells, to the next engine too, and the log itself.
func TestLostLogLines(t *testing.T) {
	dir, bin := workdir(t), programs(t)
	data := dir + "/data"
	smallDisk(t, data, "64M")
	args := []string{"--data-root", data, "--exec-root", dir + "/run"}
	t.Cleanup(func() {
		if out, err := exec.Command(filepath.Join(bin, "tared"), append(args, "--uninstall")...).CombinedOutput(); err != nil {
			t.Errorf("uninstall: %v: %s", err, out)
		}
	})
	e := start(t, &engine{socket: dir + "/engine.sock", bin: bin, docker: filepath.Join(bin, "tare")}, dir, filepath.Join(bin, "tared"), append(args, "--log-level", "warn")...)
	e.load(t, "busybox.tar")
	e.output(t, "run", "-d", "--name", "loud", "busybox", "sh", "-c", "while :; do echo line; sleep 0.02; done")
	told := []string{"events", "--since", "1h", "--until", "0s", "--filter", "event=log_lost", "--format", "{{.Actor.Attributes.name}}: {{.Actor.Attributes.reason}}"}
	const loss = "loud: no space left on device"

	free := fillBytes(t, data)
	e.shows(t, loss, told...)
	e.again(t)
	e.shows(t, loss, told...)
	free()
	e.shows(t, " lost: no space left on device\nline\n", "logs", "loud") // one line, or several
	e.output(t, "rm", "-f", "loud")
}

// shows waits until the output of a command holds a text.
func (e *engine) shows(t *testing.T, want string, args ...string) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		out, err := exec.Command(e.docker, append([]string{"-H", "unix://" + e.socket}, args...)...).CombinedOutput()
		if err == nil && strings.Contains(string(out), want) {
			return
		}
		if time.Now().After(end) {
			t.Errorf("%q, %v: no %q in %q", args, err, want, out[max(0, len(out)-300):])
			return
		}
	}
}
