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

// directBlock is what reads past the page cache are aligned to.
const directBlock = 4096

// First reads the first 4096 bytes of a block device as they are on it: the page cache
// does not see what is mapped onto the device and writes there.
func First(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	b, err := unix.Mmap(-1, 0, directBlock, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	defer unix.Munmap(b)
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, err
	}
	return append([]byte{}, b...), nil
}

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
