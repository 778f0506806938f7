package sock

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Unsent is how much of what was written to a connection the other end has not taken: of
// TCP the bytes that its kernel has not acknowledged; of a unix socket a number that is 0
// when its program has read everything.
func Unsent(s syscall.Conn) (n int, err error) {
	err = control(s, func(fd int) (err error) {
		n, err = unix.IoctlGetInt(fd, unix.TIOCOUTQ) // SIOCOUTQ
		return os.NewSyscallError("ioctl SIOCOUTQ", err)
	})
	return n, err
}

// Gone reports whether the other end of a connection has closed it, or there is an error
// that the next call will tell of: nobody will take what is written.
func Gone(s syscall.Conn) (gone bool, err error) {
	err = control(s, func(fd int) error {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(p, 0)
		for err == unix.EINTR {
			n, err = unix.Poll(p, 0)
		}
		gone = n > 0 && p[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
		return os.NewSyscallError("poll", err)
	})
	return gone, err
}
