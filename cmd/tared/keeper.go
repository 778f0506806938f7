package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/tare-engine/tare/internal/container"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/keeper"
)

// keeperWay is how the engine comes to its keeper, at its start and after each
// loss.
type keeperWay struct {
	execRoot, engineID string
	containers, spool  string // directories that the keeper gets descriptors of
	renewal            *keeper.Renewal
}

var _ container.DialKeeper = keeperWay{}.dial

// dial connects with the keeper of the exec root. One that runs another program
// than the one beside tared is upgraded in place first; if there is no keeper,
// one is started.
func (w keeperWay) dial(ctx context.Context, ev keeper.Events) (*keeper.Conn, error) {
	if err := os.MkdirAll(w.spool, 0700); err != nil {
		return nil, err
	}
	containers, err := os.Open(w.containers)
	if err != nil {
		return nil, err
	}
	defer containers.Close()
	spool, err := os.Open(w.spool)
	if err != nil {
		return nil, err
	}
	defer spool.Close()
	w.renew(ctx)
	hello := keeper.Hello{EngineID: w.engineID, Containers: containers, Spool: spool}
	conn, err := keeper.Dial(ctx, keeper.SocketPath(w.execRoot), hello, ev)
	if errors.Is(err, keeper.ErrLost) && keeper.Answers(w.execRoot) { // an upgrade that another engine had asked for
		conn, err = keeper.Dial(ctx, keeper.SocketPath(w.execRoot), hello, ev)
	}
	if err == nil {
		return conn, nil
	}
	if id, asked := keeper.Ask(ctx, w.execRoot); asked == nil {
		return nil, fmt.Errorf("the keeper in %s (pid %d, %s, protocol %d): %w", w.execRoot, id.Pid, id.Release, id.Version, err)
	}
	if w.renewal.Program == "" {
		return nil, fmt.Errorf("no keeper answers in %s, and there is no program tare-keeper beside tared to start one: %w", w.execRoot, err)
	}
	if err := keeper.Spawn(ctx, w.renewal.Program, w.execRoot); err != nil {
		return nil, err
	}
	return keeper.Dial(ctx, keeper.SocketPath(w.execRoot), hello, ev)
}

// renew upgrades the keeper if it runs another program than ours. Whatever
// comes of it, the engine goes on: with the old program if need be.
func (w keeperWay) renew(ctx context.Context) {
	failpoint.Hit("upgrade/begin")
	done, err := w.renewal.Renew(ctx, w.execRoot, w.engineID)
	switch {
	case err != nil:
		slog.Warn("the keeper is not upgraded", "err", err)
	case done != nil:
		slog.Info("the keeper is upgraded", "pid", done.Pid, "from", done.From, "to", done.To)
	}
	failpoint.Hit("upgrade/end")
}
