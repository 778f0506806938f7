package engine

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/volume"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	own "github.com/tare-engine/tare/internal/volume"
)

// VolumeList returns the volumes that match.
func (e *Engine) VolumeList(ctx context.Context, f api.Filters) (volume.ListResponse, error) {
	if err := validate(f, api.VolumeFilters); err != nil {
		return volume.ListResponse{}, err
	}
	dangling, err := f.Bool("dangling", false)
	if err != nil {
		return volume.ListResponse{}, errdefs.As(errdefs.InvalidArgument, err)
	}
	var list volume.ListResponse
	all, warnings := e.volumes.ListAll(ctx)
	list.Warnings = warnings
	for _, v := range all {
		if f.Has("dangling") && dangling != (len(v.Users) == 0) {
			continue
		}
		if f.Match("name", v.Name) && f.Exact("driver", v.Driver) && (!f.Has("label") || f.KV("label", v.Labels)) {
			list.Volumes = append(list.Volumes, volumeShape(v))
		}
	}
	return list, nil
}

func volumeShape(v *own.View) volume.Volume {
	shape := volume.Volume{
		Name: v.Name, Driver: v.Driver, Mountpoint: v.Mountpoint, Labels: v.Labels, Options: v.Options, Scope: "local", Status: v.Status,
	}
	if v.Scope != "" {
		shape.Scope = v.Scope
	}
	if !v.Created.IsZero() {
		shape.CreatedAt = v.Created.Format(time.RFC3339)
	}
	return shape
}

// VolumeInspect returns all that is known of a volume.
func (e *Engine) VolumeInspect(ctx context.Context, name string) (volume.Volume, error) {
	v, err := e.volumes.Inspect(ctx, name)
	if err != nil {
		return volume.Volume{}, err
	}
	return volumeShape(v), nil
}

// VolumeCreate makes a volume, or finds that of the name.
func (e *Engine) VolumeCreate(ctx context.Context, r volume.CreateRequest) (volume.Volume, error) {
	if r.ClusterVolumeSpec != nil {
		return volume.Volume{}, errdefs.New(errdefs.Unavailable, `This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`)
	}
	if err := spec.CheckText(&r); err != nil {
		return volume.Volume{}, err
	}
	v, _, err := e.volumes.Create(ctx, own.Request{Name: r.Name, Driver: r.Driver, Options: r.DriverOpts, Labels: r.Labels})
	if err != nil {
		return volume.Volume{}, err
	}
	return volumeShape(v), nil
}

// VolumeRemove takes a volume away that no container has. By force one that is not there
// is no error, and one that its plugin does not remove is forgotten here.
func (e *Engine) VolumeRemove(_ context.Context, name string, force bool) error {
	err := e.cfg.Reserve.Use(func() error { return e.volumes.Remove(name) })
	if !force || err == nil {
		return err
	}
	if _, e2 := e.volumes.Get(name); errdefs.Is(e2, errdefs.NotFound) {
		return nil
	}
	if errdefs.Is(err, errdefs.Conflict) || e.volumes.Forget(name) != nil {
		return err
	}
	slog.Warn("a volume is forgotten that its plugin has not removed", "volume", name, "err", err)
	return nil
}

// VolumesPrune removes volumes that no container has: anonymous ones, or with the
// filter all=true all of them. As with Docker those with options and those of plugins stay.
func (e *Engine) VolumesPrune(ctx context.Context, f api.Filters) (report volume.PruneReport, err error) {
	match, err := pruneFilter(f, api.VolumePruneFilters)
	if err != nil {
		return report, err
	}
	all, err := f.Bool("all", false)
	if err != nil {
		return report, errdefs.As(errdefs.InvalidArgument, err)
	}
	report.VolumesDeleted = []string{}
	for _, v := range e.volumes.List() {
		if !e.volumes.Ours(v) || len(v.Users)+len(v.Options) > 0 || !all && !v.Anonymous() || !match(v.Created, v.Labels) {
			continue
		}
		size, err := e.volumes.SizeNow(ctx, v)
		if err != nil {
			return report, err // the client has left
		}
		err = e.VolumeRemove(ctx, v.Name, false)
		switch {
		case err == nil:
			report.VolumesDeleted = append(report.VolumesDeleted, v.Name)
			report.SpaceReclaimed += uint64(max(size, 0))
		case !errdefs.Is(err, errdefs.Conflict) && !errdefs.Is(err, errdefs.NotFound): // in use by now, or gone
			return report, err
		}
	}
	e.events.Publish(events.VolumeEventType, events.ActionPrune, "", map[string]string{"reclaimed": strconv.FormatUint(report.SpaceReclaimed, 10)})
	return report, nil
}

// volumeUsage counts what volumes take on disk: those whose files lie there, as with
// Docker.
func (e *Engine) volumeUsage(ctx context.Context, counted *age) (*volume.DiskUsage, error) {
	du := &volume.DiskUsage{}
	for _, v := range e.volumes.List() {
		size, at, err := e.volumes.Size(ctx, v)
		if err != nil {
			return nil, err
		}
		counted.add(at)
		if size == own.Unknown && e.volumes.Mounts(v) {
			continue
		}
		item := volumeShape(v)
		item.UsageData = &volume.UsageData{RefCount: int64(len(v.Users)), Size: size}
		du.Items = append(du.Items, item)
		du.TotalCount++
		du.TotalSize += max(size, 0)
		if len(v.Users) > 0 {
			du.ActiveCount++
		} else {
			du.Reclaimable += max(size, 0)
		}
	}
	return du, nil
}
