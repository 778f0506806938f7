// Package mountns gives a thread the files of somebody else, a container above
// all, and nothing else: a mount namespace of its own, in which a root and what
// is mounted in it are all there is.
//
//	view, err := mountns.Of(pidfd, wanted) // what a process sees
//	root, err := mountns.Enter(view)       // from here on "/" is its root
//
// Whatever the owner of the files does to links, directories and mounts
// meanwhile, a path that this thread resolves ends inside that root, for the
// kernel as for us: there is no way from there to the host's files. What it
// mounts and unmounts does not show.
//
// Both change the calling thread for good. It must be locked to its goroutine
// and end with it (see package confine).
package mountns

import (
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/tare-engine/tare/internal/linux/inroot"
	"github.com/tare-engine/tare/internal/linux/mount"
)

// Mount is one mount of a view.
type Mount struct {
	Path string   // where it is, absolute in the view
	Tree *os.File // detached
	// Make makes the mount point if it is missing, for Owner, and follows links to
	// it inside the view. Without, a mount whose place is gone is left out.
	Make  bool
	Owner *inroot.Owner
}

// View is a root and what is mounted in it, parents before what lies in them.
type View struct {
	Root   *os.File // detached
	Mounts []Mount
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

// Of returns what a process sees of its root, and of those mounts in it that
// are wanted: copies, which follow no later change. The thread stays in the
// namespace of the process.
func Of(pidfd *os.File, wanted func(path, fstype string) bool) (_ *View, err error) {
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
	if v.Root, err = mount.Clone("/", false); err != nil {
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
			v.Mounts = append(v.Mounts, Mount{Path: m.path, Tree: tree})
		}
	}
	return v, nil
}

// Enter gives the thread a new mount namespace with nothing but the view, and
// returns its root. No program, device or set-user-ID bit of it works there. The
// thread's umask becomes 0.
func Enter(v *View) (root *os.File, err error) {
	host, err := proc()
	if err != nil {
		return nil, err
	}
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return nil, os.NewSyscallError("unshare", err)
	}
	if err := mount.SetPropagation("/", mount.Private, true); err != nil {
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
const inertAttr = mount.NoDev | mount.NoSuid | mount.NoExec

// inert makes sure that opening a file has no effect beside its file system.
func inert(tree *os.File, recursive bool) error {
	return mount.SetAttr(tree, mount.Change{Set: inertAttr, Propagation: mount.Private, Recursive: recursive})
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
	root, err := mount.Clone("/", false)
	if err != nil {
		return nil, err
	}
	if err := mount.SetAttr(root, mount.Change{Clear: inertAttr | mount.ReadOnly, Propagation: mount.Private}); err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

// Own returns the mount namespace of the thread, for RootOf.
func Own() (*os.File, error) {
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
	if err := mount.MoveTo(root, "/"); err != nil {
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
func (m Mount) attach(root *os.File) error {
	at, err := m.place(root)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		if !m.Make {
			return nil
		}
	}
	if err != nil {
		return err
	}
	defer at.Close()
	if err := inert(m.Tree, true); err != nil {
		return err
	}
	return mount.Move(m.Tree, at)
}

func (m Mount) place(root *os.File) (*os.File, error) {
	if !m.Make {
		return inroot.OpenExact(root, m.Path, unix.O_PATH|unix.O_NOFOLLOW)
	}
	st, err := m.Tree.Stat()
	if err != nil {
		return nil, err
	}
	kind := inroot.Dir
	if !st.IsDir() {
		kind = inroot.File
	}
	t, err := inroot.Resolve(root, m.Path, inroot.Options{Make: kind, Owner: m.Owner})
	if err == nil && t.Path == "/" {
		t.File.Close()
		return nil, errors.New("the mount point is the root")
	}
	return t.File, err
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

// Missing returns the first mount of the view that has no place in its root
// yet; "" if all have.
func (v *View) Missing() (string, error) {
	for _, m := range v.Mounts {
		if v.inMount(m.Path) {
			continue
		}
		t, err := inroot.Resolve(v.Root, m.Path, inroot.Options{})
		if errors.Is(err, unix.ENOENT) {
			return m.Path, nil
		}
		if err != nil {
			return "", err
		}
		t.File.Close()
	}
	return "", nil
}

// inMount reports whether p lies in a mount of the view.
func (v *View) inMount(p string) bool {
	for _, m := range v.Mounts {
		for q := path.Dir(p); q != "/" && q != "."; q = path.Dir(q) {
			if path.Clean(m.Path) == q {
				return true
			}
		}
	}
	return false
}
