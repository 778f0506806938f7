package volume

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
)

// Clone makes a volume that is a copy of another, with its files, labels and options.
// Where the file system can, data is shared. One that a running container has is
// Conflict, and so is a name that is taken.
func (s *Service) Clone(ctx context.Context, from, to string) (*View, error) {
	if err := CheckName(to); err != nil {
		return nil, err
	}
	e, err := s.add(to)
	if err != nil {
		return nil, err
	}
	defer e.mu.Unlock()
	if err := s.cloneInto(ctx, e, from); err != nil {
		s.forget(e)
		return nil, fmt.Errorf("clone %s: %w", from, err)
	}
	s.tell(events.ActionCreate, e.view.Load())
	return e.view.Load(), nil
}

// cloneInto makes the volume of a new entry. Preconditions: e.mu is held.
func (s *Service) cloneInto(ctx context.Context, e *entry, from string) error {
	src, err := s.holdMade(from)
	if err != nil {
		return err
	}
	defer src.mu.Unlock()
	v := src.view.Load()
	content, err := s.contentOf(src)
	if err != nil {
		return err
	}
	rec := v.Record
	rec.Name, rec.Created, rec.Labels = e.name, time.Now().UTC().Truncate(time.Second), maps.Clone(rec.Labels)
	delete(rec.Labels, AnonymousLabel) // it has a name
	err = s.place(rec, "", func(dir string) error { return s.copyContent(ctx, v, s.dir(from), dir, content) })
	if err != nil {
		return err
	}
	e.publish(&View{Record: rec, Mountpoint: s.files(rec.Name)})
	return nil
}

// contentOf is the name of what has all files of a volume that is idle.
//
// Preconditions: e.mu is held.
func (s *Service) contentOf(e *entry) (string, error) {
	if err := e.idle(); err != nil {
		return "", err
	}
	v := e.view.Load()
	if !s.ours(v.Driver) {
		return "", errdefs.New(errdefs.InvalidArgument, "the files of volume %s are not the engine's: the plugin %s has them", v.Name, v.Driver)
	}
	d, err := s.driver(v.Driver)
	if err != nil {
		return "", err
	}
	if h, ok := d.(Holder); ok {
		if err := s.clear(v); err != nil {
			return "", err
		}
		if name, err := h.Content(s.dir(v.Name), v.Options); name != "" || err != nil {
			return name, err
		}
	}
	return "", errdefs.New(errdefs.InvalidArgument, "the files of volume %s are not the engine's: it has options that say where they are", v.Name)
}

// idle reports who has a volume mounted, as an error.
func (e *entry) idle() error {
	if len(e.mounters) == 0 {
		return nil
	}
	return errdefs.New(errdefs.Conflict, "volume %s is in use by what runs: stop it first - [%s]", e.name, strings.Join(slices.Sorted(maps.Keys(e.mounters)), ", "))
}

// Rename gives a volume another name. One that a container has, running or not, is
// Conflict, as containers know it by its name; so is a name that is taken.
func (s *Service) Rename(from, to string) (*View, error) {
	if err := CheckName(to); err != nil {
		return nil, err
	}
	e, err := s.hold(from)
	if err != nil {
		return nil, err
	}
	defer e.mu.Unlock()
	if err := e.free(); err != nil {
		return nil, fmt.Errorf("rename %s: %w", from, err)
	}
	if v := e.view.Load(); !s.ours(v.Driver) {
		return nil, errdefs.New(errdefs.InvalidArgument, "rename %s: the plugin %s knows the volume by its name", from, v.Driver)
	}
	if err := s.clear(e.view.Load()); err != nil {
		return nil, fmt.Errorf("rename %s: %w", from, err)
	}
	next, err := s.add(to)
	if err != nil {
		return nil, err
	}
	defer next.mu.Unlock()
	if err := s.move(from, to); err != nil {
		s.forget(next)
		return nil, err
	}
	rec := e.view.Load().Record
	rec.Name, rec.Labels = to, maps.Clone(rec.Labels)
	delete(rec.Labels, AnonymousLabel)
	next.tied = e.tied
	next.publish(&View{Record: rec, Mountpoint: s.files(to)})
	s.forget(e)
	s.tell(events.ActionRename, next.view.Load(), "oldName", from)
	if err := s.cfg.Store.Put(filepath.Join(s.dir(to), recordFile), rec); err != nil {
		slog.Warn("write the new name of a volume into its record: the directory's is what counts", "volume", to, "err", err)
	}
	return next.view.Load(), nil
}

// move renames a volume's directory, durably.
func (s *Service) move(from, to string) error {
	if err := os.Rename(s.dir(from), s.dir(to)); err != nil {
		return err
	}
	failpoint.Hit("volume-rename/renamed")
	if err := s.cfg.Store.SyncDirs(s.cfg.Dir); err != nil {
		return errors.Join(err, os.Rename(s.dir(to), s.dir(from)))
	}
	return nil
}
