package container

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"github.com/tare-engine/tare/internal/container/index"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/inroot"
	"github.com/tare-engine/tare/internal/undo"
	"github.com/tare-engine/tare/internal/volume"
)

// volumes are what a container has of volumes, from its creation to its removal:
//
//	settle   create: those that it asks for are made, all are acquired, new ones filled
//	created  its record is there: what was made with it stays without it
//	mount    start: their files appear; parts of them, and images, apart (parts.go)
//	unmount  its run is over
//	goes     a removal begins; which volumes will go with it is durable
//	gone     its record is gone: they are released, anonymous ones removed
//	adopt    boot: what it has is told again
//
// A container without volumes costs nothing.
type volumes struct {
	index   *index.Index[*Container]
	records *records
	layers  *layer.Service
	service *volume.Service
	work    *work
}

// Mounts lists what the user mounted into a container, as inspect shows it.
func (s *Service) Mounts(v *View) []container.MountPoint {
	rules := s.records.mountRules(v.Record)
	rules.Settled = s.volumes.placed(v.Mounts)
	return spec.Mounts(v.HostConfig, rules)
}

// placed are mounts with the places of their volumes.
func (vs *volumes) placed(mounts []spec.Mount) []spec.Mount {
	var list []spec.Mount
	for _, m := range mounts {
		if m.Type == mount.TypeVolume {
			m.Source = vs.service.Path(m.Name)
		}
		list = append(list, m)
	}
	return list
}

// settle finds out which volumes a new container has, beside the images, and makes
// those that are not there. The steps that take it back go onto u.
func (vs *volumes) settle(ctx context.Context, r *Record, req Request, u *undo.Stack) error {
	images := req.Images
	h := r.HostConfig
	if len(h.Binds)+len(h.Mounts)+len(h.VolumesFrom)+len(r.Config.Volumes) == 0 {
		return nil
	}
	inherited, err := vs.inherited(r)
	if err != nil {
		return err
	}
	wanted, err := spec.WantedVolumes(r.Config, h, inherited)
	if err != nil {
		return err
	}
	for _, m := range inherited {
		if m.Type != mount.TypeVolume {
			continue
		}
		if _, err := vs.service.Acquire(m.Name, r.ID); err != nil {
			return err
		}
		u.Add(func() error { vs.service.Release(m.Name, r.ID); return nil })
	}
	if len(images) > 0 && r.IDs != nil {
		return errdefs.New(errdefs.InvalidArgument, "a container with ids of its own cannot have the files of an image mounted: their owners would be nobody's")
	}
	r.Mounts = append(inherited, images...)
	for _, w := range wanted {
		if req.Adopted != nil && w.Anonymous {
			w.Name = req.Adopted.Volumes[w.Target]
		}
		v, isNew, err := vs.service.Create(ctx, volume.Request{Name: w.Name, Driver: w.Driver, Options: w.Options, Labels: w.Labels, User: r.ID})
		if err != nil {
			return asRequest(err)
		}
		u.Add(func() error { return vs.takeBack(v.Name, r.ID, isNew) })
		failpoint.Hit("create/volume-made")
		r.Mounts = append(r.Mounts, settledMount(w, v))
	}
	return vs.fill(ctx, r)
}

// asRequest says of what is not there that the request is wrong: clients take NotFound
// for an image that they have to pull.
func asRequest(err error) error {
	if errdefs.Is(err, errdefs.NotFound) {
		return errdefs.As(errdefs.InvalidArgument, err)
	}
	return err
}

func settledMount(w spec.WantedVolume, v *volume.View) spec.Mount {
	m := w.Mount
	m.Name, m.Driver = v.Name, v.Driver
	if m.Mode == "" && m.Driver == "local" && !w.Configured { // as Docker shows it
		m.Mode = "z"
	}
	return m
}

// inherited is what a container has of those that --volumes-from names.
func (vs *volumes) inherited(r *Record) ([]spec.Mount, error) {
	donors, err := spec.Donors(r.HostConfig)
	if err != nil {
		return nil, err
	}
	var list []spec.Mount
	for _, d := range donors {
		c, err := vs.index.Find(d.Container)
		if err != nil {
			return nil, asRequest(err)
		}
		donor := c.View()
		more, err := spec.Inherited(d, donor.HostConfig, vs.records.mountRules(donor.Record), r.HostConfig)
		if err != nil {
			return nil, err
		}
		for _, m := range more { // the last one to bring a target has it
			list = slices.DeleteFunc(list, func(have spec.Mount) bool { return have.Target == m.Target })
			list = append(list, m)
		}
	}
	return list, nil
}

// takeBack undoes what a create has done with a volume.
func (vs *volumes) takeBack(name, id string, made bool) error {
	vs.service.Release(name, id)
	if !made {
		return nil
	}
	err := vs.service.Remove(name)
	if errdefs.Is(err, errdefs.Conflict) { // somebody else has it by now
		return vs.service.Keep(name)
	}
	if errdefs.Is(err, errdefs.NotFound) {
		return nil
	}
	return err
}

// fill gives empty volumes what the image has at their targets.
func (vs *volumes) fill(ctx context.Context, r *Record) error {
	root, err := vs.image(ctx, r)
	if err != nil || root == nil {
		return err
	}
	defer root.Close()
	for _, m := range r.Mounts {
		if m.Type != mount.TypeVolume || m.NoCopy || m.Subpath != "" {
			continue
		}
		if err := vs.fillOne(ctx, root, nil, m, r); err != nil {
			return err
		}
	}
	return nil
}

// fillOne fills a volume from the files of the image; into is the directory of a plugin's
// volume that is mounted, else nil.
func (vs *volumes) fillOne(ctx context.Context, root, into *os.File, m spec.Mount, r *Record) error {
	from, err := inroot.Open(root, m.Target, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return vs.service.Own(m.Name, r.IDs)
	case errors.Is(err, syscall.ENOTDIR):
		return errdefs.New(errdefs.InvalidArgument, "cannot mount volume over existing file, file exists %s", m.Target)
	case err != nil:
		return errdefs.New(errdefs.InvalidArgument, "the image's files for volume %s: %w", m.Name, err)
	}
	defer from.Close()
	if into != nil {
		return vs.service.FillPart(ctx, m.Name, into, from, r.IDs)
	}
	return vs.service.Fill(ctx, m.Name, from, r.IDs)
}

// image opens the files of a container's image, or of its host directory; nil: it has
// none.
func (vs *volumes) image(ctx context.Context, r *Record) (*os.File, error) {
	if len(r.Mounts) == 0 {
		return nil, nil
	}
	if r.Rootfs != "" {
		return os.Open(r.Rootfs)
	}
	if r.Chain == "" {
		return nil, nil
	}
	return vs.layers.View(ctx, r.Chain)
}

// created unties volumes from a container that is there by now: but for anonymous ones
// of one that removes itself they stay without it.
func (vs *volumes) created(c *Container) {
	v := c.View()
	if !vs.any(v) {
		return
	}
	vs.work.later("keep volumes", v, func(context.Context) error { return eachKept(v, vs.service.Come) })
}

func (vs *volumes) any(v *View) bool {
	return slices.ContainsFunc(v.Mounts, func(m spec.Mount) bool { return m.Type == mount.TypeVolume })
}

// eachKept calls f for the volumes of a container that stay without it.
func eachKept(v *View, f func(name string) error) (err error) {
	for _, m := range v.Mounts {
		if m.Type == mount.TypeVolume && !(m.Anonymous && v.AutoRemove()) {
			err = errors.Join(err, f(m.Name))
		}
	}
	return err
}

// mount makes the files of a container's volumes appear, and returns its mounts with
// where they are.
//
// Preconditions: the container's lock is held.
func (vs *volumes) mount(ctx context.Context, v *View) ([]spec.Mount, error) {
	var list []spec.Mount
	for i, m := range v.Mounts {
		var err error
		if m.Type == mount.TypeImage {
			if m.Source, err = vs.mountImage(ctx, m, vs.partPath(v.ID, i)); err != nil {
				return nil, err
			}
		}
		if m.Type != mount.TypeVolume {
			list = append(list, m)
			continue
		}
		at, err := vs.service.Mount(ctx, m.Name, volume.Mounting{User: v.ID, Destination: m.Target, ReadOnly: m.ReadOnly, Propagation: string(m.Propagation)})
		if err != nil {
			return nil, err
		}
		m.Source, err = vs.source(ctx, v, m, at, vs.partPath(v.ID, i))
		if err = errors.Join(err, at.Close()); err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	failpoint.Hit("start/volumes-mounted")
	return list, nil
}

// lend has the volumes of a container that does not run appear for a moment, until the
// function that it returns is called: as another user of theirs, so that a start of the
// container meanwhile, and its end, are its own.
func (vs *volumes) lend(ctx context.Context, v *View) (_ []spec.Mount, giveBack func() error, err error) {
	if len(v.Mounts) == 0 {
		return nil, func() error { return nil }, nil
	}
	r, guest := *v.Record, *v
	r.ID = "copy-" + ident.New()
	guest.Record = &r
	giveBack = func() error {
		vs.endParts(&guest)
		return vs.unmount(&guest)
	}
	list, err := vs.mount(ctx, &guest)
	if err != nil {
		return nil, nil, errors.Join(err, giveBack())
	}
	return list, giveBack, nil
}

// fillMounted fills a volume whose files have not been there until now.
func (vs *volumes) fillMounted(ctx context.Context, v *View, m spec.Mount, at *volume.Place) error {
	if m.NoCopy || m.Subpath != "" {
		return nil
	}
	if of, err := vs.service.Get(m.Name); err != nil || !vs.service.Mounts(of) {
		return err
	}
	root, err := vs.image(ctx, v.Record)
	if err != nil || root == nil {
		return err
	}
	defer root.Close()
	if at.Dir == nil {
		return vs.fillOne(ctx, root, nil, m, v.Record)
	}
	into, err := at.Open()
	if err != nil {
		return err
	}
	defer into.Close()
	return vs.fillOne(ctx, root, into, m, v.Record)
}

// unmount says that the container's run is over.
//
// Preconditions: the container's lock is held.
func (vs *volumes) unmount(v *View) error {
	var err error
	for _, m := range v.Mounts {
		if m.Type == mount.TypeVolume {
			err = errors.Join(err, vs.service.Unmount(m.Name, v.ID))
		}
	}
	return err
}

// goes makes durable, before a container's record goes, what becomes of its volumes:
// anonymous ones go with it if that is asked for, else they stay.
func (vs *volumes) goes(v *View, anonymous bool) error {
	if !vs.any(v) {
		return nil
	}
	if !anonymous {
		return eachKept(v, vs.service.Keep)
	}
	for _, m := range v.Mounts {
		if m.Anonymous {
			if err := vs.service.Tie(m.Name, v.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// gone releases the volumes of a container that is no more. One that another has too
// stays.
func (vs *volumes) gone(v *View, anonymous bool) {
	for _, m := range v.Mounts {
		if m.Type == mount.TypeVolume {
			vs.service.Release(m.Name, v.ID)
		}
	}
	for _, m := range v.Mounts {
		if !anonymous || !m.Anonymous {
			continue
		}
		err := vs.service.Remove(m.Name)
		if errdefs.Is(err, errdefs.Conflict) {
			err = vs.service.Keep(m.Name)
		}
		if err != nil && !errdefs.Is(err, errdefs.NotFound) {
			slog.Warn("remove an anonymous volume", "container", v.ID, "volume", m.Name, "err", err)
		}
	}
}

// adopt tells again, at boot, which volumes a container has.
func (vs *volumes) adopt(v *View) {
	var lost []string
	for _, m := range v.Mounts {
		if m.Type != mount.TypeVolume {
			continue
		}
		if _, err := vs.service.Acquire(m.Name, v.ID); err != nil {
			lost = append(lost, m.Name)
			continue
		}
		if v.Alive() {
			vs.service.Adopt(m.Name, v.ID)
		}
	}
	if len(lost) > 0 {
		slog.Error("volumes of a container are gone: it cannot be started", "container", v.ID, "volumes", strings.Join(lost, ", "))
	}
}
