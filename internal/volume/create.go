package volume

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/undo"
)

// Request is what a volume is made of.
type Request struct {
	Name    string // "": one is made up, and the volume is anonymous
	Driver  string // "": that of the volume of this name, else the first there is
	Options map[string]string
	Labels  map[string]string
	// User is a container that acquires the volume. If the volume has to be made it is
	// tied to it: it goes if the engine is killed before Come and the container is not
	// there afterwards.
	User string
}

// Create makes a volume, or finds the one that has the name already, whatever its
// options are; one of another driver is Conflict. When it returns the volume is on
// disk.
func (s *Service) Create(ctx context.Context, r Request) (_ *View, made bool, err error) {
	defer func() {
		if err != nil && r.Name != "" {
			err = errdefs.New(errdefs.KindOf(err), "create %s: %w", shown(r.Name), err)
		}
	}()
	var p Plugin
	if !s.ours(r.Driver) { // looked up first, as with Docker
		if p, err = s.plugin(ctx, r.Driver); err != nil {
			return nil, false, err
		}
	}
	if r.Name == "" {
		r.Name, r.Labels = ident.New(), withAnonymous(r.Labels)
	} else if err := CheckName(r.Name); err != nil {
		return nil, false, err
	}
	e, made := s.holdOrAdd(r.Name)
	defer e.mu.Unlock()
	if !made {
		have := e.view.Load()
		if r.Driver != "" && r.Driver != have.Driver {
			return nil, false, errdefs.New(errdefs.Conflict, "driver '%s' already has volume '%s': conflict: volume name must be unique", have.Driver, r.Name)
		}
	} else if made, err = s.make(ctx, e, p, r); err != nil {
		s.forget(e)
		return nil, false, err
	}
	if r.User != "" {
		e.users = append(e.users, r.User)
		e.changed()
	}
	return e.view.Load(), made, nil
}

func withAnonymous(labels map[string]string) map[string]string {
	all := map[string]string{AnonymousLabel: ""}
	maps.Copy(all, labels)
	return all
}

// make makes the volume of an entry, with a plugin unless that is nil. made is false if
// the plugin has it already; one that names no driver may be any plugin's.
//
// Preconditions: e.mu is held.
func (s *Service) make(ctx context.Context, e *entry, p Plugin, r Request) (made bool, err error) {
	if r.Driver == "" && p == nil {
		p, _ = s.search(ctx, r.Name)
	}
	if p != nil {
		made, err = s.makeRemote(ctx, e, p, r)
	} else {
		made, err = true, s.makeOurs(ctx, e, r)
	}
	if err == nil && made {
		s.tell(events.ActionCreate, e.view.Load())
	}
	return made, err
}

// makeOurs is make for our own drivers.
//
// Preconditions: e.mu is held.
func (s *Service) makeOurs(ctx context.Context, e *entry, r Request) error {
	d, err := s.driver(r.Driver)
	if err != nil {
		return err
	}
	if err := d.Check(r.Options); err != nil {
		return err
	}
	rec := Record{Version: recordVersion, Name: r.Name, Driver: d.Name(), Created: time.Now().UTC().Truncate(time.Second), Labels: r.Labels, Options: r.Options}
	if err := s.place(rec, r.User, func(dir string) error { return d.Make(ctx, dir, rec.Options) }); err != nil {
		return err
	}
	e.tied = r.User != ""
	e.publish(&View{Record: rec, Mountpoint: s.files(rec.Name)})
	return nil
}

// place puts a new volume on disk, tied to a container if there is one: fill is
// given its directory, in which are the record and the empty directory of its files.
func (s *Service) place(rec Record, user string, fill func(dir string) error) (err error) {
	var u undo.Stack
	defer u.Run(&err)
	dir, err := s.stage()
	if err != nil {
		return err
	}
	u.Add(func() error { return s.deleteTree(dir) })
	failpoint.Hit("volume/directory-made")
	if err := s.makeFiles(rec.Driver, filepath.Join(dir, Files), rec.Options); err != nil {
		return err
	}
	if user != "" {
		if err := writeFor(dir, user); err != nil {
			return err
		}
	}
	if err := fill(dir); err != nil {
		return err
	}
	failpoint.Hit("volume/filled")
	if err := s.cfg.Store.Put(filepath.Join(dir, recordFile), rec); err != nil {
		return err
	}
	if err := os.Rename(dir, s.dir(rec.Name)); err != nil {
		return err
	}
	u.Add(func() error { return s.deleteTree(s.dir(rec.Name)) })
	failpoint.Hit("volume/renamed")
	return s.cfg.Store.SyncDirs(s.cfg.Dir)
}

// stage makes a directory beside the volumes for what is to become one, or a part of
// one; what a kill leaves of it the next Open deletes.
func (s *Service) stage() (string, error) {
	dir := filepath.Join(s.cfg.Dir, newPrefix+ident.Short(ident.New()))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o701) // whatever the umask is
}

// Tie ties a volume to a container that is about to go and to take it along: it goes,
// if not by Remove, at the next Settle.
func (s *Service) Tie(name, user string) error {
	e, err := s.hold(name)
	if err != nil {
		return nil
	}
	defer e.mu.Unlock()
	e.going = true
	if e.tied {
		return nil
	}
	if err := writeFor(s.dir(name), user); err != nil {
		return err
	}
	e.tied = true
	return s.cfg.Store.SyncDirs(s.dir(name))
}

// writeFor writes to disk which container a volume is tied to. Its name alone is not
// enough after a power cut: nobody would know whether the volume is to go.
func writeFor(dir, user string) (err error) {
	f, err := os.OpenFile(filepath.Join(dir, forFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.WriteString(user); err != nil {
		return err
	}
	return f.Sync()
}

// Come unties a volume from the container with which it was made, and which has come
// to be; but not if that is about to go already, and takes it along.
func (s *Service) Come(name string) error { return s.untie(name, false) }

// Keep unties a volume from its container, whatever becomes of that, if it still is
// tied. A volume that has gone meanwhile is no error.
func (s *Service) Keep(name string) error { return s.untie(name, true) }

func (s *Service) untie(name string, going bool) error {
	e, err := s.hold(name)
	if err != nil {
		return nil
	}
	defer e.mu.Unlock()
	if !e.tied || e.going && !going {
		return nil
	}
	if err := os.Remove(filepath.Join(s.dir(name), forFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	failpoint.Hit("volume/untied")
	if err := s.cfg.Store.SyncDirs(s.dir(name)); err != nil {
		return err
	}
	e.tied, e.going = false, false
	return nil
}
