package container

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/internal/container/index"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/network"
	"github.com/tare-engine/tare/internal/undo"
)

// Create makes a container. When it returns, the record and the empty layer
// are on disk; after an error nothing is left.
func (s *Service) Create(ctx context.Context, req Request) (*View, error) {
	return s.creations.create(ctx, req)
}

// creations make containers.
type creations struct {
	index    *index.Index[*Container]
	records  *records
	groups   *groups
	layers   *layer.Service
	ids      *ids
	cells    *cells
	networks *network.Service
	volumes  *volumes
	events   eventLog
	removals *removals // of those that are replaced
	places   places
}

// create is Create.
func (cr *creations) create(ctx context.Context, req Request) (_ *View, err error) {
	var u undo.Stack
	defer u.Run(&err)

	if err := cr.check(req); err != nil {
		return nil, err
	}
	requires, err := cr.required(req)
	if err != nil {
		return nil, err
	}
	size, err := cr.limit(req)
	if err != nil {
		return nil, err
	}
	m, err := cr.ids.take(ctx, req.HostConfig)
	if err != nil {
		return nil, err
	}
	u.Add(func() error { cr.ids.give(m); return nil })
	if n := req.Networking; n != nil && len(n.EndpointsConfig) == 0 {
		req.Networking = nil // its network follows from the mode
	}
	r := newRecord(cr.idOf(&req, m), req)
	r.IDs, r.Requires = m, requires
	cr.nameHost(r)
	if err := cr.reserveName(ctx, r, req.Replace); err != nil {
		return nil, err
	}
	u.Add(func() error { cr.index.Release(r.Name, r.ID); return nil })
	failpoint.Hit("create/name-reserved")
	leave, err := cr.places.take(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()

	dir := cr.records.dir(r.ID)
	if err := os.Mkdir(dir, 0710); err != nil {
		return nil, err
	}
	u.Add(func() error { return os.RemoveAll(dir) })
	failpoint.Hit("create/directory-made")

	if err := cr.prepareLayer(ctx, r, size); err != nil {
		return nil, err
	}
	u.Add(func() error { return cr.layers.Remove(context.WithoutCancel(ctx), r.ID) })
	failpoint.Hit("create/layer-prepared")

	if err := cr.volumes.settle(ctx, r, req, &u); err != nil {
		return nil, err
	}

	if err := os.Mkdir(dir+"/log", 0700); err != nil {
		return nil, err
	}
	if req.Adopted != nil {
		if err := cr.bring(ctx, r, req.Adopted); err != nil {
			return nil, err
		}
	}
	if err := cr.records.putNew(r); err != nil {
		return nil, err
	}
	failpoint.Hit("create/record-written")
	c := newContainer(r, stillStatus(r))
	cr.index.Add(c)
	cr.volumes.created(c)
	cr.events.publish(c.View(), events.ActionCreate)
	return c.View(), nil
}

// check refuses what cannot be had here, before anything is made.
func (cr *creations) check(req Request) error {
	if a := req.Adopted; a != nil {
		if err := cr.checkAdopted(a); err != nil {
			return err
		}
	}
	if err := cr.groups.check(req.HostConfig); err != nil {
		return err
	}
	if err := cr.networks.CheckLimits(spec.OwnOf(req.HostConfig).Network); err != nil {
		return err
	}
	if err := checkDonors(req.HostConfig, cr.index); err != nil {
		return err
	}
	return cr.checkNewLinks(req.HostConfig)
}

func newRecord(id string, req Request) *Record {
	r := &Record{
		Version: recordVersion, ID: id, Name: req.Name, Created: time.Now().UTC(),
		Image: req.Image, Chain: req.Chain, Rootfs: req.Rootfs, Platform: req.Platform, Manifest: req.Manifest,
		Config: req.Config, HostConfig: req.HostConfig, Networking: req.Networking, Run: req.Run, ShallowBinds: req.ShallowBinds,
	}
	if a := req.Adopted; a != nil {
		r.Created, r.Last, r.Stopped = a.Created, a.Last, a.Stopped
	}
	argv := append(append([]string(nil), req.Config.Entrypoint...), req.Config.Cmd...)
	if len(argv) > 0 {
		r.Path, r.Args = argv[0], argv[1:]
	}
	return r
}

// nameHost gives the container its hostname: that of the container whose
// network it joins, because /etc/hosts goes with the network, else its own ID.
// A donor that does not exist yet is an error of the start.
func (cr *creations) nameHost(r *Record) {
	if r.Config.Hostname != "" || r.HostConfig.NetworkMode == "host" || r.HostConfig.UTSMode.IsHost() {
		return
	}
	r.Config.Hostname = ident.Short(r.ID)
	if r.HostConfig.NetworkMode.IsContainer() {
		if donor, err := cr.index.Find(r.HostConfig.NetworkMode.ConnectedContainer()); err == nil {
			c := donor.View().Config
			r.Config.Hostname, r.Config.Domainname = c.Hostname, c.Domainname
		}
	}
}

// reserveName takes the record's name, from its container if replace is set, or
// makes one up.
func (cr *creations) reserveName(ctx context.Context, r *Record, replace bool) error {
	if r.Name != "" {
		err := cr.index.Reserve(r.Name, r.ID)
		if replace && errdefs.Is(err, errdefs.Conflict) {
			return cr.replaceNamed(ctx, r)
		}
		return err
	}
	for try := 0; ; try++ {
		name := index.MadeUpName(try)
		err := cr.index.Reserve(name, r.ID)
		if err == nil {
			r.Name = name
			return nil
		}
		if try > 100 || !errdefs.Is(err, errdefs.Conflict) {
			return err
		}
	}
}

// replacePause is how long a container that replaces another waits for a third
// that has the name meanwhile, and is just being made.
const replacePause = 10 * time.Millisecond

// replaceNamed takes the record's name from whoever has it. Of several that
// replace each other, all are made, and the last one stays.
func (cr *creations) replaceNamed(ctx context.Context, r *Record) error {
	for {
		if err := cr.removeNamed(ctx, r); err != nil {
			return err
		}
		err := cr.index.Reserve(r.Name, r.ID)
		if !errdefs.Is(err, errdefs.Conflict) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(replacePause):
		}
	}
}

// joins refuses a container that is to join a namespace of the one it replaces.
func (cr *creations) joins(r *Record, replaced *Container) error {
	for _, j := range joinsOf(r.HostConfig) {
		if c, err := cr.index.Find(j.ref); err == nil && c == replaced {
			return errdefs.New(errdefs.InvalidArgument, "container %s is to be replaced: its namespaces cannot be joined by the one that replaces it", j.ref)
		}
	}
	return nil
}

// removeNamed removes the container that has exactly the record's name, if
// there is one.
func (cr *creations) removeNamed(ctx context.Context, r *Record) error {
	c, err := cr.index.Find(r.Name)
	if err != nil || c.View().Name != r.Name { // none, or one that is just being made
		return nil
	}
	if err := cr.joins(r, c); err != nil {
		return err
	}
	if d := cr.removals.dependants(c.ID); len(d) > 0 { // they would not find the new one
		return errdefs.New(errdefs.Conflict, "cannot replace container %q: it is required by %s", "/"+r.Name, namesOf(d))
	}
	err = cr.removals.onRequest(ctx, c.ID, Removal{Force: true})
	if errdefs.Is(err, errdefs.NotFound) || err != nil && c.View().Status == Removing {
		return nil // another one does it
	}
	return err
}

// limit is how many bytes the container's layer may take, 0 for as many as there
// are.
func (cr *creations) limit(req Request) (int64, error) {
	if req.Rootfs == "" {
		return cr.layers.Limit(req.HostConfig.StorageOpt)
	}
	if len(req.HostConfig.StorageOpt) > 0 {
		return 0, errdefs.New(errdefs.InvalidArgument, "--storage-opt is for a container's own layer, and this container has none: it works in the directory %s", req.Rootfs)
	}
	return 0, nil
}

// prepareLayer makes the read-write layer. A container on a host directory
// has none.
func (cr *creations) prepareLayer(ctx context.Context, r *Record, size int64) error {
	if r.Rootfs != "" {
		return nil
	}
	return cr.layers.Prepare(ctx, r.ID, r.Chain, layer.Options{Volatile: r.HostConfig.AutoRemove, IDs: r.IDs, Size: size})
}

// Rename gives the container another name.
func (s *Service) Rename(ref, name string) (err error) {
	c, err := s.index.Find(ref)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.View()
	old := v.Name
	if old == name {
		return errdefs.New(errdefs.InvalidArgument, "Renaming a container with the same name as its current name")
	}
	if v.Status == Removing || v.Status == Dead {
		return errdefs.New(errdefs.NotFound, "No such container: %s", ref)
	}
	var u undo.Stack
	defer u.Run(&err)
	if err := s.index.Reserve(name, c.ID); err != nil {
		return err
	}
	u.Add(func() error { s.index.Release(name, c.ID); return nil })
	r := withRecord(v.Record, func(r *Record) { r.Name = name })
	if err := s.records.put(r); err != nil {
		return errors.Join(err, s.records.put(v.Record))
	}
	s.networks.Rename(c.ID, name)
	v = c.publish(func(v *View) {
		v.Record = r
		if v.Network != nil && len(v.Network.Records) > 0 { // it is known there by its name
			v.Network = v.Network.with(r, s.networks.Endpoints(c.ID))
		}
	})
	s.index.Release(old, c.ID)
	if c.process != nil && c.process.live.Network != v.Network {
		c.process.live.Network = v.Network
		if err := s.records.putLive(c.ID, c.process.live); err != nil {
			slog.Warn("record the new name of a running container", "container", c.ID, "err", err)
		}
	}
	s.events.publish(v, events.ActionRename, "oldName", "/"+old)
	return nil
}
