package container

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/container/index"
	"github.com/tare-engine/tare/internal/ident"
)

func testContainer(t *testing.T, x *index.Index[*Container], id, name string) *Container {
	t.Helper()
	if err := x.Reserve(name, id); err != nil {
		t.Fatal(err)
	}
	c := newContainer(&Record{ID: id, Name: name, Created: time.Now(), Config: &container.Config{}, HostConfig: &container.HostConfig{}}, Created)
	x.Add(c)
	return c
}

func TestPublishRefusesIllegalSteps(t *testing.T) {
	c := testContainer(t, index.New[*Container](), ident.New(), "x")
	defer func() {
		if recover() == nil {
			t.Fatal("created → paused was accepted")
		}
	}()
	c.publish(func(v *View) { v.Status = Paused })
}

func TestPublishKeepsOldViews(t *testing.T) {
	c := testContainer(t, index.New[*Container](), ident.New(), "x")
	old := c.View()
	c.publish(func(v *View) { v.Status = Running; v.Pid = 7 })
	if old.Status != Created || c.View().Status != Running || !c.View().Alive() {
		t.Fatal(old, c.View())
	}
}

func TestWaitConditions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Service{index: index.New[*Container]()}
		c := testContainer(t, s.index, ident.New(), "x")
		got := make(chan Result, 3)
		wait := func(cond container.WaitCondition) {
			w, err := s.Wait("x", cond)
			if err != nil {
				t.Error(err)
				return
			}
			go func() {
				r, _ := w(t.Context())
				got <- r
			}()
		}
		wait("") // does not run: at once
		synctest.Wait()
		if len(got) != 1 {
			t.Fatal("a container that does not run is waited for")
		}
		<-got
		wait(container.WaitConditionNextExit)
		wait(container.WaitConditionRemoved)
		synctest.Wait()
		if len(got) != 0 {
			t.Fatal("ended early")
		}
		c.turns.exited(Result{ExitCode: 3})
		synctest.Wait()
		if r := <-got; r.ExitCode != 3 || len(got) != 0 {
			t.Fatal(r, len(got))
		}
		c.turns.removed(Result{ExitCode: 3})
		if r := <-got; r.ExitCode != 3 {
			t.Fatal(r)
		}
	})
}

// TestWaitOfAContainerThatIsNotStartedAgain: it was up between two runs, and a stop
// ends that.
func TestWaitOfAContainerThatIsNotStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Service{index: index.New[*Container]()}
		c := testContainer(t, s.index, ident.New(), "x")
		c.publish(func(v *View) { v.Status = Running })
		c.publish(func(v *View) {
			v.Status, v.Record = Restarting, withRecord(v.Record, func(r *Record) { r.Last.ExitCode = 3 })
		})
		wait, err := s.Wait("x", "")
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan Result, 1)
		go func() {
			if r, err := wait(t.Context()); err == nil {
				got <- r
			}
		}()
		synctest.Wait()
		if len(got) != 0 || !c.endRestarts() {
			t.Fatal("it was not up")
		}
		synctest.Wait()
		if len(got) != 1 {
			t.Fatal("the wait goes on")
		}
		if r := <-got; r.ExitCode != 3 || r.Error != "" {
			t.Error(r)
		}
	})
}

func TestWaitForTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := newTurn()
		if ended, err := waitFor(t.Context(), turn, time.Second); ended || err != nil {
			t.Fatal(ended, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := waitFor(ctx, turn, -1); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		close(turn.done)
		if ended, err := waitFor(t.Context(), turn, -1); !ended || err != nil {
			t.Fatal(ended, err)
		}
	})
}
