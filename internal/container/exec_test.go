package container

import (
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/event"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/keeper"
)

func TestExitOfAnExecMayBeToldTwice(t *testing.T) {
	s := New(Config{}, nil, nil, nil, event.NewLog(), nil, nil)
	c := testContainer(t, s.index, ident.New(), "x")
	x := &Exec{ID: ident.New(), Container: c.ID, Request: container.ExecCreateRequest{}, started: true, running: true, done: newTurn()}
	s.execs.add(x)
	for range 2 {
		if !s.execs.ended(keeper.Exit{ID: x.ID, At: time.Now(), Status: 3 << 8}) {
			t.Fatal("not an exec")
		}
	}
	v, err := s.Execs().Inspect(x.ID)
	if err != nil || v.Running || *v.ExitCode != 3 {
		t.Fatal(v, err)
	}
}

// An exec whose start takes long (a paused container's does until it goes on)
// must hold up no other container's requests.
func TestExecTableDoesNotWaitForAStart(t *testing.T) {
	table := newExecTable()
	slow := &Exec{ID: "slow", Container: "c", done: newTurn()}
	table.add(slow)
	slow.mu.Lock() // as StartExec does
	defer slow.mu.Unlock()
	listed := make(chan []string)
	go func() { listed <- table.of("c") }()
	select {
	case ids := <-listed:
		if len(ids) != 1 || ids[0] != "slow" {
			t.Error(ids)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("listing execs waits for one that starts")
	}
}
