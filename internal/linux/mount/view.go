package mount

import (
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// A View is what a thread can be given as all the files there are: the root of
// somebody else, a container above all, and what is mounted in it.
//
//	view, err := mount.ViewOf(pidfd, wanted) // what a process sees
//	root, err := view.Enter()                // from here on "/" is its root
//
// Whatever the owner of the files does to links, directories and mounts
// meanwhile, a path that this thread resolves ends inside that root, for the
// kernel as for us: there is no way from there to the host's files. What it
// mounts and unmounts does not show.
//
// Both change the calling thread for good. It must be locked to its goroutine
// and end with it (see package confine).
type View struct {
	Root   *os.File // detached
	Mounts []Placed // parents before what lies in them
}

// Placed is one mount of a view.
type Placed struct {
	Path string   // where it is, absolute in the view
	Tree *os.File // detached
	// Place finds, or makes, the mount point in the root. nil: it is at Path, no part
	// of which is a link; where that is gone, the mount is left out.
	Place func(root *os.File) (*os.File, error)
}

// Close gives up what the view holds. A thread that has entered it keeps it.
func (v *View) Close() {
	if v.Root != nil {
		v.Root.Close()
	}
	for _, m := range v.Mounts {
		m.Tree.Close()
	}
}

// FDs is the path by which a thread that has entered a view finds the
// descriptors of the process: its working directory is that directory of the
// host's procfs, which no path of the view leads to.
const FDs = "./"

// proc is the host's procfs, for threads that cannot see it.
var proc = sync.OnceValues(func() (*os.File, error) { return os.OpenFile("/proc", unix.O_PATH|unix.O_DIRECTORY, 0) })

// ViewOf returns what a process sees of its root, and of those mounts in it that
// are wanted: copies, which follow no later change. The thread stays in the
// namespace of the process.
func ViewOf(pidfd *os.File, wanted func(path, fstype string) bool) (_ *View, err error) {
	host, err := proc()
	if err != nil {
		return nil, err
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return nil, os.NewSyscallError("unshare", err)
	}
	err = unix.Setns(int(pidfd.Fd()), unix.CLONE_NEWNS)
	runtime.KeepAlive(pidfd)
	if err != nil {
		return nil, os.NewSyscallError("setns", err)
	}
	list, err := mounts(host)
	if err != nil {
		return nil, err
	}
	v := &View{}
	defer func() {
		if err != nil {
			v.Close()
		}
	}()
	if v.Root, err = Clone("/", false); err != nil {
		return nil, err
	}
	for _, m := range list {
		if m.path == "/" || !wanted(m.path, m.fstype) {
			continue
		}
		tree, err := m.clone()
		if err != nil {
			return nil, err
		}
		if tree != nil {
			v.Mounts = append(v.Mounts, Placed{Path: m.path, Tree: tree})
		}
	}
	return v, nil
}

// Enter gives the thread a new mount namespace with nothing but the view, and
// returns its root. No program, device or set-user-ID bit of it works there. The
// thread's umask becomes 0.
func (v *View) Enter() (root *os.File, err error) {
	host, err := proc()
	if err != nil {
		return nil, err
	}
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return nil, os.NewSyscallError("unshare", err)
	}
	if err := SetPropagation("/", Private, true); err != nil {
		return nil, err
	}
	if err := inert(v.Root, false); err != nil {
		return nil, err
	}
	if err := pivot(v.Root); err != nil {
		return nil, err
	}
	unix.Umask(0) // the thread's: it shares it with no other
	if root, err = os.OpenFile("/", unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
		return nil, err
	}
	for _, m := range v.Mounts {
		if err := m.attach(root); err != nil {
			root.Close()
			return nil, fmt.Errorf("mount %s: %w", m.Path, err)
		}
	}
	if err := toFDs(host); err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

// Attributes of the mounts of a view, which Clear takes from one that is to be
// used for something else.
const inertAttr = NoDev | NoSuid | NoExec

// inert makes sure that opening a file has no effect beside its file system.
func inert(tree *os.File, recursive bool) error {
	return SetAttr(tree, Change{Set: inertAttr, Propagation: Private, Recursive: recursive})
}

// RootOf returns a copy of the root mount of a view that another thread has
// entered, of which ns is the namespace, without what Enter has done to it. It
// is to be called on a thread of its own, too.
func RootOf(ns *os.File) (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return nil, os.NewSyscallError("unshare", err)
	}
	err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS)
	runtime.KeepAlive(ns)
	if err != nil {
		return nil, os.NewSyscallError("setns", err)
	}
	root, err := Clone("/", false)
	if err != nil {
		return nil, err
	}
	if err := SetAttr(root, Change{Clear: inertAttr | ReadOnly, Propagation: Private}); err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

// OwnNamespace returns the mount namespace of the thread, for RootOf.
func OwnNamespace() (*os.File, error) {
	host, err := proc()
	if err != nil {
		return nil, err
	}
	fd, err := unix.Openat(int(host.Fd()), "thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/proc/thread-self/ns/mnt", Err: err}
	}
	return os.NewFile(uintptr(fd), "mount namespace"), nil
}

// pivot makes a detached mount the root of the thread's namespace and lets go
// of all else.
func pivot(root *os.File) error {
	if err := MoveTo(root, "/"); err != nil {
		return err
	}
	if err := unix.Fchdir(int(root.Fd())); err != nil {
		return os.NewSyscallError("fchdir", err)
	}
	runtime.KeepAlive(root)
	if err := unix.PivotRoot(".", "."); err != nil {
		return os.NewSyscallError("pivot_root", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return os.NewSyscallError("umount2", err)
	}
	return os.NewSyscallError("chdir", unix.Chdir("/"))
}

// attach mounts m at its place in the root of the thread.
func (m Placed) attach(root *os.File) error {
	place := m.Place
	if place == nil {
		place = m.exact
	}
	at, err := place(root)
	if err != nil || at == nil {
		return err
	}
	defer at.Close()
	if err := inert(m.Tree, true); err != nil {
		return err
	}
	return Move(m.Tree, at)
}

// exact opens the mount's path in the root; nil: it is not there any more.
func (m Placed) exact(root *os.File) (*os.File, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS}
	for {
		fd, err := unix.Openat2(int(root.Fd()), m.Path, &how)
		runtime.KeepAlive(root)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), m.Path), nil
		case unix.EAGAIN, unix.EINTR:
		case unix.ENOENT, unix.ENOTDIR, unix.ELOOP:
			return nil, nil
		default:
			return nil, &os.PathError{Op: "open", Path: m.Path, Err: err}
		}
	}
}

// toFDs makes FDs true.
func toFDs(host *os.File) error {
	fd, err := unix.Openat(int(host.Fd()), "self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/proc/self/fd", Err: err}
	}
	defer unix.Close(fd)
	return os.NewSyscallError("fchdir", unix.Fchdir(fd))
}
