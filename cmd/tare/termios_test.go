//go:build linux

package main

import (
	"os"
	"syscall"
	"unsafe"
)

// termios reads the modes of a terminal.
func termios(f *os.File, m *syscall.Termios) error {
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), syscall.TCGETS, uintptr(unsafe.Pointer(m)))
	if errno != 0 {
		return errno
	}
	return nil
}
