//go:build root && failpoint

package crash

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestKeepersAndEnginesByTurns kills keeper, engine and keeper again under a
// container that writes all the time. The second engine meets a process whose
// streams the second keeper has taken over: it must get its own duplicates of
// them, or the third keeper's absence is a broken pipe to the container.
func TestKeepersAndEnginesByTurns(t *testing.T) {
	b := newBox(t)
	b.up()
	b.down()
	base := b.snapshot() // without cells
	b.up()
	b.must("run", "-d", "--name", "box", "--rootfs", b.rootfs(), "sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); done")
	served := func() { // the keeper has it, and the engine has been brought together with it
		t.Helper()
		// An engine that does not know yet that its keeper has gone says so.
		b.soon(func() bool { return b.try("run", "--rm", "--rootfs", b.rootfs(), "true") == nil })
		before := b.must("logs", "--tail", "1", "box")
		b.soon(func() bool { return b.must("logs", "--tail", "1", "box") != before })
	}
	for range 2 {
		b.killKeeper()
		served()
		b.kill()
		b.up()
		served()
	}
	b.killKeeper()
	served()
	if got := b.state("box"); got != "running" {
		t.Errorf("the container is %q\n%s", got, b.story())
	}
	log, err := os.ReadFile(b.path("tared.log"))
	if err != nil || strings.Contains(string(log), "adopt container") {
		t.Errorf("a container was not adopted: %v\n%s", err, b.story())
	}
	b.must("kill", "box")
	last := -1
	for _, line := range strings.Split(b.must("logs", "--tail", "100000", "box"), "\n") {
		n, err := strconv.Atoi(line)
		if err != nil {
			t.Fatalf("%q", line)
		}
		if last >= 0 && n != last+1 {
			t.Logf("%d lines lost with a keeper", n-last-1) // one read's worth, by design
		}
		last = n
	}
	b.must("rm", "box")
	b.down()
	b.settled(base)
}
