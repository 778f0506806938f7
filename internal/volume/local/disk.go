package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/btrfs"
	"github.com/tare-engine/tare/internal/linux/loop"
	"github.com/tare-engine/tare/internal/linux/mkfs"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/volume"
)

// A volume with a limit is an ext4 in a file, which takes space as it is written to; but
// for those whose directory keeps the limit: see subvolume.go.
const (
	diskFile = "disk.img"
	minSize  = 1 << 20 // less has no room for ext4's own tables
)

// makeDisk makes the file and the file system in it.
func makeDisk(ctx context.Context, dir string, size int64) error {
	path := filepath.Join(dir, diskFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	if err := mkfs.Make(ctx, "ext4", path); err != nil {
		if errors.Is(err, mkfs.ErrMissing) {
			err = errdefs.New(errdefs.InvalidArgument, "a volume with a size needs mke2fs on the engine's machine (Debian: e2fsprogs)")
		}
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return emptyDisk(path)
}

// onDisk reports whether a volume has, or should have, a disk.
func onDisk(dir string, options map[string]string) bool {
	if size, err := sizeOf(options); err != nil || size == 0 || options["type"] != "" {
		return false
	}
	if _, err := os.Lstat(filepath.Join(dir, diskFile)); err == nil {
		return true
	}
	is, err := btrfs.IsSubvolume(filepath.Join(dir, volume.Files))
	return err != nil || !is
}

// diskPatience is how long the end of the last container may take to let go of a disk.
const diskPatience = 2 * time.Second

// awaitDisk returns when the file of a disk is written out: no device has it.
func awaitDisk(dir string) error {
	f, err := os.Open(filepath.Join(dir, diskFile))
	if err != nil {
		return err
	}
	defer f.Close()
	for end := time.Now().Add(diskPatience); ; time.Sleep(10 * time.Millisecond) {
		attached, err := loop.Attached(f)
		if err != nil || !attached {
			return err
		}
		if time.Now().After(end) {
			return errdefs.New(errdefs.Unavailable, "the files of the volume are still being unmounted, or somebody else has mounted %s: try again", f.Name())
		}
	}
}

// emptyDisk takes away the directory that a new ext4 has: programs that ask for an
// empty directory, and Fill, would find something.
func emptyDisk(path string) error {
	m, err := openDisk(path)
	if err != nil {
		return err
	}
	defer m.Close()
	return os.Remove("/proc/self/fd/" + strconv.Itoa(int(m.Fd())) + "/lost+found")
}

// openDisk returns a detached mount of the file system in a file.
func openDisk(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	dev, err := loop.Attach(f)
	if err != nil {
		return nil, err
	}
	defer dev.Close() // the mount keeps it
	fs, err := mount.OpenFS("ext4")
	if err != nil {
		return nil, err
	}
	defer fs.Close()
	if err := fs.SetString("source", dev.Name()); err != nil {
		return nil, err
	}
	return fs.Mount(mount.NoDev)
}

func mountDisk(dir, at string) error {
	m, err := openDisk(filepath.Join(dir, diskFile))
	if err != nil {
		return err
	}
	return errors.Join(mount.MoveTo(m, at), m.Close())
}
