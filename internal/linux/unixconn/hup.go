package unixconn

import "golang.org/x/sys/unix"

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
