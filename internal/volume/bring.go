package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/syncfs"
	"github.com/tare-engine/tare/internal/linux/treecopy"
)

// Bring makes a volume of our own drivers with a copy of files, which share their data
// with it where the file system can; nil: its files are elsewhere, as its options say.
// A name that is taken is Conflict. When it returns the volume is on disk.
func (s *Service) Bring(ctx context.Context, r Request, files *os.File) (*View, error) {
	if err := CheckName(r.Name); err != nil {
		return nil, err
	}
	d, err := s.driver(r.Driver)
	if err != nil {
		return nil, err
	}
	if err := d.Check(r.Options); err != nil {
		return nil, err
	}
	if len(r.Options) > 0 && files != nil {
		return nil, errdefs.New(errdefs.InvalidArgument, "volume %s has options, so its files are elsewhere", shown(r.Name))
	}
	e, err := s.add(r.Name)
	if err != nil {
		return nil, err
	}
	defer e.mu.Unlock()
	rec := Record{Version: recordVersion, Name: r.Name, Driver: d.Name(), Created: time.Now().UTC().Truncate(time.Second), Labels: r.Labels, Options: r.Options}
	err = s.place(rec, "", func(dir string) error {
		if files == nil {
			return d.Make(ctx, dir, rec.Options)
		}
		return bringFiles(ctx, files, filepath.Join(dir, Files))
	})
	if err != nil {
		s.forget(e)
		return nil, err
	}
	e.publish(&View{Record: rec, Mountpoint: s.files(rec.Name)})
	s.tell(events.ActionCreate, e.view.Load())
	return e.view.Load(), nil
}

// bringFiles copies files to disk.
func bringFiles(ctx context.Context, files *os.File, to string) error {
	dst, err := os.Open(to)
	if err != nil {
		return err
	}
	defer dst.Close()
	err = treecopy.CopyFiles(ctx, files, dst, treecopy.Options{})
	if errors.Is(err, treecopy.ErrDeep) {
		return errdefs.As(errdefs.InvalidArgument, err)
	}
	if err != nil {
		return err
	}
	failpoint.Hit("import-engine/volume-copied")
	return syncfs.Of(dst)
}
