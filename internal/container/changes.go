package container

import (
	"context"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/layer"
)

// Changes lists in what a container's files differ from its image's, sorted by
// path; the container may be running. One on a directory of the host has no
// layer of its own: errdefs.NotImplemented.
func (s *Service) Changes(ctx context.Context, ref string) ([]layer.Change, error) {
	v, err := s.View(ref)
	if err != nil {
		return nil, err
	}
	if v.Rootfs != "" {
		return nil, errdefs.New(errdefs.NotImplemented, "container %s stands on a directory of the host (rootfs): what it was before is not known", v.ID)
	}
	ns, done, err := s.ids.open(v.IDs)
	if err != nil {
		return nil, err
	}
	defer done()
	return s.layers.Changes(ctx, v.ID, ns)
}
