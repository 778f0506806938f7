package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/tare-engine/tare/client"
)

// patience is how long we wait for an engine that is being restarted. Its
// containers go on meanwhile, so giving up early would be wrong.
const patience = 30 * time.Second

// awaitExit returns the exit code of a container. wait is a wait that was
// begun before the start, or nil. When the engine goes away we ask the next
// one: the container did not notice.
func awaitExit(ctx context.Context, cl *client.Client, id string, wait func() (container.WaitResponse, error)) (int, error) {
	give := time.Now().Add(patience)
	for {
		var resp container.WaitResponse
		var err error
		if wait == nil {
			if wait, err = waitAgain(ctx, cl, id); errors.Is(err, errNeverStarted) {
				return 125, fmt.Errorf("container %s was made, but %w", id, err)
			}
		}
		if err == nil {
			resp, err = wait()
		}
		switch {
		case err == nil && resp.Error != nil:
			return 125, errors.New(resp.Error.Message)
		case err == nil:
			return int(resp.StatusCode), nil
		case client.StatusOf(err) != 0:
			return 125, err
		case ctx.Err() != nil, time.Now().After(give):
			return 125, fmt.Errorf("wait for container %s: %w", id, err)
		}
		wait = nil
		time.Sleep(100 * time.Millisecond)
	}
}

var errNeverStarted = errors.New("the engine ended before it started it")

// waitAgain begins to wait for a container of an earlier engine. One that has
// not run is errNeverStarted: a wait for its end would say 0 at once. So the
// engine is asked until it has answered that.
func waitAgain(ctx context.Context, cl *client.Client, id string) (func() (container.WaitResponse, error), error) {
	c, err := cl.ContainerInspect(ctx, id)
	if err != nil {
		return nil, err
	}
	if c.State != nil && c.State.Status == container.StateCreated {
		return nil, errNeverStarted
	}
	return waitStopped(ctx, cl, id)
}

// waitStopped begins to wait until a container does not run. Why a start of it has
// failed, which the engine adds, is nothing to who asks for the exit code.
func waitStopped(ctx context.Context, cl *client.Client, id string) (func() (container.WaitResponse, error), error) {
	wait, err := cl.ContainerWait(ctx, id, container.WaitConditionNotRunning)
	if err != nil {
		return nil, err
	}
	return func() (container.WaitResponse, error) {
		resp, err := wait()
		resp.Error = nil
		return resp, err
	}, nil
}

// exit is how a container ended, or why nobody knows.
type exit struct {
	code int
	err  error
}

// watchExit begins to wait for the end of a container, by a wait that was
// begun before its start. An engine that is killed meanwhile is replaced by
// the next one while the container still runs: once a container started with
// --rm has ended, no engine remembers it.
func watchExit(ctx context.Context, cl *client.Client, id string, wait func() (container.WaitResponse, error)) <-chan exit {
	ended := make(chan exit, 1)
	go func() {
		code, err := awaitExit(ctx, cl, id, wait)
		ended <- exit{code, err}
	}()
	return ended
}

// shortRun is a time within which most containers that are run for their
// output have ended; only those that go on are worth another request.
const shortRun = 500 * time.Millisecond

// watchLongRun is watchExit for a container whose exit code should come with
// its output. It is the second source, for the case that the engine is killed.
func watchLongRun(ctx context.Context, cl *client.Client, id string) <-chan exit {
	ended := make(chan exit, 1)
	go func() {
		time.Sleep(shortRun)
		wait, err := cl.ContainerWait(ctx, id, container.WaitConditionNextExit)
		if client.StatusOf(err) != 0 {
			ended <- exit{125, err}
			return
		}
		code, err := awaitExit(ctx, cl, id, wait)
		ended <- exit{code, err}
	}()
	return ended
}

// exitWith makes an exit code our own.
func exitWith(code int, err error) error {
	switch {
	case err != nil:
		return &exitError{code, err.Error()}
	case code == 0:
		return nil
	}
	return &exitError{code: code}
}
