// Package disk tells how full a file system is and takes space on it.
package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Usage of a file system.
type Usage struct {
	Mount              string // where it is mounted, as far as the path shows
	Bytes, Free        int64  // Free is what everyone may use, not only root
	Inodes, FreeInodes int64  // 0 and 0 where they are not counted (btrfs)
}

// Of returns the usage of the file system that holds path, or the nearest
// directory above it that exists.
func Of(path string) (Usage, error) {
	path = filepath.Clean(path)
	var st unix.Statfs_t
	for {
		err := unix.Statfs(path, &st)
		if err == nil {
			break
		}
		if up := filepath.Dir(path); up != path && (err == unix.ENOENT || err == unix.ENOTDIR) {
			path = up
			continue
		}
		return Usage{}, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return Usage{
		Mount: mountOf(path),
		Bytes: int64(st.Blocks) * st.Bsize, Free: int64(st.Bavail) * st.Bsize,
		Inodes: int64(st.Files), FreeInodes: int64(st.Ffree),
	}, nil
}

// Taken is the space that a file takes, as du(1) counts it.
func Taken(info fs.FileInfo) int64 {
	const unit = 512 // of st_blocks, whatever the file system's is
	return info.Sys().(*syscall.Stat_t).Blocks * unit
}

// mountOf goes up until the device changes.
func mountOf(path string) string {
	dev := func(p string) (uint64, bool) {
		var st unix.Stat_t
		err := unix.Stat(p, &st)
		return st.Dev, err == nil
	}
	own, ok := dev(path)
	for up := filepath.Dir(path); ok && up != path; up = filepath.Dir(path) {
		if d, ok := dev(up); !ok || d != own {
			break
		}
		path = up
	}
	return path
}

// IsFull reports whether err says that there is no room: on the file system,
// or within a quota.
func IsFull(err error) bool { return errors.Is(err, unix.ENOSPC) || IsQuota(err) }

// IsQuota reports whether err says that a quota is used up.
func IsQuota(err error) bool { return errors.Is(err, unix.EDQUOT) }

// Allocate gives the file size bytes on disk. Where the file system cannot do
// that at once, they are written.
func Allocate(f *os.File, size int64) error {
	err := unix.EINTR
	for err == unix.EINTR {
		err, _ = unix.Fallocate(int(f.Fd()), 0, 0, size).(unix.Errno)
	}
	runtime.KeepAlive(f)
	switch err {
	case 0:
		return nil
	case unix.EOPNOTSUPP:
		_, werr := f.WriteAt(make([]byte, size), 0)
		return werr
	}
	return &os.PathError{Op: "allocate", Path: f.Name(), Err: err}
}

// Kind names the file system that holds path, in Docker's words; "<unknown>" if
// it has none for it.
func Kind(path string) string {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil {
		return "<unknown>"
	}
	if name, ok := kinds[int64(st.Type)]; ok {
		return name
	}
	return "<unknown>"
}

var kinds = map[int64]string{
	unix.EXT4_SUPER_MAGIC: "extfs", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlayfs", unix.F2FS_SUPER_MAGIC: "f2fs", unix.NFS_SUPER_MAGIC: "nfs", unix.FUSE_SUPER_MAGIC: "fuse",
	0x2fc12fc1: "zfs", // OpenZFS is not in the kernel
}
