package volume

import (
	"context"
	"errors"
	"fmt"

	"github.com/tare-engine/tare/internal/errdefs"
)

// What some drivers can do that have devices for their volumes.

// Sweeper is a Driver whose volumes have things in the kernel beside mounts.
type Sweeper interface {
	// Sweep removes those of volumes that are in none of the directories, and goes on with
	// those of the others, after a start of the engine.
	Sweep(dirs []string) error
}

// Teller is a Driver that has more to tell of a volume.
type Teller interface {
	Status(dir string) (map[string]any, error)
}

// Snapshotter is a Driver that takes the snapshots of its volumes itself. Nobody has the
// volume mounted.
type Snapshotter interface {
	// TakeSnapshot makes a snapshot in a directory that is then renamed into SnapshotsDir.
	TakeSnapshot(dir, staged string) error
	// Rollback gives a volume what it had at a snapshot.
	Rollback(ctx context.Context, dir, snapshot string) error
	// ForgetSnapshot refuses, if a snapshot may not be deleted now.
	ForgetSnapshot(dir string) error
}

// Replacer is a Driver whose volumes are made of several devices, of which one may be
// replaced by another while containers use the volume.
type Replacer interface {
	Replace(ctx context.Context, dir, old, with string) error
}

// Resizer is a Driver whose volumes grow while they are mounted.
type Resizer interface {
	Resize(ctx context.Context, dir, at string, size int64) error
}

// Locker is a Driver with volumes that need a key.
type Locker interface {
	// Unlock takes a key, which the caller clears.
	Unlock(ctx context.Context, dir string, key []byte) error
	Lock(dir string) error
}

// able returns the driver of a volume as one that can do something.
func able[T any](s *Service, v *View, what string) (t T, err error) {
	if s.ours(v.Driver) {
		d, err := s.driver(v.Driver)
		if err != nil {
			return t, err
		}
		if t, ok := d.(T); ok {
			return t, nil
		}
	}
	return t, errdefs.New(errdefs.InvalidArgument, "volume %s: the driver %s %s", v.Name, v.Driver, what)
}

// Replace gives a volume a device in the place of another.
func (s *Service) Replace(ctx context.Context, name, old, with string) error {
	e, err := s.hold(name)
	if err != nil {
		return err
	}
	defer e.mu.Unlock()
	d, err := able[Replacer](s, e.view.Load(), "has no devices that could be replaced")
	if err != nil {
		return err
	}
	if err := d.Replace(ctx, s.dir(name), old, with); err != nil {
		return fmt.Errorf("volume %s: replace %s: %w", name, shown(old), err)
	}
	return nil
}

// Resize has a volume grow, in use or not.
func (s *Service) Resize(ctx context.Context, name string, size int64) (err error) {
	v, err := s.Get(name)
	if err != nil {
		return err
	}
	d, err := able[Resizer](s, v, "does not change sizes")
	if err != nil {
		return err
	}
	_, giveBack, err := s.borrow(ctx, name, "resize-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, giveBack()) }()
	e, err := s.hold(name)
	if err != nil {
		return err
	}
	defer e.mu.Unlock()
	if err := d.Resize(ctx, s.dir(name), s.files(name), size); err != nil {
		return fmt.Errorf("resize volume %s: %w", name, err)
	}
	return nil
}

// Unlock brings the key of a volume. The caller clears it.
func (s *Service) Unlock(ctx context.Context, name string, key []byte) error {
	e, err := s.hold(name)
	if err != nil {
		return err
	}
	defer e.mu.Unlock()
	d, err := able[Locker](s, e.view.Load(), "has no keys")
	if err != nil {
		return err
	}
	if err := d.Unlock(ctx, s.dir(name), key); err != nil {
		return fmt.Errorf("unlock volume %s: %w", name, err)
	}
	return nil
}

// Lock takes the key of a volume away that no running container has.
func (s *Service) Lock(name string) error {
	e, err := s.hold(name)
	if err != nil {
		return err
	}
	defer e.mu.Unlock()
	d, err := able[Locker](s, e.view.Load(), "has no keys")
	if err != nil {
		return err
	}
	if err := e.idle(); err != nil {
		return err
	}
	if err := d.Lock(s.dir(name)); err != nil {
		return fmt.Errorf("lock volume %s: %w", name, err)
	}
	return nil
}

// status is what the driver of a volume tells of it.
func (s *Service) status(v *View) (*View, error) {
	d, err := s.driver(v.Driver)
	if err != nil {
		return nil, err
	}
	t, ok := d.(Teller)
	if !ok {
		return v, nil
	}
	told := *v
	if told.Status, err = t.Status(s.dir(v.Name)); err != nil {
		return nil, fmt.Errorf("get %s: %w", v.Name, err)
	}
	return &told, nil
}

// sweep has drivers remove what no volume has in the kernel.
func (s *Service) sweep() (err error) {
	var dirs []string
	for _, v := range s.List() {
		dirs = append(dirs, s.dir(v.Name))
	}
	for _, d := range s.cfg.Drivers {
		if w, ok := d.(Sweeper); ok {
			if e := w.Sweep(dirs); e != nil {
				err = fmt.Errorf("driver %s: %w", d.Name(), e)
			}
		}
	}
	return err
}
