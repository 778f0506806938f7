// Package tty works on the master of a pseudo terminal.
package tty

import (
	"os"

	"golang.org/x/sys/unix"
)

// Resize sets the size of the window and, as the kernel does for a terminal,
// tells the foreground processes by SIGWINCH.
func Resize(master int, rows, cols uint16) error {
	return os.NewSyscallError("TIOCSWINSZ", unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}))
}

// Size returns the size of the window.
func Size(master int) (rows, cols uint16, err error) {
	w, err := unix.IoctlGetWinsize(master, unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0, os.NewSyscallError("TIOCGWINSZ", err)
	}
	return w.Row, w.Col, nil
}

// Check says whether fd is the master of a pseudo terminal.
func Check(fd int) error {
	_, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	return os.NewSyscallError("TIOCGPTN", err)
}
