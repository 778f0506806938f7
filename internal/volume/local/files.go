package local

import (
	"log/slog"
	"os"
	"path/filepath"

	"github.com/tare-engine/tare/internal/linux/btrfs"
	"github.com/tare-engine/tare/internal/linux/disk"
	"github.com/tare-engine/tare/internal/linux/projquota"
	"github.com/tare-engine/tare/internal/volume"
)

// MakeFiles makes a subvolume where the file system is btrfs; else a directory that is a
// project of its own, if the file system has project quota and it is in nobody's.
func (Driver) MakeFiles(dir string, options map[string]string) error {
	if options["type"] == "" {
		on, err := btrfs.On(filepath.Dir(dir))
		if err != nil {
			return err
		}
		if on {
			return makeSubvolume(dir, options)
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if !projquota.Enabled(dir) || !projquota.Free(dir) {
		return nil
	}
	if err := projquota.Begin(0, dir); err != nil {
		slog.Debug("the files of a volume are not counted by the file system", "dir", dir, "err", err)
	}
	return nil
}

// Size is what the disk of a volume with a limit takes, or what the file system has
// counted since MakeFiles.
func (Driver) Size(dir string, options map[string]string) (int64, bool) {
	switch {
	case options["type"] != "":
		return 0, false
	case onDisk(dir, options):
		return taken(filepath.Join(dir, diskFile))
	}
	return counted(filepath.Join(dir, volume.Files), func(u btrfs.Usage) int64 { return u.Referenced })
}

// SnapshotSize is that of a snapshot.
func (Driver) SnapshotSize(dir string) (int64, bool) {
	size, is := taken(filepath.Join(dir, diskFile))
	if is {
		return size, true
	}
	return counted(filepath.Join(dir, volume.Files), func(u btrfs.Usage) int64 { return u.Exclusive })
}

func taken(file string) (int64, bool) {
	info, err := os.Lstat(file)
	if err != nil {
		return 0, false
	}
	return disk.Taken(info), true
}

// counted is what the quota groups of a subvolume count, or the project of a directory
// beside the directory; false: it has none.
func counted(dir string, of func(btrfs.Usage) int64) (int64, bool) {
	if is, err := btrfs.IsSubvolume(dir); is && err == nil {
		u, err := btrfs.Used(dir)
		return of(u), err == nil
	}
	bytes, _, err := projquota.Used(dir)
	if err != nil {
		return 0, false
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return 0, false
	}
	return max(bytes-disk.Taken(info), 0), true
}
