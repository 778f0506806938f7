package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/confine"
	"github.com/tare-engine/tare/internal/linux/disk"
	"github.com/tare-engine/tare/internal/linux/swap"
	"github.com/tare-engine/tare/internal/linux/syncfs"
	"github.com/tare-engine/tare/internal/linux/totar"
	"github.com/tare-engine/tare/internal/linux/untar"
)

// Export writes all files of a volume as a tar stream, with its directory. The volume
// is in use meanwhile; what runs may change it, as with the export of a container.
func (s *Service) Export(ctx context.Context, name string, out io.Writer) (err error) {
	root, giveBack, err := s.borrow(ctx, name, "export-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, giveBack()) }()
	return totar.Tree(ctx, root, out, totar.Options{Root: true})
}

// Import makes a volume of a tar stream, or fills one: with replace what it has goes,
// else it must be empty. One that a running container has is Conflict. The volume gets
// all files at once, when they are on disk.
func (s *Service) Import(ctx context.Context, name string, r io.Reader, replace bool) (*View, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	options, err := s.mayImport(name, replace) // before the stream is read
	if err != nil {
		return nil, err
	}
	stage, err := s.stage()
	if err != nil {
		return nil, err
	}
	defer s.deleteTree(stage)
	if err := s.unpack(ctx, filepath.Join(stage, Files), options, r); err != nil {
		return nil, err
	}
	failpoint.Hit("volume-import/unpacked")
	e, made := s.holdOrAdd(name)
	defer e.mu.Unlock()
	if made {
		if err := s.importNew(e, stage); err != nil {
			s.forget(e)
			return nil, err
		}
		return e.view.Load(), nil
	}
	if err := s.canImport(e, replace); err != nil {
		return nil, err
	}
	if !maps.Equal(options, e.view.Load().Options) {
		return nil, errdefs.New(errdefs.Conflict, "volume %s has been replaced by another one meanwhile", name)
	}
	if err := swap.Paths(filepath.Join(stage, Files), s.files(name)); err != nil {
		return nil, err
	}
	failpoint.Hit("volume-import/exchanged")
	s.sizes.Forget(name)
	return e.view.Load(), s.cfg.Store.SyncDirs(stage, s.dir(name))
}

// mayImport says early whether an import into a volume would be refused, and returns the
// options that the volume has if it is there.
func (s *Service) mayImport(name string, replace bool) (options map[string]string, err error) {
	e, err := s.hold(name)
	if errdefs.Is(err, errdefs.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer e.mu.Unlock()
	return e.view.Load().Options, s.canImport(e, replace)
}

// Preconditions: e.mu is held.
func (s *Service) canImport(e *entry, replace bool) error {
	content, err := s.contentOf(e)
	if err != nil {
		return err
	}
	if content != Files {
		return errdefs.New(errdefs.InvalidArgument, "volume %s has a size: import into another one, and copy", e.name)
	}
	empty, err := isEmpty(s.files(e.name))
	if err != nil {
		return err
	}
	if !empty && !replace {
		return errdefs.New(errdefs.Conflict, "volume %s is not empty: say that its files are to be replaced (--replace)", e.name)
	}
	return nil
}

// importNew makes the volume of a new entry of what has been unpacked.
//
// Preconditions: e.mu is held.
func (s *Service) importNew(e *entry, stage string) error {
	d, err := s.driver("")
	if err != nil {
		return err
	}
	rec := Record{Version: recordVersion, Name: e.name, Driver: d.Name(), Created: time.Now().UTC().Truncate(time.Second)}
	if err := s.place(rec, "", func(dir string) error { return swap.Paths(filepath.Join(stage, Files), filepath.Join(dir, Files)) }); err != nil {
		return err
	}
	e.publish(&View{Record: rec, Mountpoint: s.files(rec.Name)})
	s.tell(events.ActionCreate, e.view.Load())
	return nil
}

// unpack unpacks an archive into a new directory of files, on a thread that can change
// files there and nothing else, and writes it to disk.
func (s *Service) unpack(ctx context.Context, dir string, options map[string]string, r io.Reader) error {
	if err := s.makeFiles("", dir, options); err != nil {
		return err
	}
	root, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	o := untar.Options{Whiteouts: untar.Literal, Raise: func(f func() error) error { return confine.Raise(confine.SysAdmin, f) }}
	if free, err := disk.Of(dir); err == nil {
		o.Bytes = max(free.Free-free.Free/20, 1)
	}
	rights := confine.Options{
		Dir:     root,
		Keep:    confine.FileCapabilities(),
		Reserve: []confine.Capability{confine.SysAdmin},
	}
	err = confine.Run(rights, func() error {
		_, err := untar.Unpack(ctx, root, r, o)
		return err
	})
	var wrong *untar.InputError
	if errors.As(err, &wrong) {
		return errdefs.As(errdefs.InvalidArgument, fmt.Errorf("import: %w", err))
	}
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	return syncfs.All(dir)
}
