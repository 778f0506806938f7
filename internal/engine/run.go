package engine

import (
	"context"

	"github.com/tare-engine/tare/api"
	own "github.com/tare-engine/tare/internal/container"
	"github.com/tare-engine/tare/internal/errdefs"
)

// ContainerRun makes a container, attaches the client, starts it and tells the
// client how it ended: what Docker's clients do in four requests. A container
// with a terminal needs the four: its output has no frames. explain says more of
// what went wrong.
func (e *Engine) ContainerRun(ctx context.Context, req api.RunRequest, hijack own.Hijack, explain func(error) error) error {
	if req.Create.Config != nil && req.Create.Tty {
		return errdefs.New(errdefs.InvalidArgument, "a run in one request cannot have a terminal: create, attach and start the container")
	}
	res, err := e.create(ctx, req.CreateOptions, req.Create, true)
	if err != nil {
		return err
	}
	return e.containers.Run(ctx, res.ID, res.Warnings, req.Attach, hijack, explain)
}
