package container

import (
	"context"
	"slices"
	"strings"

	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
)

// A container may require others (--requires): they are started before it, and
// it is not started without them. Whom it requires is settled when it is made,
// by ID: those were there before it, so no circle is possible.
//
//	create   names become IDs
//	start    those that do not run are started first, and theirs before them
//	boot     a container waits for those that the policies start (restarts.go)
//	remove   one that is required stays, unless it is forced or goes with its dependants

// required finds the containers that a request requires. They may not include
// the one whose name it takes over.
//
// A name that is unknown is InvalidArgument: clients take NotFound for an image
// that they have to pull.
func (cr *creations) required(req Request) ([]string, error) {
	var ids []string
	for _, ref := range spec.OwnOf(req.HostConfig).Requires {
		c, err := cr.index.Find(ref)
		if err != nil {
			return nil, errdefs.New(errdefs.InvalidArgument, "invalid tare.requires: %w", err)
		}
		if req.Replace && c.View().Name == req.Name {
			return nil, errdefs.New(errdefs.InvalidArgument, "container %s is to be replaced: it cannot be required by the one that replaces it", ref)
		}
		if !slices.Contains(ids, c.ID) {
			ids = append(ids, c.ID)
		}
	}
	return ids, nil
}

// require starts what a container requires. The error says whose start
// stands in the way.
//
// Preconditions: no lock of a container is held.
func (s *starts) require(ctx context.Context, v *View) error {
	for _, id := range v.Requires {
		c := s.index.Get(id)
		if c == nil {
			return errdefs.New(errdefs.Conflict, "container %s requires container %s, which has been removed", v.Name, id)
		}
		r := c.View()
		if r.Status == Running {
			continue
		}
		err := s.onRequest(ctx, id)
		if errdefs.Is(err, errdefs.NotModified) { // it runs by now, or waits for its next start
			err = nil
		}
		if r = c.View(); err == nil && r.Status == Restarting {
			err = errRestarting(r)
		}
		if err != nil {
			return errdefs.New(errdefs.KindOf(err), "container %s requires container %s, which cannot be started: %w", v.Name, r.Name, err)
		}
		if r.Status != Running {
			return errdefs.New(errdefs.Conflict, "container %s requires container %s, which has ended at once, with exit code %d", v.Name, r.Name, r.Last.ExitCode)
		}
	}
	return nil
}

// dependants are the containers that require this one, the newest first, but for
// those that are just being removed.
func (r *removals) dependants(id string) []*Container {
	depends := func(c *Container) bool {
		v := c.View()
		return v.Status != Removing && slices.Contains(v.Requires, id)
	}
	if !r.index.Has(depends) { // the usual case needs no order
		return nil
	}
	return slices.DeleteFunc(r.index.List(), func(c *Container) bool { return !depends(c) })
}

// errRequired refuses to take away a container that others require.
func errRequired(v *View, dependants []*Container) error {
	return errdefs.New(errdefs.Conflict, "cannot remove container %q: it is required by %s: remove those first or force remove", "/"+v.Name, namesOf(dependants))
}

func namesOf(list []*Container) string {
	names := make([]string, len(list))
	for i, c := range list {
		names[i] = c.View().Name
	}
	return strings.Join(names, ", ")
}

// removeDependants removes what requires a container, and what requires that.
// Each goes by the rules of a removal: one that runs wants force.
func (r *removals) removeDependants(ctx context.Context, id string, o Removal) error {
	for _, d := range r.dependants(id) {
		if err := r.removeDependants(ctx, d.ID, o); err != nil {
			return err
		}
		if err := r.onRequest(ctx, d.ID, o); err != nil && !errdefs.Is(err, errdefs.NotFound) {
			return err
		}
	}
	return nil
}
