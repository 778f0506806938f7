//go:build root

package server

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/keeper"
)

// TestKeeperKilledAnywhere kills the keeper while it starts processes. Each
// start that was answered must be known to the next keeper, and no process may
// go on that it does not know.
func TestKeeperKilledAnywhere(t *testing.T) {
	const setChildSubreaper = 36 // PR_SET_CHILD_SUBREAPER: exits are known at once
	syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0)
	defer syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 0, 0)
	r := newEngineRig(t)
	for round := range 12 {
		answered := r.startUntilKilled(round)
		r.Conn.Close()
		r.spawn()
		r.dial()
		running, exits, err := r.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		known := map[string]bool{}
		for _, p := range running {
			known[p.ID] = true
			p.Files.Close()
			// A start that was under way may end between list and adoption.
			if err := r.Adopt(t.Context(), p, keeper.Stdio{}); err != nil && !errdefs.Is(err, errdefs.NotFound) {
				t.Errorf("adopt %s: %v", p.ID, err)
			}
			kill(t, p.Pid, syscall.SIGKILL)
			exits = append(exits, r.exit(p.ID))
		}
		for _, x := range exits {
			known[x.ID] = true
			if err := r.Ack(t.Context(), x.ID); err != nil {
				t.Error(err)
			}
		}
		for _, id := range answered {
			if !known[id] {
				t.Errorf("round %d: %s is lost\n%s", round, id, r.log())
			}
		}
		if left, _ := os.ReadDir(r.root + "/exits"); len(left) > 0 {
			t.Errorf("exits left: %v", left)
		}
		files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, f := range files {
			if b, _ := os.ReadFile(f); string(b) == "sleep\x00173.25\x00" {
				t.Errorf("round %d: %s goes on unknown", round, f)
			}
		}
	}
}

// startUntilKilled starts processes until the keeper, killed at a random
// moment, answers no more. It returns the IDs of those that were answered.
func (r *engineRig) startUntilKilled(round int) (answered []string) {
	delay := time.Duration(rand.IntN(60_000)) * time.Microsecond
	pid := r.KeeperPid()
	go func() {
		time.Sleep(delay) // the moment of the kill
		syscall.Kill(pid, syscall.SIGKILL)
	}()
	for i := 0; ; i++ {
		s := container(fmt.Sprintf("k%d-%d", round, i), "exec sleep 173.25")
		s.Stdio.Log = nil
		p, err := r.Start(r.t.Context(), s)
		if err != nil {
			<-r.ev.lost
			return answered
		}
		p.Files.Close()
		answered = append(answered, s.ID)
	}
}
