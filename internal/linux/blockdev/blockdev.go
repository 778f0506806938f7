// Package blockdev opens block devices that somebody has named by a path.
package blockdev

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// Device is an open block device. What is read and written by its methods passes the
// page cache by, so that it is seen by who reaches the same disk in another way.
type Device struct {
	file         *os.File
	Major, Minor uint32
	Size         int64 // bytes
}

// ErrNoBlock is about a path that leads to something else.
var ErrNoBlock = errors.New("it is no block device")

// ErrBusy is about a device that is mounted, or that another device is made of.
var ErrBusy = errors.New("it is busy: mounted, or part of another device")

// Open opens the device at a path. Nothing else than a block device is opened: to open
// some others does something. With exclusive nobody else may have claimed it, by a mount
// say, and nobody can while it is open.
func Open(path string, exclusive bool) (*Device, error) {
	fail := func(err error) (*Device, error) {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	look, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(look)
	var st unix.Stat_t
	if err := unix.Fstat(look, &st); err != nil {
		return fail(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return fail(ErrNoBlock)
	}
	flags := unix.O_RDWR | unix.O_DIRECT | unix.O_CLOEXEC
	if exclusive {
		flags |= unix.O_EXCL
	}
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(look), flags, 0)
	if err == unix.EBUSY {
		return fail(ErrBusy)
	}
	if err != nil {
		return fail(err)
	}
	d := &Device{file: os.NewFile(uintptr(fd), path), Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)}
	if d.Size, err = d.file.Seek(0, io.SeekEnd); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// Close gives the device back.
func (d *Device) Close() error { return d.file.Close() }

// align is what the kernel asks of memory and lengths that pass the page cache by.
const align = 4096

// ReadStart returns the first n bytes, or what there is.
func (d *Device) ReadStart(n int) ([]byte, error) {
	buf, free, err := buffer(n)
	if err != nil {
		return nil, err
	}
	defer free()
	got, err := d.file.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return append([]byte{}, buf[:min(got, n)]...), nil
}

// WriteStart writes the first bytes, to the disk; zeros fill up the last block.
func (d *Device) WriteStart(b []byte) error { return d.WriteAt(b, 0) }

// WriteAt is WriteStart at an offset, which is that of a block.
func (d *Device) WriteAt(b []byte, at int64) error {
	buf, free, err := buffer(len(b))
	if err != nil {
		return err
	}
	defer free()
	copy(buf, b)
	if _, err := d.file.WriteAt(buf, at); err != nil {
		return err
	}
	return d.file.Sync()
}

// buffer is memory of whole blocks.
func buffer(n int) (b []byte, free func(), err error) {
	n = (n + align - 1) / align * align
	b, err = unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, nil, fmt.Errorf("memory for a block: %w", err)
	}
	return b, func() { unix.Munmap(b); runtime.KeepAlive(b) }, nil
}
