package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/archive"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/confine"
	"github.com/tare-engine/tare/internal/linux/mount"
)

// What clients look at, take out of and bring into the files of a volume, also while
// containers have it, is done by threads of their own that have the volume as their
// root and see nothing else: whatever lies in it leads nowhere.

// Copies have threads, and clients may leave them waiting: only so many go on at once.
const (
	maxCopies = 64
	copyWait  = 10 * time.Second
)

// Stat describes what is at a path of a volume's files.
func (s *Service) Stat(ctx context.Context, name, p string) (st container.PathStat, err error) {
	err = s.inside(ctx, name, func(root *os.File) error {
		st, err = archive.Stat(root, p)
		return err
	})
	return st, notThere(err, name, p)
}

// Pack writes what is at a path of a volume's files as a tar stream, owners as the host
// has them. told is called before, with what that is.
func (s *Service) Pack(ctx context.Context, name, p string, told func(container.PathStat) (io.Writer, error)) error {
	err := s.inside(ctx, name, func(root *os.File) error { return archive.Pack(ctx, root, p, archive.PackOptions{}, told) })
	return notThere(err, name, p)
}

// Unpack unpacks a tar stream into a directory of a volume: owners are the archive's, what
// it does not name stays, and after an error what came before it is there. With keepKinds
// a directory is not replaced by something else, nor the other way round.
func (s *Service) Unpack(ctx context.Context, name, p string, in io.Reader, keepKinds bool) error {
	err := s.inside(ctx, name, func(root *os.File) error {
		own := func(uid, gid int) (int, int, error) { return uid, gid, nil }
		return archive.Unpack(ctx, root, p, in, archive.UnpackOptions{Own: own, KeepKinds: keepKinds, Volume: true})
	})
	return notThere(err, name, p)
}

// notThere says where nothing is, as is said of a container.
func notThere(err error, name, p string) error {
	if errors.Is(err, fs.ErrNotExist) && errdefs.KindOf(err) == errdefs.Internal {
		return errdefs.New(errdefs.NotFound, "Could not find the file %s in volume %s", shown(p), name)
	}
	return err
}

// inside calls f on a thread whose root is the volume, which is in use meanwhile.
func (s *Service) inside(ctx context.Context, name string, f func(root *os.File) error) (err error) {
	select {
	case s.copies <- struct{}{}:
		defer func() { <-s.copies }()
	case <-time.After(copyWait):
		return errdefs.New(errdefs.Unavailable, "%d copies of volumes are under way; try again when some have ended", maxCopies)
	case <-ctx.Done():
		return ctx.Err()
	}
	dir, giveBack, err := s.borrow(ctx, name, "copy-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, giveBack()) }()
	var root *os.File
	rights := confine.Options{Keep: confine.FileCapabilities(), Enter: func() (err error) {
		if root, err = enter(dir); err != nil {
			err = fmt.Errorf("files of volume %s: %w", name, err)
		}
		return err
	}}
	return confine.Run(rights, func() error {
		defer root.Close()
		return f(root)
	})
}

// enter makes a volume's directory the root of the calling thread, for good.
func enter(dir *os.File) (*os.File, error) {
	tree, err := mount.CloneOf(dir, false)
	if err != nil {
		return nil, err
	}
	view := mount.View{Root: tree}
	defer view.Close()
	return view.Enter()
}
