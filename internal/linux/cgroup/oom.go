package cgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// OOM tells when a group runs out of memory. Its descriptor is for a poller:
// ready to read, or with an urgent condition, means that Happened is to be
// asked. It is to be closed before the group is removed.
type OOM struct {
	fd    int
	event func(fd int) (bool, error)
}

// FD is the descriptor to be polled. The OOM owns it.
func (o *OOM) FD() int { return o.fd }

// Happened reports whether the group has run out of memory since it was last
// asked. It does not block.
func (o *OOM) Happened() (bool, error) { return o.event(o.fd) }

// Close stops watching.
func (o *OOM) Close() error { return os.NewSyscallError("close", unix.Close(o.fd)) }

// WatchOOM begins to watch the group. What has happened before is not told. A
// group without memory controller is an error (fs.ErrNotExist).
func (g *Group) WatchOOM() (*OOM, error) { return g.tree.watchOOM(g) }

func (absent) watchOOM(*Group) (*OOM, error) { return nil, os.ErrNotExist }

// watchOOM has the kernel count on an eventfd (Documentation/admin-guide/
// cgroup-v1/memory.rst, "OOM Control"). It counts the removal of the group too.
func (t *v1) watchOOM(g *Group) (_ *OOM, err error) {
	d, ok := g.dir("memory")
	if !ok {
		return nil, fmt.Errorf("cgroup %s: memory controller: %w", g.path, fs.ErrNotExist)
	}
	control, err := os.Open(d.path + "/memory.oom_control")
	if err != nil {
		return nil, err
	}
	defer control.Close()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	if err := write(d.path, "cgroup.event_control", fmt.Sprintf("%d %d", fd, control.Fd())); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &OOM{fd: fd, event: func(fd int) (bool, error) {
		var n [8]byte
		switch _, err := unix.Read(fd, n[:]); {
		case err == unix.EAGAIN || err == unix.EINTR:
			return false, nil
		case err != nil:
			return false, os.NewSyscallError("read eventfd", err)
		}
		return binary.NativeEndian.Uint64(n[:]) > 0 && exists(d.path, "memory.oom_control"), nil
	}}, nil
}

// watchOOM keeps memory.events open: each change of it wakes who polls it, as
// an urgent condition, until it is read again (fs/kernfs: kernfs_notify).
func (t *v2) watchOOM(g *Group) (*OOM, error) {
	fd, err := unix.Open(g.dirs[0].path+"/memory.events", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: g.dirs[0].path + "/memory.events", Err: err}
	}
	last, err := oomCount(fd)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &OOM{fd: fd, event: func(fd int) (bool, error) {
		now, err := oomCount(fd)
		more := now > last
		last = max(now, last)
		return more, err
	}}, nil
}

// oomCount reads the number of kills from an open memory.events, and arms the
// next notification. A group that is gone has had none.
func oomCount(fd int) (uint64, error) {
	var buf [512]byte
	n, err := unix.Pread(fd, buf[:], 0)
	if err == unix.ENODEV {
		return 0, nil
	}
	if err != nil {
		return 0, os.NewSyscallError("read memory.events", err)
	}
	return parseFlat(string(buf[:n]))["oom_kill"], nil
}
