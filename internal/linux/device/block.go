package device

import (
	"io"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Size is the size of an open block device in bytes.
func Size(f *os.File) (int64, error) { return f.Seek(0, io.SeekEnd) }

// Discard tells an open block device that the first size bytes of it are not needed any more.
func Discard(f *os.File, size int64) error {
	part := [2]uint64{0, uint64(size)}
	_, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKDISCARD, uintptr(unsafe.Pointer(&part)))
	runtime.KeepAlive(f)
	if e != 0 {
		return &os.PathError{Op: "discard", Path: f.Name(), Err: e}
	}
	return nil
}
