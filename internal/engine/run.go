package engine

import (
	"context"

	"github.com/tare-engine/tare/api"
	own "github.com/tare-engine/tare/internal/container"
	"github.com/tare-engine/tare/internal/errdefs"
)

// ContainerRun makes a container, attaches the client, starts it and tells the
// client how it ended: what Docker's clients do in four requests.
func (e *Engine) ContainerRun(ctx context.Context, req api.RunRequest, hijack own.Hijack) error {
	return errdefs.New(errdefs.NotFound, "page not found")
}
