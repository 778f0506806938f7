//go:build root

package script

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSharedMemoryCounts: what is written to a /dev/shm, of the container's own or
// of another's that it joins, counts to the limit of who writes, and is gone with
// the container whose it is (CVE-2024-3056).
func TestSharedMemoryCounts(t *testing.T) {
	e := startTared(t)
	e.docker = filepath.Join(e.bin, "tare")
	e.load(t, "busybox.tar")
	e.output(t, "run", "-d", "--name", "owner", "--ipc", "shareable", "--shm-size", "256m", "busybox", "sleep", "1000")
	fill := []string{"busybox", "dd", "if=/dev/zero", "of=/dev/shm/x", "bs=1M", "count=128"}
	for name, ipc := range map[string]string{"alone": "private", "guest": "container:owner"} {
		args := []string{"-H", "unix://" + e.socket, "run", "--name", name, "--ipc", ipc, "-m", "32m", "--memory-swap", "32m"}
		if ipc == "private" {
			args = append(args, "--shm-size", "256m")
		}
		out, err := exec.Command(e.docker, append(args, fill...)...).CombinedOutput()
		if got := e.output(t, "inspect", "-f", "{{.State.ExitCode}} {{.State.OOMKilled}}", name); got != "137 true" {
			t.Errorf("%s wrote 128 MB: %s, %v, %s", name, got, err, out)
		}
	}
	if got := e.output(t, "inspect", "-f", "{{.State.Running}}", "owner"); got != "true" {
		t.Errorf("the owner runs: %s", got)
	}
	mounted := func() bool {
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(mounts), filepath.Dir(e.socket)+"/run/containers/")
	}
	if !mounted() {
		t.Error("the shared memory is mounted nowhere while its owner runs")
	}
	e.output(t, "rm", "-f", "alone", "guest", "owner")
	await(t, "the end of the shared memory", func() bool { return !mounted() })
}
