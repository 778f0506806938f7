package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/dataroot"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/volume"
)

// ImportEngine takes over what a stopped Docker has in its data root: images, volumes,
// networks and containers, in this order. What is there already stays as it is, so
// that it may be asked for again; what cannot come is named, and the rest comes all the
// same. Nothing in the data root is changed.
func (e *Engine) ImportEngine(ctx context.Context, r api.ImportEngineRequest, out func(jsonstream.Message)) (err error) {
	root, err := dataroot.OpenDocker(r.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if err := root.Idle(); err != nil {
		return err
	}
	m := &moveIn{e: e, root: root, dry: r.DryRun, out: out}
	if len(root.Graphs())+len(root.Stores()) > 0 {
		err := e.ImageImportEngine(ctx, api.ImageImportEngineRequest{Dir: r.Dir, DryRun: r.DryRun}, out)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			m.refused++
			m.say("images: %s", err)
		}
	}
	for _, step := range []func(context.Context) error{m.volumes, m.networks, m.containers} {
		if err := errors.Join(step(ctx), ctx.Err()); err != nil {
			return err
		}
	}
	if m.refused > 0 {
		return errdefs.New(errdefs.InvalidArgument, "not all could be imported: %d failed, see above", m.refused)
	}
	return nil
}

// moveIn is such a move under way.
type moveIn struct {
	e       *Engine
	root    *dataroot.Root
	dry     bool
	out     func(jsonstream.Message)
	refused int
}

func (m *moveIn) say(format string, args ...any) {
	m.out(jsonstream.Message{Stream: fmt.Sprintf(format, args...) + "\n"})
}

// errThere says that an object is there already.
var errThere = errors.New("it is there already")

// one takes one object over and says what came of it.
func (m *moveIn) one(kind, name string, do func() error) (again error) {
	err := do()
	switch {
	case errors.Is(err, errThere):
		m.say("%s is there already: %s", strings.ToUpper(kind[:1])+kind[1:], name)
	case err != nil:
		return err
	case m.dry:
		m.say("Would import %s: %s", kind, name)
	default:
		m.say("Imported %s: %s", kind, name)
	}
	return nil
}

// refuse names what cannot come.
func (m *moveIn) refuse(kind, name string, err error) {
	m.refused++
	m.say("%s %s: not imported: %s", kind, name, err)
}

func (m *moveIn) volumes(ctx context.Context) error {
	list, err := m.root.Volumes()
	if err != nil {
		return err
	}
	for _, v := range list {
		if err := m.one("volume", v.Name, func() error { return m.volume(ctx, v) }); err != nil {
			m.refuse("volume", v.Name, err)
		}
	}
	return nil
}

func (m *moveIn) volume(ctx context.Context, v dataroot.Volume) error {
	if _, err := m.e.volumes.Get(v.Name); err == nil {
		return errThere
	}
	if v.Driver != "local" {
		return errdefs.New(errdefs.NotImplemented, "its files are with the plugin %q: make it here by tare volume create --driver %[1]s", v.Driver)
	}
	r := volume.Request{Name: v.Name, Driver: v.Driver, Options: v.Options, Labels: v.Labels}
	if _, known := v.Labels[volume.AnonymousLabel]; !known && ident.Valid(v.Name) { // before 23.0 Docker did not say so
		r.Labels = map[string]string{volume.AnonymousLabel: ""}
	}
	if len(v.Options) > 0 {
		if m.dry {
			return nil
		}
		_, err := m.e.volumes.Bring(ctx, r, nil)
		return err
	}
	files, err := m.root.VolumeFiles(v.Name)
	if err != nil || m.dry {
		return errors.Join(err, closeIf(files))
	}
	defer files.Close()
	_, err = m.e.volumes.Bring(ctx, r, files)
	return err
}

func (m *moveIn) networks(ctx context.Context) error {
	list, err := m.root.Networks()
	if err != nil {
		return err
	}
	for pass := range 2 { // those that have their configuration from others are second
		for _, n := range list {
			if (n.Request.ConfigFrom != nil) != (pass == 1) {
				continue
			}
			if err := m.one("network", n.Request.Name, func() error { return m.network(n.Request) }); err != nil {
				m.refuse("network", n.Request.Name, err)
			}
		}
	}
	return nil
}

func (m *moveIn) network(r network.CreateRequest) error {
	if _, err := m.e.networks.Inspect(r.Name); err == nil {
		return errThere
	}
	if m.dry {
		return nil
	}
	id, err := m.e.networks.Create(r)
	if err != nil {
		return err
	}
	m.e.networkEvent(events.ActionCreate, id, r.Name, r.Driver)
	return nil
}
