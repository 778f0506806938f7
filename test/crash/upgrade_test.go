//go:build root && failpoint

package crash

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestKilledInAnUpgrade has another version's engine find a keeper with a
// container that writes all the time, and kills whoever comes to each point of
// the upgrade. That engine, or its next start, mends what is left.
func TestKilledInAnUpgrade(t *testing.T) {
	b := newBox(t)
	b.up()
	b.down()
	base := b.snapshot() // without cells
	points := b.upgradeUndisturbed()
	const atLeast = 10
	if len(points) < atLeast {
		t.Errorf("an upgrade passes %v, want %d points at least", points, atLeast)
	}
	b.settled(base)
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			b.t = t
			defer func() { b.t = t }()
			b.beforeUpgrade()
			b.arm(point)
			b.begin()
			for end := time.Now().Add(20 * time.Second); !b.struck() && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			}
			if !b.disarm() {
				t.Fatal("the point was not reached")
			}
			if !b.survived() {
				b.up()
			}
			b.afterUpgrade(strings.HasPrefix(point, "keeper/"))
			b.settled(base)
		})
	}
	b.t = t
}

// upgradeUndisturbed does it once, and returns the points that it passes.
func (b *box) upgradeUndisturbed() []string {
	b.beforeUpgrade()
	pid := b.keeper()
	os.Truncate(b.path("failpoints.log"), 0)
	b.up()
	points := map[string]bool{}
	for name := range strings.Lines(string(b.quiet("failpoints.log"))) {
		if name = strings.TrimSpace(name); strings.HasPrefix(name, "upgrade/") || strings.HasPrefix(name, "keeper/upgrade-") {
			points[name] = true
		}
	}
	if now := b.keeper(); now != pid {
		b.t.Errorf("the keeper was %d and is %d\n%s", pid, now, b.story())
	}
	b.afterUpgrade(false)
	return slices.Sorted(maps.Keys(points))
}

// beforeUpgrade is a container of an engine that has been killed. What starts
// next is the other version.
func (b *box) beforeUpgrade() {
	b.t.Helper()
	b.bin = bin
	b.up()
	os.Remove(filepath.Join(b.rootfs(), "end")) // of the one before
	b.must("run", "-d", "--name", "box", "--rootfs", b.rootfs(), "sh", "-c", `i=0; while [ ! -e /end ]; do echo $i; i=$((i+1)); done; echo "end $i"; exit 9`)
	b.kill()
	b.bin = other
}

// afterUpgrade checks that the keeper is the other version's and that the
// container has gone on to its end.
func (b *box) afterUpgrade(keeperDied bool) {
	b.t.Helper()
	exe, err := os.ReadFile(fmt.Sprintf("/proc/%d/exe", b.keeper()))
	want, _ := os.ReadFile(filepath.Join(other, "tare-keeper"))
	if err != nil || !bytes.Equal(exe, want) {
		b.t.Errorf("the keeper is not the other version's: %v\n%s", err, b.story())
	}
	if got := b.state("box"); got != "running" {
		b.t.Errorf("the container is %q\n%s", got, b.story())
	}
	b.must("run", "--rm", "--rootfs", b.rootfs(), "true")
	b.tare("exec", "box", "sh", "-c", ": >/end") // it may be killed with the container that has seen it
	b.soon(func() bool { return b.state("box") == "exited" })
	code := b.must("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "box")
	if code != "exited 9" && !(keeperDied && code == "exited 255") { // nobody who could know the status was its parent
		b.t.Errorf("the container is %q\n%s", code, b.story())
	}
	lines := strings.Split(b.must("logs", "--tail", "100000", "box"), "\n")
	last := -1
	for _, l := range lines[:len(lines)-1] {
		n, err := strconv.Atoi(l)
		if err != nil {
			b.t.Fatalf("%q", l)
		}
		if last >= 0 && n != last+1 {
			if !keeperDied {
				b.t.Errorf("%d follows %d", n, last)
			}
			b.t.Logf("%d lines lost with a keeper", n-last-1) // one read's worth, by design
		}
		last = n
	}
	if got, want := lines[len(lines)-1], fmt.Sprint("end ", last+1); got != want {
		b.t.Errorf("the last line is %q, not %q", got, want)
	}
	b.must("rm", "box")
	b.down()
}

// keeper is the pid of the box's keeper.
func (b *box) keeper() int {
	b.t.Helper()
	for _, p := range b.ours() {
		if p.name == "tare-keeper" && p.ppidName != "tare-keeper" {
			return p.pid
		}
	}
	b.t.Fatalf("there is no keeper\n%s", b.story())
	return 0
}
