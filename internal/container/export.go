package container

import (
	"context"
	"io"
	"os"

	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/idrange"
)

// Export writes all files of a container, without what is mounted into it, as a
// tar stream. The container may be running.
func (s *Service) Export(ctx context.Context, ref string, out io.Writer) error {
	v, err := s.ownLayer(ref)
	if err != nil {
		return err
	}
	return s.withIDs(v, func(ns *os.File, ids *idrange.Map) error {
		s.events.publish(v, events.ActionExport)
		return s.layers.Export(ctx, v.ID, ns, ids, out)
	})
}

// Diff writes what a container has changed as a layer. Its processes are frozen
// meanwhile if pause is set and they run.
func (s *Service) Diff(ctx context.Context, ref string, pause bool, out io.Writer) (err error) {
	v, err := s.ownLayer(ref)
	if err != nil {
		return err
	}
	if pause && v.Status == Running {
		if err := s.Pause(v.ID); err == nil {
			defer func() {
				if uerr := s.Unpause(v.ID); err == nil && !errdefs.Is(uerr, errdefs.NotFound) && !errdefs.Is(uerr, errdefs.Conflict) {
					err = uerr // gone or thawed is what we want
				}
			}()
		}
	}
	if err := s.layers.Diff(ctx, v.ID, v.IDs, out); err != nil {
		return err
	}
	// Of one that is being removed some files are gone already.
	_, err = s.ownLayer(v.ID)
	return err
}

// Committed tells listeners that an image was made of a container.
func (s *Service) Committed(ref, comment, image, name string) {
	if v, err := s.View(ref); err == nil {
		s.events.publish(v, events.ActionCommit, "comment", comment, "imageID", image, "imageRef", name)
	}
}

// ownLayer finds a container that has a layer of its own, and keeps it.
func (s *Service) ownLayer(ref string) (*View, error) {
	v, err := s.View(ref)
	if err != nil {
		return nil, err
	}
	switch {
	case v.Rootfs != "":
		return nil, errdefs.New(errdefs.NotImplemented, "container %s stands on a directory of the host (rootfs): it has no layer of its own", v.ID)
	case v.Status == Removing:
		return nil, errdefs.New(errdefs.Conflict, "You cannot commit or export container %s which is being removed", v.ID)
	case v.Status == Dead:
		return nil, errdefs.New(errdefs.Conflict, "You cannot commit or export container %s which is Dead", v.ID)
	}
	return v, nil
}

// withIDs calls f with the ids of a container.
func (s *Service) withIDs(v *View, f func(ns *os.File, ids *idrange.Map) error) error {
	ns, done, err := s.ids.open(v.IDs)
	if err != nil {
		return err
	}
	defer done()
	return f(ns, v.IDs)
}
