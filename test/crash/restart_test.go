//go:build root && failpoint

package crash

import (
	"syscall"
	"testing"
)

// TestPoliciesAtBoot ends everything at once, as a power cut does, and looks at
// which containers the next engine starts.
func TestPoliciesAtBoot(t *testing.T) {
	b := newBox(t)
	b.up()
	b.down()
	base := b.snapshot() // without cells
	b.up()
	root := b.rootfs()
	run := func(name, policy string) {
		b.must("run", "-d", "--name", name, "--restart", policy, "--rootfs", root, "sleep", "1000")
	}
	want := map[string]string{"always": "running", "stopped": "exited", "stopped-always": "running", "no": "exited", "waits": "restarting", "on-failure": "running"}
	run("always", "always")
	run("stopped", "unless-stopped")
	run("stopped-always", "always")
	run("no", "no")
	run("on-failure", "on-failure")
	b.must("stop", "-t", "0", "stopped", "stopped-always")
	b.must("run", "-d", "--name", "waits", "--restart", "always", "--rootfs", root, "sh", "-c", "exit 1")
	b.kill()
	b.killKeeper()
	for _, p := range b.ours() {
		if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			t.Fatal(err)
		}
	}
	b.up()
	for name, state := range want {
		b.soon(func() bool { return b.state(name) == state })
		if got := b.state(name); got != state {
			t.Errorf("%s is %q, want %q", name, got, state)
		}
	}
	for name := range want {
		b.must("rm", "-f", name)
	}
	b.down()
	b.settled(base)
}
