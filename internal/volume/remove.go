package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/mount"
)

// Remove takes a volume away with its files, also one that only a plugin knows. One that
// a container has, running or not, is Conflict.
func (s *Service) Remove(name string) error {
	e, err := s.holdAny(s.ctx, name)
	if err != nil {
		return err
	}
	gone, err := s.take(e, false)
	return s.finish(e, gone, err)
}

// Forget is Remove for a volume that its plugin does not remove: the plugin may still have
// it. Those of our own drivers are Conflict.
func (s *Service) Forget(name string) error {
	e, err := s.hold(name)
	if err != nil {
		return err
	}
	if s.ours(e.view.Load().Driver) {
		e.mu.Unlock()
		return errdefs.New(errdefs.Conflict, "volume %s is no plugin's", name)
	}
	gone, err := s.take(e, true)
	return s.finish(e, gone, err)
}

// finish deletes what take has left, and gives e.mu up.
func (s *Service) finish(e *entry, gone string, err error) error {
	name := e.name
	e.mu.Unlock()
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	if err := s.deleteTree(gone); err != nil { // the next Open does it
		slog.Warn("delete the files of a volume that is removed", "volume", name, "err", err)
	}
	return nil
}

// take makes a volume garbage and returns where that lies. With forget its plugin is not
// told.
//
// Preconditions: e.mu is held.
func (s *Service) take(e *entry, forget bool) (garbage string, err error) {
	v := e.view.Load()
	if err := e.free(); err != nil {
		return "", err
	}
	if err := s.clear(v); err != nil {
		return "", err
	}
	if !s.ours(v.Driver) && !forget {
		if err := s.removeRemote(e); err != nil {
			return "", err
		}
	}
	failpoint.Hit("volume-rm/unmounted")
	garbage = filepath.Join(s.cfg.Dir, gonePrefix+ident.Short(ident.New()))
	if err := os.Rename(s.dir(v.Name), garbage); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	failpoint.Hit("volume-rm/renamed")
	if err := s.cfg.Store.SyncDirs(s.cfg.Dir); err != nil {
		return "", errors.Join(err, os.Rename(garbage, s.dir(v.Name)))
	}
	s.forget(e)
	s.tell(events.ActionDestroy, v)
	failpoint.Hit("volume-rm/synced")
	return garbage, nil
}

// free reports who has a volume, as an error.
func (e *entry) free() error {
	if users := e.view.Load().Users; len(users) > 0 {
		return errdefs.New(errdefs.Conflict, "volume is in use - [%s]", strings.Join(users, ", "))
	}
	return nil
}

// clear unmounts what is left mounted of a volume that nobody has. What somebody else
// has mounted inside stays, and the volume with it.
func (s *Service) clear(v *View) error {
	d, err := s.driver(v.Driver)
	if err == nil && d.Mounts(s.dir(v.Name), v.Options) {
		if err := d.Unmount(v.Mountpoint); err != nil {
			return err
		}
	}
	inside, err := mount.Below(s.dir(v.Name))
	if err != nil {
		return err
	}
	if len(inside) > 0 {
		return errdefs.New(errdefs.Conflict, "something is mounted at %s: unmount it first", inside[0])
	}
	return nil
}
