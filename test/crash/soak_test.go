//go:build root && failpoint && soak

package crash

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tare-engine/tare/test/fixture"
)

// A round of the soak: clients work, a process is killed at a random moment,
// and what must hold then is looked at.
type soakKind struct {
	name   string
	env    string // says how many rounds
	rounds int    // unless it does
	engine bool   // is killed
	keeper bool   // is killed

	upgrade bool // the engine that comes next is another version's
}

var soakKinds = []soakKind{
	{name: "tared", env: "TARE_SOAK_ENGINE", rounds: 200, engine: true},
	{name: "keeper", env: "TARE_SOAK_KEEPER", rounds: 50, keeper: true},
	{name: "both", env: "TARE_SOAK_BOTH", rounds: 50, engine: true, keeper: true},
	{name: "a keeper that is upgraded", env: "TARE_SOAK_UPGRADE", rounds: 50, engine: true, keeper: true, upgrade: true},
}

// TestSoak kills at random moments and prints a line of docs/soak.md for each
// kind of kill. TARE_SOAK_UNTIL (seconds since 1970) ends it early; the line
// says how many rounds there were.
func TestSoak(t *testing.T) {
	var mu sync.Mutex
	var lines []string
	t.Run("kinds", func(t *testing.T) {
		for _, k := range soakKinds {
			t.Run(k.name, func(t *testing.T) {
				t.Parallel()
				line := soak(t, k)
				mu.Lock()
				defer mu.Unlock()
				lines = append(lines, line)
			})
		}
	})
	for _, l := range lines {
		fmt.Println("SOAK " + l)
	}
}

func soak(t *testing.T, k soakKind) string {
	rounds := k.rounds
	if n, err := strconv.Atoi(os.Getenv(k.env)); err == nil {
		rounds = n
	}
	b := newBox(t)
	b.up()
	b.undisturbed(operation{
		prepare: func(b *box) { loadHello(b); startSleeper(b) },
		do:      func(b *box) error { return b.try("run", "--rm", "tare/hello", "/bin/busybox", "true") },
	})
	base := b.snapshot()
	done, bad := 0, 0
	var slowest time.Duration
	for done < rounds && soakTime() {
		ok := t.Run(strconv.Itoa(done), func(t *testing.T) {
			b.t = t
			slowest = max(slowest, b.soakRound(k))
			b.settled(base)
			if t.Failed() {
				t.Log(b.story())
			}
		})
		b.t = t
		done++
		if !ok {
			bad++
		}
	}
	return fmt.Sprintf("| kill -9 of %s at a random moment | %d | %d | %s |", k.name, done, bad, slowest.Round(time.Millisecond))
}

func soakTime() bool {
	until, err := strconv.ParseInt(os.Getenv("TARE_SOAK_UNTIL"), 10, 64)
	return err != nil || time.Now().Unix() < until
}

// soakRound lets clients work, kills, and checks. It returns how long the
// engine took until it answered again.
func (b *box) soakRound(k soakKind) time.Duration {
	b.up()
	startSleeper(b)
	w := &workload{b: b, kept: map[string]bool{"box": true}}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i := range 2 {
		clients.Go(func() { w.work(strconv.Itoa(i), stop) })
	}
	time.Sleep(time.Duration(rand.IntN(1500)) * time.Millisecond) // the moment of the kill
	if k.keeper && k.engine {
		b.engine.Process.Kill()
	}
	if k.keeper && !k.upgrade {
		b.killKeeper()
	}
	if k.engine {
		b.kill()
	}
	close(stop)
	began := time.Now()
	if k.upgrade {
		b.killUpgraded()
	} else if k.engine {
		b.up()
	} else {
		b.must("ps")
	}
	took := time.Since(began)
	clients.Wait()
	for name, running := range w.kept {
		switch state := b.state(name); {
		case state == "":
			b.t.Errorf("container %q was acknowledged and is not there", name)
		case running && state != "running":
			b.t.Errorf("container %q ran and is %q", name, state)
		}
	}
	for _, name := range w.gone {
		// A run's exit code comes from the keeper: the next engine removes beside its answers.
		b.soon(func() bool { return b.state(name) == "" })
		b.absent(name)
	}
	if w.loaded {
		if out, err := b.tare("run", "--rm", fixture.Image, "/bin/busybox", "echo", "sound"); err != nil || out != "sound" {
			b.t.Errorf("a load was acknowledged, and the image is not sound: %q, %v", out, err)
		}
	}
	b.clear()
	return took
}

// killUpgraded starts the engine of another version than the last one's and
// kills the keeper while it is being upgraded, shortly before or behind it.
func (b *box) killUpgraded() {
	if b.bin == bin {
		b.bin = other
	} else {
		b.bin = bin
	}
	b.begin()
	time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond) // the moment of the kill
	b.killKeeper()
	if !b.survived() {
		b.up()
	}
}

// workload is what clients asked for and the engine acknowledged.
type workload struct {
	b      *box
	mu     sync.Mutex
	kept   map[string]bool // containers that must be there; whether they run
	gone   []string
	loaded bool
}

// work does random things until stop, or until the engine is away.
func (w *workload) work(client string, stop <-chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		name := fmt.Sprintf("w%s-%d", client, n)
		switch rand.IntN(5) {
		case 0:
			if w.b.try("run", "--rm", "--name", name, "--rootfs", w.b.path("rootfs"), "true") == nil {
				w.note(func() { w.gone = append(w.gone, name) })
			}
		case 1:
			w.lifetime(name)
		case 2:
			w.b.try("exec", "box", "true")
		case 3:
			if w.b.try("load", "-i", w.b.archive()) == nil {
				w.note(func() { w.loaded = true })
			}
		case 4:
			if w.b.try("create", "--name", name, "--rootfs", w.b.path("rootfs"), "true") == nil {
				w.note(func() { w.kept[name] = false })
			}
		}
	}
}

// lifetime is run -d, stop and rm: each answer changes what must hold.
func (w *workload) lifetime(name string) {
	if w.b.try("run", "-d", "--name", name, "--rootfs", w.b.path("rootfs"), "sleep", "1000") != nil {
		return
	}
	w.note(func() { w.kept[name] = true })
	w.note(func() { w.kept[name] = false }) // from now on it may have stopped
	if w.b.try("stop", "-t", "0", name) != nil {
		return
	}
	w.note(func() { delete(w.kept, name) }) // from now on it may be gone
	if w.b.try("rm", name) == nil {
		w.note(func() { w.gone = append(w.gone, name) })
	}
}

func (w *workload) note(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}
