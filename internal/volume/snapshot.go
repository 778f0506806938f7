package volume

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/disk"
	"github.com/tare-engine/tare/internal/linux/swap"
	"github.com/tare-engine/tare/internal/store"
)

// Snapshot is a copy of a volume's files as they were at a time:
//
//	NAME/snapshots/SNAPSHOT/snapshot.json   when that was
//	                        _data/          the files; or disk.img
//	NAME/snapshots/.new-*                   being made
//
// It belongs to the volume, and goes with it.
type Snapshot struct {
	Name    string
	Created time.Time
}

// SnapshotsDir is where they are in a volume's directory.
const SnapshotsDir = "snapshots"

const snapshotFile = "snapshot.json"

func (s *Service) snapshotDir(name, snapshot string) string {
	return filepath.Join(s.dir(name), SnapshotsDir, snapshot)
}

// sweepSnapshots deletes snapshots of a volume that have not come to be, or that were
// being removed.
func (s *Service) sweepSnapshots(name string) error {
	list, err := os.ReadDir(s.snapshotDir(name, ""))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, d := range list {
		if strings.HasPrefix(d.Name(), ".") {
			err = errors.Join(err, s.deleteTree(s.snapshotDir(name, d.Name())))
		}
	}
	return err
}

// TakeSnapshot copies the files of a volume, sharing data where the file system can.
// Without a name the snapshot is called by the time. A volume that a running container
// has is Conflict, and so is a name that is taken.
func (s *Service) TakeSnapshot(ctx context.Context, name, snapshot string) (_ Snapshot, err error) {
	taken := Snapshot{Name: snapshot, Created: time.Now().UTC()}
	if snapshot == "" {
		taken.Name = taken.Created.Format("20060102-150405.000")
	}
	if err := checkSnapshotName(taken.Name); err != nil {
		return taken, err
	}
	e, err := s.hold(name)
	if err != nil {
		return taken, err
	}
	defer e.mu.Unlock()
	take, err := s.taker(ctx, e)
	if err != nil {
		return taken, err
	}
	to := s.snapshotDir(name, taken.Name)
	if _, err := os.Lstat(to); err == nil {
		return taken, errdefs.New(errdefs.Conflict, "volume %s has a snapshot %s already", name, taken.Name)
	}
	if err := os.MkdirAll(s.snapshotDir(name, ""), 0o700); err != nil {
		return taken, err
	}
	staged := s.snapshotDir(name, newPrefix+taken.Name)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.deleteTree(staged))
		}
	}()
	if err := errors.Join(s.deleteTree(staged), os.Mkdir(staged, 0o700)); err != nil {
		return taken, err
	}
	failpoint.Hit("volume-snapshot/staged")
	if err := take(staged); err != nil {
		return taken, err
	}
	if err := s.cfg.Store.Put(filepath.Join(staged, snapshotFile), taken); err != nil {
		return taken, err
	}
	if err := os.Rename(staged, to); err != nil {
		return taken, err
	}
	failpoint.Hit("volume-snapshot/renamed")
	return taken, s.cfg.Store.SyncDirs(s.snapshotDir(name, ""), s.dir(name))
}

// taker returns what makes a snapshot of a volume, which is idle, in a directory.
//
// Preconditions: e.mu is held.
func (s *Service) taker(ctx context.Context, e *entry) (func(staged string) error, error) {
	v := e.view.Load()
	if d, err := able[Snapshotter](s, v, ""); err == nil {
		return func(staged string) error { return d.TakeSnapshot(s.dir(v.Name), staged) }, s.rest(e)
	}
	content, err := s.contentOf(e)
	return func(staged string) error { return s.copyContent(ctx, v, s.dir(v.Name), staged, content) }, err
}

// rest refuses a volume that somebody has mounted, and unmounts what is left mounted of
// one.
//
// Preconditions: e.mu is held.
func (s *Service) rest(e *entry) error {
	if err := e.idle(); err != nil {
		return err
	}
	return s.clear(e.view.Load())
}

// checkSnapshotName refuses what cannot be a volume's name either.
func checkSnapshotName(name string) error {
	if CheckName(name) == nil {
		return nil
	}
	return errdefs.New(errdefs.InvalidArgument, "%q cannot be the name of a snapshot: it takes 2 to %d characters of %q", shown(name), maxName, namePattern)
}

// Snapshots lists the snapshots of a volume, the oldest first.
func (s *Service) Snapshots(name string) ([]Snapshot, error) {
	if _, err := s.Get(name); err != nil {
		return nil, err
	}
	dirs, err := os.ReadDir(s.snapshotDir(name, ""))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var list []Snapshot
	for _, d := range dirs {
		if CheckName(d.Name()) != nil {
			continue
		}
		var one Snapshot
		err := store.Get(filepath.Join(s.snapshotDir(name, d.Name()), snapshotFile), &one)
		if errors.Is(err, fs.ErrNotExist) { // it is being removed
			continue
		}
		if err != nil {
			return nil, err
		}
		one.Name = d.Name()
		list = append(list, one)
	}
	slices.SortStableFunc(list, func(a, b Snapshot) int { return a.Created.Compare(b.Created) })
	return list, nil
}

// SnapshotsSize is what all snapshots of a volume take. Where the file system counts it
// that is what each has alone, else what they share with the volume, or with each other,
// counts each time.
func (s *Service) SnapshotsSize(v *View) (int64, error) {
	d, err := s.driver(v.Driver)
	if err != nil { // a plugin's, of which there are none
		return 0, nil
	}
	z, _ := d.(Sizer)
	dirs, err := filepath.Glob(s.snapshotDir(v.Name, "[^.]*"))
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, dir := range dirs {
		if z != nil {
			if size, known := z.SnapshotSize(dir); known {
				sum += size
				continue
			}
		}
		size, err := disk.TreeSize(filepath.Join(dir, Files))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
		sum += size
	}
	return sum, nil
}

// Rollback gives a volume the files that it had at a snapshot, which stays. What it
// has is gone: take a snapshot first to keep it. A volume that a running container has
// is Conflict. A kill leaves one or the other.
func (s *Service) Rollback(ctx context.Context, name, snapshot string) error {
	e, from, err := s.holdSnapshot(name, snapshot)
	if err != nil {
		return err
	}
	defer e.mu.Unlock()
	if d, err := able[Snapshotter](s, e.view.Load(), ""); err == nil {
		if err := s.rest(e); err != nil {
			return err
		}
		return d.Rollback(ctx, s.dir(name), snapshot)
	}
	content, err := s.contentOf(e)
	if err != nil {
		return err
	}
	staged := filepath.Join(s.dir(name), copyDir)
	if err := errors.Join(s.deleteTree(staged), os.Mkdir(staged, 0o700)); err != nil {
		return err
	}
	err = s.copyContent(ctx, e.view.Load(), from, staged, content)
	if err == nil {
		err = swap.Paths(filepath.Join(staged, content), filepath.Join(s.dir(name), content))
	}
	if err != nil {
		return errors.Join(err, s.deleteTree(staged))
	}
	failpoint.Hit("volume-rollback/exchanged")
	s.sizes.Forget(name)
	if err := s.cfg.Store.SyncDirs(staged, s.dir(name)); err != nil {
		return err
	}
	s.discard(staged)
	return nil
}

// holdSnapshot returns a volume with its lock taken, and where its snapshot lies.
func (s *Service) holdSnapshot(name, snapshot string) (*entry, string, error) {
	if err := checkSnapshotName(snapshot); err != nil {
		return nil, "", err
	}
	e, err := s.hold(name)
	if err != nil {
		return nil, "", err
	}
	dir := s.snapshotDir(name, snapshot)
	if _, err := os.Lstat(dir); err != nil {
		e.mu.Unlock()
		return nil, "", errdefs.New(errdefs.NotFound, "volume %s has no snapshot %s", name, snapshot)
	}
	return e, dir, nil
}

// RemoveSnapshot removes a snapshot.
func (s *Service) RemoveSnapshot(name, snapshot string) error {
	e, dir, err := s.holdSnapshot(name, snapshot)
	if err != nil {
		return err
	}
	defer e.mu.Unlock()
	if d, err := able[Snapshotter](s, e.view.Load(), ""); err == nil {
		if err := s.rest(e); err != nil {
			return err
		}
		if err := d.ForgetSnapshot(s.dir(name)); err != nil {
			return err
		}
	}
	gone := s.snapshotDir(name, gonePrefix+snapshot)
	if err := errors.Join(s.deleteTree(gone), os.Rename(dir, gone), s.cfg.Store.SyncDirs(s.snapshotDir(name, ""))); err != nil {
		return err
	}
	failpoint.Hit("volume-snapshot/gone")
	return s.deleteTree(gone)
}
