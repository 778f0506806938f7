// Package epoll waits for many descriptors at once, edge-triggered, without
// keeping a thread in the kernel: the epoll descriptor itself is given to Go's
// poller, so a goroutine in Wait is parked like one that reads a socket.
package epoll

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Ready says what a descriptor is ready for.
type Ready uint32

// What Event.Ready may hold.
const (
	Read   Ready = unix.EPOLLIN | unix.EPOLLRDHUP // data, or the peer sends no more
	Write  Ready = unix.EPOLLOUT
	Urgent Ready = unix.EPOLLPRI                 // a change, of files that tell it so
	Hup    Ready = unix.EPOLLHUP | unix.EPOLLERR // both directions are over
)

// Event is what happened to the descriptor that was added with Key.
type Event struct {
	Key   uint64
	Ready Ready
}

// Poller is one epoll instance.
type Poller struct {
	fd  int
	f   *os.File
	raw syscall.RawConn
}

// New makes an empty poller.
func New() (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// Go's poller takes only descriptors that say they do not block.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	f := os.NewFile(uintptr(fd), "epoll")
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &Poller{fd: fd, f: f, raw: raw}, nil
}

// Close ends the poller and makes a Wait in progress fail.
func (p *Poller) Close() error { return p.f.Close() }

// Stop makes every Wait fail until Resume. What becomes ready meanwhile is told
// then.
func (p *Poller) Stop() error { return p.f.SetReadDeadline(time.Unix(1, 0)) }

// Resume undoes Stop.
func (p *Poller) Resume() error { return p.f.SetReadDeadline(time.Time{}) }

// Add watches fd for what it becomes ready for (a change is told once); what it
// is ready for now is told as well. Hup is always told.
func (p *Poller) Add(fd int, key uint64, what Ready) error {
	e := unix.EpollEvent{Events: uint32(what) | unix.EPOLLET, Fd: int32(key), Pad: int32(key >> 32)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &e))
}

// Remove stops watching fd. A descriptor that has duplicates must be removed
// before it is closed: the kernel watches what is open, not the number.
func (p *Poller) Remove(fd int) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, fd, nil))
}

// Wait blocks until something is ready and fills events from the front.
func (p *Poller) Wait(events []Event) (int, error) { return p.look(events, true) }

// Poll is Wait for what is ready now; there may be nothing.
func (p *Poller) Poll(events []Event) (int, error) { return p.look(events, false) }

func (p *Poller) look(events []Event, wait bool) (int, error) {
	var buf [128]unix.EpollEvent
	n, err := 0, error(nil)
	rerr := p.raw.Read(func(uintptr) bool {
		n, err = unix.EpollWait(p.fd, buf[:min(len(buf), len(events))], 0)
		return !wait || n != 0 && err != unix.EINTR
	})
	if err == unix.EINTR {
		n, err = 0, nil
	}
	if rerr != nil {
		return 0, fmt.Errorf("epoll: %w", rerr)
	}
	if err != nil {
		return 0, os.NewSyscallError("epoll_wait", err)
	}
	for i, e := range buf[:n] {
		events[i] = Event{Key: uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32, Ready: Ready(e.Events)}
	}
	return n, nil
}
