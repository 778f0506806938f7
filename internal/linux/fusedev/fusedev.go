// Package fusedev is the kernel's end of a FUSE file system: requests are read from
// it and answers written to it, one with each call. What the messages are is
// somebody else's matter (linux/fuse.h).
//
// Requests belong to the open file, not to a process: whoever has inherited the
// descriptor can answer what another one has read.
package fusedev

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Dev is a descriptor of /dev/fuse.
type Dev int

// Requests of ioctl(2).
const (
	backingOpen  = 0x4010e501
	backingClose = 0x4004e502
)

// Read waits for a request. ENODEV says that the file system is gone, ENOENT that
// a request was taken back.
func (d Dev) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(int(d), p)
		if err != unix.EINTR && err != unix.EAGAIN {
			return n, err
		}
	}
}

// Write gives the kernel an answer, or a message. ENOENT says that it does not wait
// for one.
func (d Dev) Write(p []byte) error {
	for {
		_, err := unix.Write(int(d), p)
		if err != unix.EINTR {
			return err
		}
	}
}

// OpenBacking gives the kernel an open file, from which it can read and to which it
// can write without asking; the number stands for it. Linux 6.9.
func (d Dev) OpenBacking(fd int) (int32, error) {
	var m struct {
		fd      int32
		flags   uint32
		padding uint64
	}
	m.fd = int32(fd)
	id, _, no := unix.Syscall(unix.SYS_IOCTL, uintptr(d), backingOpen, uintptr(unsafe.Pointer(&m)))
	if no != 0 {
		return 0, no
	}
	return int32(id), nil
}

// CloseBacking takes it back; files that are open go on.
func (d Dev) CloseBacking(id int32) error {
	_, _, no := unix.Syscall(unix.SYS_IOCTL, uintptr(d), backingClose, uintptr(unsafe.Pointer(&id)))
	if no != 0 {
		return no
	}
	return nil
}
