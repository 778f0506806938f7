package container

import (
	"context"
	"fmt"

	"github.com/tare-engine/tare/internal/container/index"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/layer"
)

// Branches change what the roots of running containers consist of.
type Branches struct {
	index  *index.Index[*Container]
	layers *layer.Service
	ids    *ids
}

// Of calls do with the root of a running container, with the container's lock
// held: it ends no run and starts none meanwhile.
func (b *Branches) Of(ctx context.Context, ref string, do func(*layer.Live) error) error {
	c, err := b.index.Find(ref)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.View()
	if v.Rootfs != "" {
		return errdefs.New(errdefs.NotImplemented, "container %s stands on a directory of the host (rootfs): it has no layers", v.ID)
	}
	if !c.runs() {
		return errNotRunning(v)
	}
	ns, done, err := b.ids.open(v.IDs)
	if err != nil {
		return err
	}
	defer done()
	l, err := b.layers.Live(ctx, v.ID, fmt.Sprintf("/proc/%d/root", v.Pid), ns)
	if err != nil {
		return err
	}
	return do(l)
}
