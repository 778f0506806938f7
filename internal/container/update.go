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
		return nil, cannotUpdate(v.ID, errdefs.New(errdefs.Conflict, `container is marked for removal and cannot be "update"`))
	}
	host := *v.HostConfig
	if err := overlayResources(&host.Resources, &u.Resources); err != nil {
		return nil, cannotUpdate(v.ID, err)
	}
	if u.RestartPolicy.Name != "" {
		if host.AutoRemove && !u.RestartPolicy.IsNone() {
			return nil, errdefs.New(errdefs.Conflict, "Restart policy cannot be updated because AutoRemove is enabled for the container")
		}
		host.RestartPolicy = u.RestartPolicy
	}
	warnings, err := spec.ValidateUpdate(&host, &u.Resources)
	if err != nil {
		return nil, err
	}
	if c.process != nil {
		r, err := spec.Resources(&host.Resources)
		if err != nil {
			return nil, err
		}
		r.Devices = nil // they do not change
		if err := c.process.limit(r); err != nil {
			return nil, cannotUpdate(v.ID, err)
		}
	}
	r := withRecord(v.Record, func(r *Record) { r.HostConfig = &host })
	if err := s.records.put(r); err != nil {
		return nil, err
	}
	s.events.publish(c.publish(func(v *View) { v.Record = r }), events.ActionUpdate)
	if host.Memory != 0 {
		s.work.run(func() { s.ooms.watch(c) })
	}
	return warnings, nil
}

func cannotUpdate(id string, err error) error {
	return errdefs.New(errdefs.KindOf(err), "Cannot update container %s: %w", id, err)
}

// changeable are the limits that an update may change, by Docker's rule; what
// else a request has (devices, ulimits) it does not change.
func changeable(r *container.Resources) []any {
	return []any{
		&r.CPUShares, &r.Memory, &r.NanoCPUs, &r.BlkioWeight, &r.CPUPeriod, &r.CPUQuota, &r.CPURealtimePeriod, &r.CPURealtimeRuntime,
		&r.CpusetCpus, &r.CpusetMems, &r.MemoryReservation, &r.MemorySwap, &r.PidsLimit,
		&r.BlkioWeightDevice, &r.BlkioDeviceReadBps, &r.BlkioDeviceWriteBps, &r.BlkioDeviceReadIOps, &r.BlkioDeviceWriteIOps,
	}
}

// overlayResources sets in to what from asks for. What does not go together
// with what is set already is refused with Docker's texts.
func overlayResources(to, from *container.Resources) error {
	for _, c := range []struct {
		asked, set bool
		what, by   string
	}{
		{from.NanoCPUs > 0, to.CPUPeriod > 0, "Nano CPUs", "CPU Period"},
		{from.NanoCPUs > 0, to.CPUQuota > 0, "Nano CPUs", "CPU Quota"},
		{from.CPUPeriod > 0, to.NanoCPUs > 0, "CPU Period", "NanoCPUs"},
		{from.CPUQuota > 0, to.NanoCPUs > 0, "CPU Quota", "NanoCPUs"},
	} {
		if c.asked && c.set {
			return errdefs.New(errdefs.Conflict, "Conflicting options: %s cannot be updated as %s has already been set", c.what, c.by)
		}
	}
	if from.Memory > to.MemorySwap && to.MemorySwap > 0 && from.MemorySwap == 0 {
		return errdefs.New(errdefs.Conflict, "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
	}
	dst, src := changeable(to), changeable(from)
	for i := range src {
		if v := reflect.ValueOf(src[i]).Elem(); !v.IsZero() {
			reflect.ValueOf(dst[i]).Elem().Set(v)
		}
	}
	return nil
}
