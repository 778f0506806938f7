package container

import (
	"reflect"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
)

// Update changes limits of a container, at once if it runs. Fields that are
// zero stay as they are.
func (s *Service) Update(ref string, u container.UpdateConfig) ([]string, error) {
	c, err := s.index.Find(ref)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.View()
	if v.Status == Removing || v.Status == Dead {
		return nil, errdefs.New(errdefs.Conflict, "cannot update container %s: container is marked for removal and cannot be \"update\"", ref)
	}
	host := *v.HostConfig
	overlayResources(&host.Resources, &u.Resources)
	if u.RestartPolicy.Name != "" {
		if host.AutoRemove && !u.RestartPolicy.IsNone() {
			return nil, errdefs.New(errdefs.InvalidArgument, "Restart policy cannot be updated because AutoRemove is enabled for the container")
		}
		host.RestartPolicy = u.RestartPolicy
	}
	warnings, err := spec.ValidateUpdate(&host)
	if err != nil {
		return nil, err
	}
	if c.process != nil {
		r, err := spec.Resources(&host.Resources)
		if err != nil {
			return nil, err
		}
		r.Devices = nil // they do not change
		if err := c.process.cgroup.Update(r); err != nil {
			return nil, errdefs.New(errdefs.Internal, "cannot update container %s: %w", v.ID, err)
		}
	}
	r := withRecord(v.Record, func(r *Record) { r.HostConfig = &host })
	if err := s.records.put(r); err != nil {
		return nil, err
	}
	s.events.publish(c.publish(func(v *View) { v.Record = r }), events.ActionUpdate)
	return warnings, nil
}

// overlayResources sets in to what is not zero in from.
func overlayResources(to, from *container.Resources) {
	dst, src := reflect.ValueOf(to).Elem(), reflect.ValueOf(from).Elem()
	for i := range src.NumField() {
		if !src.Field(i).IsZero() {
			dst.Field(i).Set(src.Field(i))
		}
	}
}
