// Package btrfs makes, copies and deletes subvolumes of btrfs, and limits and
// measures them by quota groups. It needs CAP_SYS_ADMIN. The interface is that of
// linux/btrfs.h.
package btrfs

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// firstInode is the inode of a subvolume's root directory.
const firstInode = 256

// On reports whether path is on btrfs.
func On(path string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return false, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return st.Type == unix.BTRFS_SUPER_MAGIC, nil
}

// IsSubvolume reports whether path is the root directory of a subvolume.
func IsSubvolume(path string) (bool, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return false, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	if st.Ino != firstInode || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return false, nil
	}
	return On(path)
}

// Requests of ioctl(2), with the sizes of what they take.
const (
	subvolCreate  = 1<<30 | 4096<<16 | 0x9418 // BTRFS_IOC_SUBVOL_CREATE_V2
	snapCreate    = 1<<30 | 4096<<16 | 0x9417 // BTRFS_IOC_SNAP_CREATE_V2
	snapDestroy   = 1<<30 | 4096<<16 | 0x943f // BTRFS_IOC_SNAP_DESTROY_V2, Linux 5.7
	treeSearch    = 3<<30 | 4096<<16 | 0x9411 // BTRFS_IOC_TREE_SEARCH
	inoLookup     = 3<<30 | 4096<<16 | 0x9412 // BTRFS_IOC_INO_LOOKUP
	fsInfo        = 2<<30 | 1024<<16 | 0x941f // BTRFS_IOC_FS_INFO
	quotaControl  = 3<<30 | 16<<16 | 0x9428   // BTRFS_IOC_QUOTA_CTL
	qgroupCreate  = 1<<30 | 16<<16 | 0x942a   // BTRFS_IOC_QGROUP_CREATE
	qgroupLimit   = 2<<30 | 48<<16 | 0x942b   // BTRFS_IOC_QGROUP_LIMIT
	specByID      = 1 << 4                    // BTRFS_SUBVOL_SPEC_BY_ID
	nameMax       = 255
	tries         = 10
	rootTree      = 1
	quotaTree     = 8
	typeRoot      = 132
	typeRootRef   = 156
	typeQuotaOn   = 240
	typeQuotaInfo = 242
)

// volArgs is struct btrfs_ioctl_vol_args_v2.
type volArgs struct {
	fd    int64
	_     uint64
	flags uint64
	_     [4]uint64
	name  [4040]byte // or the ID of a subvolume, with specByID
}

func ioctl[T any](dir *os.File, request uintptr, arg *T) error {
	for {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), request, uintptr(unsafe.Pointer(arg)))
		runtime.KeepAlive(dir)
		switch e {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return e
		}
	}
}

// Create makes an empty subvolume, of mode 0755 without what the umask takes.
func Create(path string) error {
	return in("create subvolume", path, func(dir *os.File, a *volArgs) error { return ioctl(dir, subvolCreate, a) })
}

// Snapshot makes the subvolume to, which has what from has: its data is shared
// until one of them changes it. Of subvolumes in from, it has empty directories.
func Snapshot(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	return in("snapshot subvolume", to, func(dir *os.File, a *volArgs) error {
		a.fd = int64(src.Fd())
		return ioctl(dir, snapCreate, a)
	})
}

// in calls f with the directory of path and arguments that have its name.
func in(op, path string, f func(*os.File, *volArgs) error) error {
	name := filepath.Base(path)
	if len(name) > nameMax {
		return &os.PathError{Op: op, Path: path, Err: unix.ENAMETOOLONG}
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	var a volArgs
	copy(a.name[:], name)
	if err := f(dir, &a); err != nil {
		return &os.PathError{Op: op, Path: path, Err: err}
	}
	return nil
}

// Delete deletes a subvolume with all subvolumes in it, whoever has files of
// them open or mounted. The space is given back in the background.
func Delete(path string) error {
	sub, err := os.Open(path)
	if err != nil {
		return err
	}
	id, err := idOf(sub)
	sub.Close()
	if err != nil {
		return &os.PathError{Op: "look up subvolume", Path: path, Err: err}
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := deleteID(dir, id); err != nil {
		return &os.PathError{Op: "delete subvolume", Path: path, Err: err}
	}
	return nil
}

// deleteID deletes those in it first. Who has it may make another one meanwhile.
func deleteID(dir *os.File, id uint64) error {
	for try := 1; ; try++ {
		below, err := children(dir, id)
		if err != nil {
			return err
		}
		for _, child := range below {
			if err := deleteID(dir, child); err != nil {
				return err
			}
		}
		a := volArgs{flags: specByID}
		*(*uint64)(unsafe.Pointer(&a.name)) = id
		err = ioctl(dir, snapDestroy, &a)
		switch {
		case err == unix.ENOENT: // somebody else did
			return nil
		case err == unix.ENOTEMPTY && try < tries:
			continue
		case err != nil:
			return err
		}
		// Its quota group stays on kernels before 6.11; those since then delete it when
		// the space is free, and call it busy until then.
		group := [2]uint64{0, id}
		_ = ioctl(dir, qgroupCreate, &group)
		return nil
	}
}

// idOf is the ID of the subvolume that an open directory belongs to.
func idOf(f *os.File) (uint64, error) {
	var a struct {
		tree, object uint64
		name         [4080]byte
	}
	a.object = firstInode
	err := ioctl(f, inoLookup, &a)
	return a.tree, err
}

// Nested reports whether there are subvolumes in a subvolume.
func Nested(path string) (nested bool, err error) {
	err = at(path, "look for subvolumes in", func(f *os.File) error {
		id, err := idOf(f)
		if err != nil {
			return err
		}
		below, err := children(f, id)
		nested = len(below) > 0
		return err
	})
	return nested, err
}

// children are the IDs of the subvolumes in a subvolume.
func children(dir *os.File, id uint64) (ids []uint64, err error) {
	from := key{id, typeRootRef, 0}
	for {
		items, err := search(dir, rootTree, from, key{id, typeRootRef, ^uint64(0)})
		if err != nil || len(items) == 0 {
			return ids, err
		}
		for _, it := range items {
			ids = append(ids, it.offset)
		}
		last := items[len(items)-1].key
		if last.offset == ^uint64(0) {
			return ids, nil
		}
		from.offset = last.offset + 1
	}
}

// key is where an item stands in a tree.
type key struct {
	object uint64
	kind   uint32
	offset uint64
}

type item struct {
	key
	data []byte
}

// searchArgs is struct btrfs_ioctl_search_args.
type searchArgs struct {
	tree                 uint64
	minObject, maxObject uint64
	minOffset, maxOffset uint64
	_, maxTransID        uint64
	minKind, maxKind     uint32
	items, _             uint32
	_                    [4]uint64
	buf                  [3992]byte
}

// searchHeader is struct btrfs_ioctl_search_header, in front of each item.
type searchHeader struct {
	transID, object, offset uint64
	kind, size              uint32
}

// search returns the first items of a tree from one key to another, as many as
// the kernel hands over at once. Preconditions: both keys have one kind and object,
// or one kind that no other lies between.
func search(dir *os.File, tree uint64, from, to key) ([]item, error) {
	a := searchArgs{
		tree: tree, minObject: from.object, maxObject: to.object, minOffset: from.offset, maxOffset: to.offset,
		maxTransID: ^uint64(0), minKind: from.kind, maxKind: to.kind, items: 4096,
	}
	if err := ioctl(dir, treeSearch, &a); err != nil {
		return nil, err
	}
	var all []item
	rest := a.buf[:]
	for range a.items {
		const size = int(unsafe.Sizeof(searchHeader{}))
		if len(rest) < size {
			break
		}
		h := *(*searchHeader)(unsafe.Pointer(&rest[0]))
		end := size + int(h.size)
		if end > len(rest) {
			return nil, fmt.Errorf("an item of %d bytes: %w", h.size, unix.EIO)
		}
		if h.kind == from.kind {
			all = append(all, item{key{h.object, h.kind, h.offset}, rest[size:end]})
		}
		rest = rest[end:]
	}
	return all, nil
}
