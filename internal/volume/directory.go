package volume

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/linux/syncfs"
	"github.com/tare-engine/tare/internal/linux/treecopy"
	"github.com/tare-engine/tare/internal/linux/treerm"
)

// maker is the driver that makes the directories of files of a driver's volumes; nil: they
// are directories like others.
func (s *Service) maker(driver string) Maker {
	d, err := s.driver(driver)
	if err != nil {
		return nil
	}
	m, _ := d.(Maker)
	return m
}

// makeFiles makes an empty directory for the files of a driver's volume.
func (s *Service) makeFiles(driver, dir string, options map[string]string) error {
	if m := s.maker(driver); m != nil {
		return m.MakeFiles(dir, options)
	}
	return os.Mkdir(dir, 0o755)
}

// copyContent copies the content, which has the name, of one directory of a volume into
// another's, to disk. What the volume is, is said by v.
func (s *Service) copyContent(ctx context.Context, v *View, from, to, name string) error {
	src, dst := filepath.Join(from, name), filepath.Join(to, name)
	info, err := os.Lstat(src)
	if err != nil {
		return err
	}
	synced := false
	if info.IsDir() {
		synced, err = s.copyFiles(ctx, v, src, dst)
	} else {
		err = treecopy.CopyFile(src, dst)
	}
	if errors.Is(err, treecopy.ErrDeep) {
		return errdefs.As(errdefs.InvalidArgument, err)
	}
	if err != nil {
		return err
	}
	failpoint.Hit("volume-copy/copied")
	if synced {
		return nil
	}
	return syncfs.All(to)
}

// copyFiles copies a directory of files to another, which is empty or not there.
func (s *Service) copyFiles(ctx context.Context, v *View, from, to string) (synced bool, err error) {
	if _, err := os.Lstat(to); errors.Is(err, os.ErrNotExist) {
		if err := s.makeFiles(v.Driver, to, v.Options); err != nil {
			return false, err
		}
	}
	if m := s.maker(v.Driver); m != nil {
		if done, err := m.CopyFiles(from, to, v.Options); done || err != nil {
			return done, err
		}
	}
	return false, treecopy.Copy(ctx, from, to)
}

// discard is deleteTree for what the next operation of the kind, or the next Open, deletes
// if we cannot.
func (s *Service) discard(dir string) {
	if err := s.deleteTree(dir); err != nil {
		slog.Warn("delete what a volume has had", "dir", dir, "err", err)
	}
}

// deleteTree removes a directory of ours with all in it, if it is there.
func (s *Service) deleteTree(dir string) error {
	mounts, err := mount.Below(dir)
	if err != nil {
		return err
	}
	if len(mounts) > 0 { // what is mounted there is not ours to delete
		return fmt.Errorf("delete %s: something is mounted at %s", dir, mounts[0])
	}
	for _, d := range s.cfg.Drivers {
		if k, ok := d.(Deleter); ok {
			err = errors.Join(err, k.DeleteFiles(dir))
		}
	}
	if left := treerm.All(dir); left != nil {
		return errors.Join(left, err)
	}
	return nil
}
