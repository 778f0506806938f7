package container

import (
	"context"
	"os"
	"strings"
	"sync"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/container/index"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/idrange"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/idmap"
)

// ids says which ids of the host the containers have.
type ids struct {
	index  *index.Index[*Container]
	remap  *idrange.Map
	pool   *idrange.Pool
	layers *layer.Service

	mu   sync.Mutex
	ns   *os.File // user namespace with the maps of remap, made at first use
	able bool     // ids can be mapped here
}

// take returns the map for a new container; nil: it has the ids of the host.
// It refuses what cannot be had beside the map.
func (x *ids) take(ctx context.Context, h *container.HostConfig) (*idrange.Map, error) {
	size, auto := spec.UsernsAuto(h.UsernsMode)
	joins := spec.UsernsContainer(h.UsernsMode) != ""
	if !auto && !joins && (x.remap == nil || h.UsernsMode.IsHost()) {
		return nil, nil
	}
	if err := spec.ValidateMapped(h); err != nil {
		return nil, err
	}
	m, err := joinedIDs(h, x.index, auto || joins)
	switch {
	case err != nil:
		return nil, err
	case m != nil:
		return m, x.share(h.UsernsMode, m)
	case !auto:
		return x.remap, nil
	}
	if m, err = x.pool.Take(size); err != nil {
		return nil, errdefs.As(errdefs.Unavailable, err)
	}
	if err := x.check(ctx, m); err != nil {
		x.give(m)
		return nil, errdefs.New(errdefs.InvalidArgument, "user namespace mode %s: %w", h.UsernsMode, err)
	}
	return m, nil
}

// share notes that a container has the ids of one that it joins.
func (x *ids) share(mode container.UsernsMode, m *idrange.Map) error {
	if size, _ := spec.UsernsAuto(mode); strings.Contains(string(mode), ":size=") && size != m.UIDs[0].Size {
		return errdefs.New(errdefs.InvalidArgument, "invalid user namespace mode: %s: the container that is joined has %d ids", mode, m.UIDs[0].Size)
	}
	if !x.pool.Share(m) {
		return errdefs.New(errdefs.Conflict, "the container that is joined is being removed")
	}
	return nil
}

// check finds out, once, whether ids can be mapped here.
func (x *ids) check(ctx context.Context, m *idrange.Map) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.able {
		return nil
	}
	ns, err := openMap(m)
	if err != nil {
		return err
	}
	defer ns.Close()
	err = x.layers.MapsIDs(ctx, ns)
	x.able = err == nil
	return err
}

// keep notes the ids of a container of an earlier engine.
func (x *ids) keep(m *idrange.Map) { x.pool.Keep(m) }

// give takes back what take returned.
func (x *ids) give(m *idrange.Map) { x.pool.Give(m) }

// open returns a user namespace with the maps of m, nil for nil; done gives it
// back. Mounts made with it keep it.
func (x *ids) open(m *idrange.Map) (ns *os.File, done func(), err error) {
	if m == nil {
		return nil, func() {}, nil
	}
	if m != x.remap {
		ns, err := openMap(m)
		return ns, func() { ns.Close() }, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ns == nil {
		if x.ns, err = openMap(m); err != nil {
			return nil, nil, err
		}
	}
	return x.ns, func() {}, nil
}

func (x *ids) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ns != nil {
		x.ns.Close()
	}
}

func openMap(m *idrange.Map) (*os.File, error) { return idmap.Open(rangesOf(m.UIDs), rangesOf(m.GIDs)) }

func rangesOf(list []specs.LinuxIDMapping) []idmap.Range {
	out := make([]idmap.Range, len(list))
	for i, r := range list {
		out[i] = idmap.Range{Inside: int(r.ContainerID), Outside: int(r.HostID), Size: int(r.Size)}
	}
	return out
}
