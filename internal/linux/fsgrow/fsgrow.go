// Package fsgrow makes mounted file systems as large as their block devices.
package fsgrow

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// To grows the mounted ext4 or xfs that holds the open directory to size bytes, which
// its device has. It may be in use.
func To(dir *os.File, size int64) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil {
		return &os.PathError{Op: "statfs", Path: dir.Name(), Err: err}
	}
	var err error
	switch blocks := uint64(size) / uint64(st.Bsize); int64(st.Type) {
	case unix.EXT4_SUPER_MAGIC:
		err = control(dir, ext4Resize, unsafe.Pointer(&blocks))
	case unix.XFS_SUPER_MAGIC:
		var g geometry
		if err = control(dir, xfsGeometry, unsafe.Pointer(&g)); err == nil {
			err = control(dir, xfsGrow, unsafe.Pointer(&growth{blocks: blocks, percent: g.percent}))
		}
	default:
		err = errors.ErrUnsupported
	}
	if err != nil {
		return fmt.Errorf("grow the file system to %d bytes: %w", size, err)
	}
	return nil
}

// Requests of ext4 and xfs: EXT4_IOC_RESIZE_FS, XFS_IOC_FSGROWFSDATA and
// XFS_IOC_FSGEOMETRY_V1.
const (
	ext4Resize  = 0x40086610
	xfsGrow     = 0x4010586e
	xfsGeometry = 0x80705864
)

// growth is struct xfs_growfs_data: blocks, and how much of them may be inodes.
type growth struct {
	blocks  uint64
	percent uint32
	_       uint32
}

// geometry is struct xfs_fsop_geom_v1, of which one field counts here.
type geometry struct {
	_       [7]uint32
	percent uint32
	_       [20]uint32
}

func control(dir *os.File, request uintptr, arg unsafe.Pointer) error {
	_, _, e := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), request, uintptr(arg))
	runtime.KeepAlive(dir)
	if e != 0 {
		return e
	}
	return nil
}
