//go:build root && failpoint

// Package crash kills the engine and the keeper at every named point of every
// operation and looks at what is left: what was acknowledged is there, and
// nothing else is.
package crash

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tare-engine/tare/test/fixture"
)

// operation is one thing a client asks for. prepare makes what it needs; do
// returns nil if the engine acknowledged it; verify then checks that it holds.
type operation struct {
	name    string
	prepare func(*box)
	do      func(*box) error
	verify  func(b *box, acknowledged bool)
}

var operations = []operation{
	{"create", nil,
		func(b *box) error { return b.try("create", "--name", "c", "--rootfs", b.rootfs(), "sleep", "1000") },
		func(b *box, ack bool) { b.present("c", ack) }},
	{"create from image", loadHello,
		func(b *box) error { return b.try("create", "--name", "c", "tare/hello") },
		func(b *box, ack bool) { b.present("c", ack) }},
	{"start", func(b *box) { b.must("create", "--name", "c", "--rootfs", b.rootfs(), "sleep", "1000") },
		func(b *box) error { return b.try("start", "c") },
		func(b *box, ack bool) {
			if state := b.state("c"); ack && state != "running" {
				b.t.Errorf("a start was acknowledged, and the container is %q", state)
			}
			b.present("c", true)
		}},
	{"run", loadHello,
		func(b *box) error { return b.try("run", "--name", "c", "tare/hello") },
		func(b *box, ack bool) {
			if state := b.state("c"); ack && state != "exited" {
				b.t.Errorf("a run was acknowledged, and the container is %q", state)
			}
		}},
	{"run --rm", nil,
		func(b *box) error { return b.try("run", "--rm", "--name", "c", "--rootfs", b.rootfs(), "true") },
		func(b *box, ack bool) {
			if ack {
				b.absent("c")
			}
		}},
	{"stop", startSleeper,
		func(b *box) error { return b.try("stop", "-t", "0", "c") },
		func(b *box, ack bool) {
			b.present("c", true)
			if state := b.state("c"); ack && state != "exited" {
				b.t.Errorf("a stop was acknowledged, and the container is %q", state)
			}
		}},
	{"kill", startSleeper,
		func(b *box) error { return b.try("kill", "c") },
		func(b *box, ack bool) {
			if state := b.state("c"); ack && state != "exited" {
				b.t.Errorf("a kill was acknowledged, and the container is %q", state)
			}
		}},
	{"rm", func(b *box) { b.must("create", "--name", "c", "--rootfs", b.rootfs(), "true") },
		func(b *box) error { return b.try("rm", "c") },
		func(b *box, ack bool) {
			if ack {
				b.absent("c")
			}
		}},
	{"rm -f", startSleeper,
		func(b *box) error { return b.try("rm", "-f", "c") },
		func(b *box, ack bool) {
			if ack {
				b.absent("c")
			}
		}},
	{"exec", startSleeper,
		func(b *box) error { return b.try("exec", "c", "true") },
		func(b *box, _ bool) {
			if state := b.state("c"); state != "running" {
				b.t.Errorf("the container of an exec is %q", state)
			}
		}},
	{"attach", startSleeper,
		func(b *box) error {
			cmd := exec.Command("timeout", "1", filepath.Join(bin, "tare"), "-H", "unix://"+b.socket(), "attach", "--no-stdin", "c")
			cmd.Run() // ends by the time, or with the engine
			return nil
		},
		func(b *box, _ bool) {
			if state := b.state("c"); state != "running" {
				b.t.Errorf("the container of an attach is %q", state)
			}
		}},
	{"load", nil,
		func(b *box) error { return b.try("load", "-i", b.archive()) },
		func(b *box, ack bool) {
			out, err := b.tare("run", "--rm", fixture.Image, "/bin/busybox", "echo", "sound")
			if ack && (err != nil || out != "sound") {
				b.t.Errorf("a load was acknowledged, and the image is not sound: %q, %v", out, err)
			}
			if _, absent := b.tare("image", "inspect", fixture.Image); absent == nil && err != nil {
				b.t.Errorf("half an image is there: %v", err)
			}
		}},
	{"rename", func(b *box) { b.must("create", "--name", "old", "--rootfs", b.rootfs(), "true") },
		func(b *box) error { return b.try("rename", "old", "c") },
		func(b *box, ack bool) {
			if ack {
				b.present("c", true)
				b.absent("old")
			}
		}},
}

func loadHello(b *box) { b.must("load", "-i", b.archive()); b.must("tag", fixture.Image, "tare/hello") }

func startSleeper(b *box) {
	b.must("run", "-d", "--name", "c", "--rootfs", b.rootfs(), "sleep", "1000")
}

// TestKillAtEachPoint kills at each point that an operation passes, then looks.
func TestKillAtEachPoint(t *testing.T) {
	seen := map[string]bool{}
	for _, op := range operations {
		t.Run(op.name, func(t *testing.T) {
			for _, point := range pointsOf(t, op) {
				seen[point] = true
				t.Run(point, func(t *testing.T) { killAt(t, op, point) })
			}
		})
	}
	const atLeast = 60
	if len(seen) < atLeast {
		t.Errorf("the operations pass %d points, want at least %d: %v", len(seen), atLeast, slices.Sorted(maps.Keys(seen)))
	}
	t.Logf("%d points", len(seen))
}

// pointsOf runs the operation undisturbed and returns the points it passes.
func pointsOf(t *testing.T, op operation) []string {
	b := newBox(t)
	b.up("")
	if op.prepare != nil {
		op.prepare(b)
	}
	os.Remove(b.path("failpoints.log"))
	b.kill() // the log is opened at start
	b.up("")
	if err := op.do(b); err != nil {
		t.Fatalf("undisturbed: %v\n%s", err, b.tail())
	}
	time.Sleep(100 * time.Millisecond) // what goes on after the answer
	log, err := os.ReadFile(b.path("failpoints.log"))
	if err != nil {
		t.Fatal(err)
	}
	points := map[string]bool{}
	for name := range strings.Lines(string(log)) {
		points[strings.TrimSpace(name)] = true
	}
	return slices.Sorted(maps.Keys(points))
}

func killAt(t *testing.T, op operation, point string) {
	b := newBox(t)
	b.up("")
	if op.prepare != nil {
		op.prepare(b)
	}
	b.kill()
	if strings.HasPrefix(point, "keeper/") {
		b.killKeeper() // the new one has the failpoint
	}
	b.up(point + "=kill")
	acknowledged := false
	if !b.dead() {
		acknowledged = op.do(b) == nil
		time.Sleep(50 * time.Millisecond)
	}
	if !b.dead() {
		b.kill()
	}
	if strings.HasPrefix(point, "keeper/") {
		b.killKeeper()
	}
	b.up("")
	if b.dead() {
		t.Fatalf("the engine does not start after the kill:\n%s", b.tail())
	}
	op.verify(b, acknowledged)
	b.settled(b.ids()...)
	if ids := b.ids(); len(ids) > 0 {
		b.must(append([]string{"rm", "-f"}, ids...)...)
	}
	b.settled()
}

func (b *box) try(args ...string) error {
	_, err := b.tare(args...)
	return err
}

func (b *box) ids() []string { return strings.Fields(b.must("ps", "-aq", "--no-trunc")) }

func (b *box) state(name string) string {
	out, _ := b.tare("inspect", "--format", "{{.State.Status}}", name)
	return out
}

func (b *box) present(name string, want bool) {
	b.t.Helper()
	if want && b.state(name) == "" {
		b.t.Errorf("container %q was acknowledged and is not there", name)
	}
}

func (b *box) absent(name string) {
	b.t.Helper()
	if s := b.state(name); s != "" {
		b.t.Errorf("the removal of container %q was acknowledged, and it is there (%s)", name, s)
	}
}

func (b *box) killKeeper() {
	if pid := b.keeperPid(); pid != 0 {
		if p, err := os.FindProcess(pid); err == nil {
			p.Kill()
		}
	}
}
