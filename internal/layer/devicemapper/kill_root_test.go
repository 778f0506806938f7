//go:build root

package devicemapper

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/layer"
)

// TestKilledEngines kills an engine at random moments of a workload: then the pool and
// the records agree, what containers have on disk is whole, and all goes on. The
// number of kills is TARE_THIN_KILLS.
func TestKilledEngines(t *testing.T) {
	need(t)
	kills := 3
	if testing.Short() {
		kills = 1
	}
	if n, err := strconv.Atoi(os.Getenv("TARE_THIN_KILLS")); err == nil {
		kills = n
	}
	root, bad := t.TempDir(), 0
	for i := range kills {
		if !t.Run(fmt.Sprint(i), func(t *testing.T) { killOne(t, root) }) {
			bad++
		}
	}
	fmt.Printf("SOAK | kills of an engine with storage driver devicemapper | %d | %d | |\n", kills, bad)
}

func killOne(t *testing.T, root string) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestWorkload$", "-test.count=1")
	cmd.Env = append(os.Environ(), workloadRoot+"="+root)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // it is at work
		t.Error(err)
	}
	time.Sleep(time.Duration(rand.IntN(3000)) * time.Millisecond)
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	said, _ := io.ReadAll(out)
	err = cmd.Wait()
	if x, ok := errors.AsType[*exec.ExitError](err); !ok || x.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the workload ended by itself: %v: %s", err, said)
	}

	s, d := service(t, root)
	defer s.Close()
	settled(t, root, d)
	agreeing(t, d)
	placed, err := places(root)
	if err != nil || len(placed)+1 != len(d.ledger.all()) { // the base is nowhere
		t.Errorf("%d places, %d devices, %v", len(placed), len(d.ledger.all()), err)
	}
	for p := range placed {
		if _, ok := d.ledger.find(p); !ok {
			t.Errorf("no device for %+v", p)
		}
	}
	check(t, d)
	id := fmt.Sprint("after", time.Now().UnixNano())
	if err := s.Prepare(t.Context(), id, image(t, s, 10), layer.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), id); err != nil {
		t.Error(err)
	}
}

// settled waits until nothing is being deleted.
func settled(t *testing.T, root string, d *Driver) {
	t.Helper()
	wait(t, "what was removed to go", func() bool {
		left, err := os.ReadDir(root + "/trash")
		return err == nil && len(left) == 0 && len(d.doomed()) == 0
	})
}
