// Package mount wraps the kernel's mount interface of descriptors.
//
// A mount is made detached, is given its attributes while nobody can see it,
// and is then moved to its place, which is a descriptor too:
//
//	fs, err := mount.OpenFS("tmpfs")
//	fs.SetString("mode", "0755")
//	m, err := fs.Mount(mount.NoSuid | mount.NoDev) // detached; gone when m is closed
//	err = mount.Move(m, target)                    // target: O_PATH descriptor
//
// A descriptor of an existing tree comes from [Clone] (a copy, detached) or
// [Open] (the mount itself). Path strings appear only where the caller trusts
// them. All of it exists since kernel 5.2; [SetAttr] has a
// fall-back for those before 5.12.
package mount

import (
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Attr are attributes of one mount, as opposed to its file system.
type Attr uint64

// Attributes. The access time ones exclude each other: with none set access
// times are relative.
const (
	ReadOnly    Attr = unix.MOUNT_ATTR_RDONLY
	NoSuid      Attr = unix.MOUNT_ATTR_NOSUID
	NoDev       Attr = unix.MOUNT_ATTR_NODEV
	NoExec      Attr = unix.MOUNT_ATTR_NOEXEC
	NoAtime     Attr = unix.MOUNT_ATTR_NOATIME
	StrictAtime Attr = unix.MOUNT_ATTR_STRICTATIME
	NoDirAtime  Attr = unix.MOUNT_ATTR_NODIRATIME
	NoSymFollow Attr = unix.MOUNT_ATTR_NOSYMFOLLOW
	AtimeMask   Attr = unix.MOUNT_ATTR__ATIME // to be cleared before one of them is set
	idMap       Attr = unix.MOUNT_ATTR_IDMAP
)

// Propagation says what a mount shares with its peers.
type Propagation uint64

// Propagation types; zero leaves it as it is.
const (
	Private    Propagation = unix.MS_PRIVATE
	Slave      Propagation = unix.MS_SLAVE
	Shared     Propagation = unix.MS_SHARED
	Unbindable Propagation = unix.MS_UNBINDABLE
)

// Change is a change of a mount's attributes.
type Change struct {
	Set, Clear  Attr
	Propagation Propagation
	UserNS      *os.File // map ids by this user namespace; only once, only detached
	Recursive   bool     // all mounts below as well
}

// SetAttr changes the mount m, which may be detached; kernels before 5.12 can
// do it only to a detached one.
func SetAttr(m *os.File, c Change) error {
	if Legacy() {
		return setAttrLegacy(m, c)
	}
	a := unix.MountAttr{Attr_set: uint64(c.Set), Attr_clr: uint64(c.Clear), Propagation: uint64(c.Propagation)}
	if c.UserNS != nil {
		a.Attr_set |= uint64(idMap)
		a.Userns_fd = uint64(c.UserNS.Fd())
	}
	flags := uint(unix.AT_EMPTY_PATH)
	if c.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	err := unix.MountSetattr(int(m.Fd()), "", flags, &a)
	runtime.KeepAlive(m)
	if err != nil {
		return fmt.Errorf("mount_setattr %s: %w", m.Name(), err)
	}
	return nil
}

// Clone returns a detached copy of the tree at path: the one mount, or with
// recursive all mounts below it too. A symbolic link at the end is followed.
func Clone(path string, recursive bool) (*os.File, error) {
	return openTree(unix.AT_FDCWD, path, cloneFlags(recursive))
}

// CloneOf returns a detached copy of the tree that f (any descriptor, O_PATH
// too) is the root of. Before kernel 6.15 f's mount must not be detached.
func CloneOf(f *os.File, recursive bool) (*os.File, error) {
	m, err := openTree(int(f.Fd()), "", cloneFlags(recursive)|unix.AT_EMPTY_PATH)
	runtime.KeepAlive(f)
	return m, err
}

func cloneFlags(recursive bool) uint {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	return flags
}

func openTree(dir int, path string, flags uint) (*os.File, error) {
	fd, err := unix.OpenTree(dir, path, flags)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Move attaches the mount m (detached, or elsewhere in this namespace) to the
// file or directory that target is a descriptor of. No path is resolved.
func Move(m, target *os.File) error {
	err := unix.MoveMount(int(m.Fd()), "", int(target.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	runtime.KeepAlive(m)
	runtime.KeepAlive(target)
	if err != nil {
		return fmt.Errorf("move_mount %s to %s: %w", m.Name(), target.Name(), err)
	}
	return nil
}

// MoveTo attaches the mount m to a path that the caller trusts.
func MoveTo(m *os.File, path string) error {
	err := unix.MoveMount(int(m.Fd()), "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
	runtime.KeepAlive(m)
	if err != nil {
		return fmt.Errorf("move_mount %s to %s: %w", m.Name(), path, err)
	}
	return nil
}

// Same reports whether two descriptors lie on the same mount. Kernel 5.8.
func Same(a, b *os.File) (bool, error) {
	x, err := idOf(a)
	if err != nil {
		return false, err
	}
	y, err := idOf(b)
	return x == y, err
}

func idOf(f *os.File) (uint64, error) {
	var st unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st)
	runtime.KeepAlive(f)
	if err != nil {
		return 0, &os.PathError{Op: "statx", Path: f.Name(), Err: err}
	}
	return st.Mnt_id, nil
}

// Unmount takes away the topmost mount at path, unless it is in use: EBUSY.
func Unmount(path string) error {
	if err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW); err != nil {
		return &os.PathError{Op: "umount", Path: path, Err: err}
	}
	return nil
}

// Detach takes the mount at the trusted path away, at once for new users of
// the path, when the last user is gone for the file system. A path that is not
// a mount is no error: it is as asked for.
func Detach(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return &os.PathError{Op: "umount", Path: path, Err: err}
	}
	return nil
}

// SetPropagation changes the mount at the trusted path, by the older call.
func SetPropagation(path string, p Propagation, recursive bool) error {
	flags := uintptr(p)
	if recursive {
		flags |= unix.MS_REC
	}
	if err := unix.Mount("", path, "", flags, ""); err != nil {
		return &os.PathError{Op: "change propagation of", Path: path, Err: err}
	}
	return nil
}

// TakesMountsDetached reports whether something can be mounted in a detached
// tree. Kernel 6.15.
var TakesMountsDetached = sync.OnceValue(func() bool {
	tree, err := newTmpfs()
	if err != nil {
		return false
	}
	defer tree.Close()
	other, err := newTmpfs()
	if err != nil {
		return false
	}
	defer other.Close()
	return Move(other, tree) == nil
})

func newTmpfs() (*os.File, error) {
	fs, err := OpenFS("tmpfs")
	if err != nil {
		return nil, err
	}
	defer fs.Close()
	return fs.Mount(0)
}
