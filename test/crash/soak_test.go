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

	"github.com/tare-engine/tare/internal/registry/registrytest"
)

// A round of the soak: clients work, a process is killed or the power is cut at a
// random moment, and what must hold then is looked at.
type soakKind struct {
	name   string
	env    string // says how many rounds
	rounds int    // unless it does
	engine bool   // is killed
	keeper bool   // is killed

	upgrade bool // the engine that comes next is another version's
	power   bool // is cut, see power_test.go
	work    func(w *workload, client string, n int)
}

func (k soakKind) String() string {
	if k.power {
		return "power cut at a random moment, or right after an answer"
	}
	return fmt.Sprintf("kill -9 of %s at a random moment", k.name)
}

var soakKinds = []soakKind{
	{name: "tared", env: "TARE_SOAK_ENGINE", rounds: 200, engine: true, work: (*workload).containers},
	{name: "keeper", env: "TARE_SOAK_KEEPER", rounds: 50, keeper: true, work: (*workload).containers},
	{name: "both", env: "TARE_SOAK_BOTH", rounds: 50, engine: true, keeper: true, work: (*workload).containers},
	{name: "a keeper that is upgraded", env: "TARE_SOAK_UPGRADE", rounds: 50, engine: true, keeper: true, upgrade: true, work: (*workload).containers},
	{name: "tared in pulls", env: "TARE_SOAK_PULL", rounds: 50, engine: true, work: (*workload).pulls},
	{name: "tared in changes of networks", env: "TARE_SOAK_CONNECT", rounds: 50, engine: true, work: (*workload).connects},
	{name: "power", env: "TARE_SOAK_POWER", rounds: 50, power: true, work: (*workload).everything},
}

// soakImages is how many images the registry has.
const soakImages = 8

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
	if k.power {
		b.onDisk()
	}
	b.up()
	b.undisturbed(operation{
		prepare: func(b *box) { loadHello(b); startSleeper(b) },
		do:      func(b *box) error { return b.try("run", "--rm", "tare/hello", "/bin/busybox", "true") },
	})
	base := b.snapshot()
	registry := b.newRegistry()
	for i := range soakImages {
		registry.Put("app", strconv.Itoa(i), registrytest.Image{Layers: 3, Size: 1 << 20, Seed: uint64(i)})
	}
	done, bad := 0, 0
	var slowest time.Duration
	for done < rounds && soakTime() {
		ok := t.Run(strconv.Itoa(done), func(t *testing.T) {
			b.t = t
			slowest = max(slowest, b.soakRound(k, registry.Host+"/app"))
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
	return fmt.Sprintf("| %s | %d | %d | %s |", k, done, bad, slowest.Round(time.Millisecond))
}

func soakTime() bool {
	until, err := strconv.ParseInt(os.Getenv("TARE_SOAK_UNTIL"), 10, 64)
	return err != nil || time.Now().Unix() < until
}

// soakRound lets clients work, kills, and checks. It returns how long the
// engine took until it answered again.
func (b *box) soakRound(k soakKind, repository string) time.Duration {
	b.rebooted = false
	b.up()
	loadHello(b)
	startSleeper(b)
	w := newWorkload(b, repository)
	var clients sync.WaitGroup
	for i := range 2 {
		clients.Go(func() { w.run(strconv.Itoa(i), k.work) })
	}
	time.Sleep(time.Duration(rand.IntN(1500)) * time.Millisecond) // the moment
	if k.power {
		w.cut()
	}
	if k.keeper && k.engine {
		b.engine.Process.Kill()
	}
	if k.keeper && !k.upgrade {
		b.killKeeper()
	}
	if k.engine {
		b.kill()
	}
	w.end()
	began := time.Now()
	switch {
	case k.power:
		b.boot()
	case k.upgrade:
		b.killUpgraded()
	case k.engine:
		b.up()
	default:
		b.must("ps")
	}
	took := time.Since(began)
	clients.Wait()
	w.check()
	w.checkNetworks()
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
