//go:build root && failpoint

package server

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// TestKeeperKilledAtEachPoint kills the keeper at every failpoint of a life:
// the next keeper knows what was answered, and nothing is left in the end.
func TestKeeperKilledAtEachPoint(t *testing.T) {
	const setChildSubreaper = 36 // PR_SET_CHILD_SUBREAPER: exits are known at once
	syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0)
	defer syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 0, 0)
	for _, point := range []string{
		"start-loaded", "start-opened", "start-cloned", "start-recorded", "start-running", "start-unanswered",
		"exec-second", "parked", "woken",
		"upgrade-asked", "upgrade-quiet", "upgrade-frozen", "upgrade-executed", "upgrade-taking", "upgrade-taken", "upgrade-unanswered",
		"exit-drained", "exit-recorded", "exit-listed", "exit-told", "ack-removed",
	} {
		t.Run(point, func(t *testing.T) {
			t.Setenv("TARE_FAILPOINTS", "keeper/"+point+"=kill")
			r := newEngineRig(t)
			answered := r.live()
			select {
			case <-r.ev.lost:
			default:
				t.Fatal("the point was not reached")
			}
			r.Conn.Close()
			os.Unsetenv("TARE_FAILPOINTS")
			r.spawn()
			r.dial()
			running, exits, err := r.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			known := map[string]bool{}
			for _, p := range running {
				p.Files.Close()
				known[p.ID] = true
			}
			for _, x := range exits {
				known[x.ID] = true
			}
			for id, acked := range answered {
				if !known[id] && !acked {
					t.Errorf("%s is lost", id)
				}
			}
		})
	}
}

// TestUpgradeThatFailsAtEachPoint: up to the exec the old program goes on, and
// behind it the new one gives way to it.
func TestUpgradeThatFailsAtEachPoint(t *testing.T) {
	for point, want := range map[string]string{
		"upgrade-quiet": "failpoint", "upgrade-frozen": "failpoint", "upgrade-taking": "could not take over",
	} {
		t.Run(point, func(t *testing.T) {
			t.Setenv("TARE_FAILPOINTS", "keeper/"+point+"=error")
			b := newBusy(t)
			b.works(t)
			for range 2 {
				pid := b.KeeperPid()
				if err := b.Upgrade(t.Context(), otherProgram(t, "x")); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v\n%s", err, b.log())
				}
				b.works(t)
				if id, err := keeper.Ask(t.Context(), b.root); err != nil || id.Pid != pid {
					t.Errorf("%+v, %v", id, err)
				}
			}
			b.ends(t)
		})
	}
}

// live leads processes through all that can happen, until the keeper answers
// no more. It returns the IDs of those whose start was answered, and whether
// their exit may have been acknowledged.
func (r *engineRig) live() map[string]bool {
	ctx := r.t.Context()
	answered := map[string]bool{}
	s := container("c1", "exec sleep 173.5")
	s.Stdio.Log = nil
	c, err := r.Start(ctx, s)
	if err != nil {
		<-r.ev.lost
		r.ev.lost <- err
		return answered
	}
	c.Files.Close()
	answered["c1"] = false
	fd, err := process.Open(c.Pid)
	if err != nil {
		r.t.Fatal(err)
	}
	defer fd.Close()
	p := spawn.NewPlan()
	enclose(p, "p1")
	p.ParkStep()
	q := spawn.NewPlan()
	q.Exec("/bin/sh", "", []string{"sh", "-c", "exec sleep 173.5"}, []string{"PATH=/bin:/usr/bin"})
	steps := []func() error{
		func() error { _, err := r.Start(ctx, execIn(fd, "x1", "exec sleep 173.5")); return err },
		func() error {
			_, err := r.Park(ctx, keeper.Start{ID: "p1", Flags: namespaces, CgroupFD: -1, Plan: p.Image()})
			return err
		},
		func() error {
			_, err := r.Wake(ctx, keeper.Start{ID: "p1", CgroupFD: -1, Plan: q.Image()})
			return err
		},
		func() error { return r.Upgrade(ctx, os.Args[0]) },
		func() error {
			kill(r.t, c.Pid, syscall.SIGKILL)
			for {
				r.ev.mu.Lock()
				_, ok := r.ev.exits["c1"]
				r.ev.mu.Unlock()
				if ok {
					break
				}
				select {
				case err := <-r.ev.lost:
					r.ev.lost <- err
					return err
				case <-r.ev.change:
				}
			}
			answered["c1"] = true
			return r.Ack(ctx, "c1")
		},
	}
	for _, step := range steps {
		if step() != nil {
			err := <-r.ev.lost
			r.ev.lost <- err
			return answered
		}
	}
	select {
	case err := <-r.ev.lost:
		r.ev.lost <- err
	default:
	}
	return answered
}
