package oci

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

func itoa(n int) string     { return strconv.Itoa(n) }
func quote(s string) string { return strconv.Quote(s) }

// console says where the master of a process's terminal goes.
type console struct {
	socket string                   // path of a Unix socket
	open   func() (*os.File, error) // a connected one, if there is no path
}

// stdio returns the three streams of a process, and what closes those that
// were opened for it. With a terminal the first is the socket for its master.
func (c console) stdio(terminal bool, uid int) (f [3]*os.File, done func(), err error) {
	switch {
	case c.socket != "" && (!terminal || c.open != nil):
		return f, nil, errors.New("cannot use console socket if runc will not detach or allocate tty")
	case terminal && c.socket == "" && c.open == nil:
		return f, nil, errors.New("cannot allocate tty if runc will detach without setting console socket")
	case !terminal:
		for _, s := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
			if err := giveTo(s, uid); err != nil {
				return f, nil, err
			}
		}
		return [3]*os.File{os.Stdin, os.Stdout, os.Stderr}, func() {}, nil
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return f, nil, err
	}
	open := c.open
	if open == nil {
		open = func() (*os.File, error) { return dial(c.socket) }
	}
	sock, err := open()
	if err != nil {
		null.Close()
		return f, nil, err
	}
	return [3]*os.File{sock, null, null}, func() {
		null.Close()
		sock.Close()
	}, nil
}

// giveTo makes the process's user the owner of a stream, or it could not open
// it again as /dev/stderr. Devices and what cannot change hands stay.
func giveTo(f *os.File, uid int) error {
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	sys := st.Sys().(*syscall.Stat_t)
	if int(sys.Uid) == uid || sys.Mode&syscall.S_IFMT == syscall.S_IFCHR && sys.Rdev == nullDevice {
		return nil
	}
	switch err := syscall.Fchown(int(f.Fd()), uid, int(sys.Gid)); err {
	case nil, syscall.EINVAL, syscall.EPERM, syscall.EROFS:
		return nil
	default:
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
}

const nullDevice = 1<<8 | 3

// dial connects to a Unix stream socket.
func dial(path string) (*os.File, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		syscall.Close(fd)
		return nil, fmt.Errorf("dial unix %s: %w", path, os.NewSyscallError("connect", err))
	}
	return os.NewFile(uintptr(fd), path), nil
}

func (k *creation) stdio() ([3]*os.File, func(), error) {
	p := k.b.spec.Process
	return console{k.ConsoleSocket, k.Console}.stdio(p.Terminal, k.start.HostUID(int(p.User.UID)))
}
