package container

import (
	"context"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/keeper"
)

// A keeper serves nobody before it is brought together with what we believe,
// and its exits are told when it serves.
func TestKeeperServesWhenAllIsReunited(t *testing.T) {
	r := newReunited(t)
	c := r.container(ident.New())
	p := newChild(t, c.ID)
	r.believe(c, live{Pid: p.Pid, StartTicks: p.StartTicks})
	k := newFakeKeeper()
	k.adopt = func() {
		if _, err := r.link.now(); !errdefs.Is(err, errdefs.Unavailable) {
			t.Error("the keeper is served before its processes are known", err)
		}
	}
	r.meet(k)
	if conn, err := r.link.now(); conn != k || err != nil {
		t.Error(conn, err)
	}
}

// A keeper that is lost is replaced however often that fails; what ran runs on.
func TestLostKeeperIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReunited(t)
		c := r.container(ident.New())
		p := newChild(t, c.ID)
		r.believe(c, live{Pid: p.Pid, StartTicks: p.StartTicks})
		first := newFakeKeeper(p.Process)
		r.meet(first)
		deaf := newFakeKeeper()
		deaf.hang() // it cannot even be asked for its list
		next := first.next()
		r.finds(nil, deaf, nil, next)
		first.kill()
		if _, err := r.link.now(); !errdefs.Is(err, errdefs.Unavailable) {
			t.Error("the lost keeper is asked", err)
		}
		if conn, err := r.link.wait(); conn != next || err != nil {
			t.Fatal(conn, err)
		}
		if has, _ := next.process(c.ID); has.Orphan || c.View().Status != Running {
			t.Errorf("%+v, %s", has, c.View().Status)
		}
		if got := deaf.asked(); got != nil {
			t.Error(got)
		}
	})
}

// A keeper may be lost while it is being brought together with what we believe:
// that one is replaced, too.
func TestKeeperLostDuringReunionIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReunited(t)
		c := r.container(ident.New())
		p := newChild(t, c.ID)
		r.believe(c, live{Pid: p.Pid, StartTicks: p.StartTicks})
		first, second, third := newFakeKeeper(p.Process), newFakeKeeper(), newFakeKeeper()
		r.meet(first)
		r.finds(second, third)
		second.adopt = second.kill
		first.kill()
		time.Sleep(keeperPatience)
		if conn, err := r.link.wait(); conn != third || err != nil {
			t.Fatal("the engine has a keeper that is lost", err)
		}
		if _, ok := third.process(c.ID); !ok || c.View().Status != Running {
			t.Error("the third keeper has not got the process", c.View().Status)
		}
	})
}

// At the boot nobody tries again later.
func TestKeeperLostDuringBootIsReplaced(t *testing.T) {
	r := newReunited(t)
	c := r.container(ident.New())
	p := newChild(t, c.ID)
	r.believe(c, live{Pid: p.Pid, StartTicks: p.StartTicks})
	first, second := newFakeKeeper(), newFakeKeeper()
	r.finds(first, second)
	first.adopt = first.kill
	if err := r.link.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	if conn, err := r.link.now(); conn != second || err != nil {
		t.Error(conn, err)
	}
	r.finds(nil)
	if err := r.link.begin(t.Context()); err == nil {
		t.Error("booted without a keeper")
	}
}

// A request waits for a keeper that is being replaced, but not for ever.
func TestRequestsWaitForAKeeperWithPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReunited(t)
		begin := time.Now()
		if _, err := r.link.wait(); !errdefs.Is(err, errdefs.Unavailable) || time.Since(begin) < keeperPatience {
			t.Error(err, time.Since(begin))
		}
	})
}

func TestAcknowledgeOverALostKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReunited(t)
		id := ident.New()
		first := newFakeKeeper()
		r.meet(first)
		r.finds(nil)
		next := first.next()
		next.end(id, status3)
		first.kill()
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.link.acknowledge(id)
		}()
		time.Sleep(3 * keeperPatience) // longer than a request would wait
		select {
		case <-done:
			t.Fatal("the exit is not acknowledged, and nobody waits for the keeper")
		default:
		}
		r.finds(next)
		<-done
		synctest.Wait()
		if next.unacknowledged(id) {
			t.Error("the new keeper was not told")
		}
	})
}

// A keeper that is lost with the acknowledgement tells the exit to the engine
// again, when another is there.
func TestLostAcknowledgementIsMadeUpFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReunited(t)
		c := r.container(ident.New())
		p := newChild(t, c.ID)
		r.believe(c, live{Pid: p.Pid, StartTicks: p.StartTicks})
		first := newFakeKeeper(p.Process)
		r.meet(first)
		first.hang()
		p.end()
		first.end(c.ID, status3)
		r.work.wait()
		if !first.unacknowledged(c.ID) || c.View().Last.ExitCode != 3 {
			t.Fatal("exit code", c.View().Last.ExitCode)
		}
		next := first.next()
		r.finds(next)
		first.kill()
		if _, err := r.link.wait(); err != nil {
			t.Fatal(err)
		}
		r.work.wait()
		if next.unacknowledged(c.ID) || c.View().Last.ExitCode != 3 {
			t.Error("the exit stays at the keeper; exit code", c.View().Last.ExitCode)
		}
	})
}

// An engine that closes does not wait for a keeper to tell it of exits: the next
// engine is told them.
func TestAcknowledgeEndsWithTheEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReunited(t)
		begin := time.Now()
		time.AfterFunc(time.Second, r.work.close)
		r.link.acknowledge(ident.New())
		if d := time.Since(begin); d > 2*keeperPatience {
			t.Error(d)
		}
	})
}

// An engine that closes while its keeper is being replaced waits for that, for
// it may find strays, and then for their ends: nobody else would acknowledge
// them. Then the keeper has nothing to do and is asked to end.
func TestCloseWaitsForAKeeperThatIsBeingReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReunited(t)
		stray := newChild(t, ident.New())
		first := newFakeKeeper()
		r.meet(first)
		second := newFakeKeeper(stray.orphan())
		program := newChild(t, "")
		second.pid = program.Pid
		answers := make(chan struct{})
		r.finds(second)
		r.link.dial = func(ctx context.Context, ev keeper.Events) (keeperConn, error) {
			<-answers
			return r.dial(ctx, ev)
		}
		first.kill()
		over := make(chan struct{})
		go func() {
			defer close(over)
			r.Close()
		}()
		synctest.Wait()
		close(answers)
		synctest.Wait()
		select {
		case <-over:
			t.Fatal("closed before the end of the stray was told")
		default:
		}
		if !stray.killed() {
			t.Error("the stray is left alone")
		}
		second.end(stray.ID, syscall.WaitStatus(syscall.SIGKILL))
		<-over
		if second.unacknowledged(stray.ID) {
			t.Error("the end of the stray is left to the next engine")
		}
		if by := program.endedBy(); by != syscall.SIGTERM {
			t.Error("the keeper was not asked to end:", by)
		}
	})
}

// Close leaves a keeper that has something to do alone, and begins no
// replacement of one that is lost meanwhile.
func TestCloseLeavesABusyKeeperAlone(t *testing.T) {
	for _, lost := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newReunited(t)
			c := r.container(ident.New())
			p, program := newChild(t, c.ID), newChild(t, "")
			r.believe(c, live{Pid: p.Pid, StartTicks: p.StartTicks})
			k := newFakeKeeper(p.Process)
			k.pid = program.Pid
			r.meet(k)
			if lost {
				r.finds(newFakeKeeper())
				r.strays.killed("x") // keeps Close for a second
				time.AfterFunc(time.Second, func() { k.kill(); r.strays.gone("x") })
			}
			r.Close()
			if by := program.endedBy(); by != 0 {
				t.Error("a keeper with a container was ended:", by)
			}
			if by := p.endedBy(); by != 0 {
				t.Error("a container was ended:", by)
			}
			if got := k.asked(); got != nil {
				t.Error(got)
			}
			if next := r.keepers[0]; lost && next.ev != nil {
				t.Error("an engine that closes has taken another keeper")
			}
		})
	}
}
