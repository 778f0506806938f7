package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/idrange"
	"github.com/tare-engine/tare/internal/linux/swap"
	"github.com/tare-engine/tare/internal/linux/syncfs"
	"github.com/tare-engine/tare/internal/linux/treecopy"
)

// Fill gives an empty volume what an image has at the place where the volume is
// mounted: all files, with owners, modes, times and extended attributes, and those
// of the directory itself. A volume that is not empty stays as it is. ids are those
// of the container; nil: the host's.
//
// A volume that nobody has mounted is filled by one exchange: a copy that is cut off
// leaves it empty. One that is mounted is filled file by file, each whole. One whose
// files have to be mounted (see Mounts) stays as it is until it is mounted; a plugin's does: see FillPart.
func (s *Service) Fill(ctx context.Context, name string, from *os.File, ids *idrange.Map) error {
	e, err := s.hold(name)
	if err != nil {
		return err
	}
	defer e.mu.Unlock()
	v := e.view.Load()
	mounts := s.Mounts(v)
	if mounts && len(e.mounters) == 0 || !s.ours(v.Driver) {
		return nil
	}
	o := ownedBy(ids)
	empty, err := isEmpty(v.Mountpoint)
	if err != nil || !empty {
		return err
	}
	if mounts || len(e.mounters) > 0 {
		return fillInPlace(ctx, from, v.Mountpoint, o)
	}
	return s.fillByExchange(ctx, from, v, o)
}

// FillPart is Fill for a directory of a volume that is mounted, or all of it; also a plugin's.
func (s *Service) FillPart(ctx context.Context, name string, part, from *os.File, ids *idrange.Map) error {
	e, err := s.hold(name)
	if err != nil {
		return err
	}
	defer e.mu.Unlock()
	empty, err := hasNothing(part)
	if err != nil || !empty {
		return err
	}
	return fillFiles(ctx, from, part, ownedBy(ids))
}

// ownedBy has what is copied from an image owned by the users of a container with ids of
// its own; nil: the host's.
func ownedBy(ids *idrange.Map) (o treecopy.Options) {
	if ids != nil {
		o.Owner = func(uid, gid int) (int, int) {
			return int(ids.HostUID(uint32(uid))), int(ids.HostGID(uint32(gid)))
		}
	}
	return o
}

// Own gives an empty volume that nobody has mounted to the root of a container with
// ids of its own: to it alone the files of the volume are anybody's.
func (s *Service) Own(name string, ids *idrange.Map) error {
	if ids == nil {
		return nil
	}
	e, err := s.hold(name)
	if err != nil {
		return err
	}
	defer e.mu.Unlock()
	v := e.view.Load()
	empty, err := isEmpty(v.Mountpoint)
	if err != nil || !empty || len(e.mounters) > 0 || s.Mounts(v) {
		return err
	}
	return os.Chown(v.Mountpoint, int(ids.HostUID(0)), int(ids.HostGID(0)))
}

// Mounts reports whether the files of a volume have to be mounted to be seen.
func (s *Service) Mounts(v *View) bool {
	if !s.ours(v.Driver) {
		return true
	}
	d, err := s.driver(v.Driver)
	return err == nil && d.Mounts(s.dir(v.Name), v.Options)
}

func fillInPlace(ctx context.Context, from *os.File, to string, o treecopy.Options) error {
	dir, err := os.Open(to)
	if err != nil {
		return err
	}
	defer dir.Close()
	return fillFiles(ctx, from, dir, o)
}

func fillFiles(ctx context.Context, from, to *os.File, o treecopy.Options) error {
	o.Fill = true
	if err := treecopy.CopyFiles(ctx, from, to, o); err != nil {
		return fmt.Errorf("fill volume: %w", err)
	}
	return syncfs.Of(to)
}

func (s *Service) fillByExchange(ctx context.Context, from *os.File, v *View, o treecopy.Options) (err error) {
	stage := filepath.Join(s.dir(v.Name), copyDir)
	if err := errors.Join(s.deleteTree(stage), s.makeFiles(v.Driver, stage, v.Options)); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.deleteTree(stage))
		}
	}()
	if err := os.Chmod(stage, 0o700); err != nil { // until it is what the image says
		return err
	}
	failpoint.Hit("volume-fill/staged")
	dir, err := os.Open(stage)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := treecopy.CopyFiles(ctx, from, dir, o); err != nil {
		return fmt.Errorf("fill volume %s: %w", v.Name, err)
	}
	if err := syncfs.All(stage); err != nil {
		return err
	}
	failpoint.Hit("volume-fill/copied")
	if err := swap.Paths(stage, v.Mountpoint); err != nil { // nothing is renamed over a subvolume
		return err
	}
	failpoint.Hit("volume-fill/exchanged")
	if err := s.cfg.Store.SyncDirs(s.dir(v.Name)); err != nil {
		return err
	}
	s.discard(stage)
	return nil
}

func isEmpty(dir string) (bool, error) {
	f, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer f.Close()
	return hasNothing(f)
}

func hasNothing(dir *os.File) (bool, error) {
	names, err := dir.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return len(names) == 0, err
}
