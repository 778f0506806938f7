package container

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
)

// Run attaches a client to a new container, starts it, and returns; the client
// is told how it ended. It is a run in one request (api.RunPath): the keeper
// sends the output and the exit code, so neither needs the engine to live on;
// the connection ends when the engine has taken note of the exit, and removed
// the container if it removes itself.
func (s *Service) Run(ctx context.Context, id string, warnings []string, o api.AttachOptions, hijack Hijack, explain func(error) error) error {
	c := s.index.Get(id)
	if c == nil {
		return errdefs.New(errdefs.NotFound, "No such container: %s", id)
	}
	keys, err := detachKeys(o.DetachKeys, c.View().Config.Tty)
	if err != nil {
		return err
	}
	conn, buffered, err := hijack(false)
	if err != nil {
		return err
	}
	if err := api.WriteRunStatus(conn, api.RunStatus{ID: id, Warnings: warnings}); err != nil {
		conn.Close()
		return s.removals.dropRun(ctx, c)
	}
	failpoint.Hit("run/client-told")
	end, err := newKeeperEnd(conn, buffered, o, keys, nil)
	if err != nil {
		conn.Close()
		return err
	}
	end.client.Status = true
	s.events.publish(c.View(), events.ActionAttach)
	own, err := duplicate(end.client.Conn)
	if err != nil {
		closeEnds([]keeperEnd{end})
		return err
	}
	c.mu.Lock()
	c.waiting = append(c.waiting, end)
	c.running = append(c.running, own)
	c.mu.Unlock()
	if err := s.Start(ctx, id); err != nil {
		if s.index.Get(id) != nil { // a start that did not begin leaves it
			err = errors.Join(err, s.removals.dropRun(ctx, c))
		}
		c.endRuns(func(run net.Conn) error { return api.WriteRunStatus(run, failedRun(id, c, explain(err))) })
	}
	return nil
}

// dropRun removes the container of a run that has not come to its start.
func (r *removals) dropRun(ctx context.Context, c *Container) error {
	if c.View().AutoRemove() {
		return r.remove(context.WithoutCancel(ctx), c, true)
	}
	return nil
}

// dropCutOff removes what an engine that was killed has left of a run before its
// start, or between the two halves of a restart: nobody starts that container any
// more.
func (r *removals) dropCutOff(c *Container) {
	c.mu.Lock()
	v, ending := c.View(), c.settled != nil
	c.mu.Unlock()
	if cut := v.Status == Created && v.Run || v.Status == Exited && !ending; !cut || !v.AutoRemove() {
		return
	}
	r.work.later("remove what was to be run", c.View(), func(ctx context.Context) error { return r.dropRun(ctx, c) })
}

// failedRun is the status of a run that did not start.
func failedRun(id string, c *Container, cause error) api.RunStatus {
	code := c.View().Last.ExitCode
	return api.RunStatus{ID: id, Error: cause.Error(), ExitCode: &code}
}

// duplicate returns a second end of a client's connection, for the engine.
func duplicate(f *os.File) (net.Conn, error) {
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("duplicate a client's connection: %w", err)
	}
	return conn, nil
}

// endRuns ends the engine's part of the connections of runs.
func (c *Container) endRuns(last func(net.Conn) error) {
	c.mu.Lock()
	runs := c.running
	c.running = nil
	c.mu.Unlock()
	for _, r := range runs {
		if last != nil {
			last(r) // a client that has left hears nothing
		}
		r.Close()
	}
}
