package local

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tare-engine/tare/internal/linux/btrfs"
	"github.com/tare-engine/tare/internal/linux/syncfs"
	"github.com/tare-engine/tare/internal/volume"
)

// On btrfs the directory of a volume's files is a subvolume, as is that of each snapshot:
// copies are made at once, whatever there is. Where quota groups are enabled, by somebody
// who has decided that for the whole file system, they count what is in them and keep the
// limits of volumes.

// makeSubvolume makes an empty one, with the limit that the options name if there are
// quota groups.
func makeSubvolume(dir string, options map[string]string) error {
	if err := btrfs.Create(dir); err != nil {
		return err
	}
	if err := limit(dir, options); err != nil {
		return errors.Join(err, btrfs.Delete(dir))
	}
	return nil
}

// CopyFiles makes a snapshot of a subvolume. It would lack the files of subvolumes that
// somebody has made in there: then nothing is copied at once.
func (Driver) CopyFiles(from, to string, options map[string]string) (bool, error) {
	is, err := btrfs.IsSubvolume(from)
	if err != nil || !is {
		return false, err
	}
	nested, err := btrfs.Nested(from)
	if err != nil || nested {
		return false, err
	}
	if err := btrfs.Delete(to); err != nil { // of makeSubvolume
		return false, err
	}
	if err := btrfs.Snapshot(from, to); err != nil {
		return false, err
	}
	return true, limit(to, options)
}

// limit sets the limit that the options name, on disk.
func limit(dir string, options map[string]string) error {
	size, err := sizeOf(options)
	if err != nil || size == 0 {
		return err
	}
	counts, err := btrfs.Counts(dir)
	if err != nil || !counts {
		return err
	}
	if err := btrfs.Limit(dir, size); err != nil {
		return err
	}
	return syncfs.All(dir)
}

// keepsLimit reports whether a directory of makeSubvolume has a limit.
func keepsLimit(dir string) (bool, error) {
	is, err := btrfs.IsSubvolume(dir)
	if err != nil || !is {
		return false, err
	}
	return btrfs.Counts(dir)
}

// snapshotsDepth is how deep in a volume's directory the directories of files lie:
// snapshots/NAME/_data.
const snapshotsDepth = 3

// DeleteFiles deletes the subvolumes in a directory, or that it is.
func (Driver) DeleteFiles(dir string) error {
	on, err := btrfs.On(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !on {
		return nil
	}
	if err != nil {
		return err
	}
	return deleteSubvolumes(dir, snapshotsDepth)
}

func deleteSubvolumes(dir string, depth int) error {
	is, err := btrfs.IsSubvolume(dir)
	switch {
	case err != nil:
		return err
	case is:
		return btrfs.Delete(dir)
	case depth == 0 || filepath.Base(dir) == volume.Files: // a user's files
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			err = errors.Join(err, deleteSubvolumes(filepath.Join(dir, e.Name()), depth-1))
		}
	}
	return err
}
