package unixconn

import "golang.org/x/sys/unix"

// Unread returns how much of what was written to the socket its peer has not
// read: no bytes but what they take in memory, and 0 if nothing is left.
func Unread(fd int) (int, error) { return unix.IoctlGetInt(fd, unix.TIOCOUTQ) } // SIOCOUTQ by its other name

// HungUp reports whether the peer of a connected socket has closed it. A peer
// that has only ended its own direction is still there. Nothing is read.
func HungUp(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd)}}
	for {
		n, err := unix.Poll(p, 0)
		if err == unix.EINTR {
			continue
		}
		return err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
	}
}
