package btrfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNoQuota is returned where quota groups are not enabled.
var ErrNoQuota = errors.New("quota groups are not enabled")

// EnableQuota turns quota groups on for the whole file system that has path; it
// is no error if they are. What is there already is counted in the background.
func EnableQuota(path string) error {
	return at(path, "enable quota of", func(f *os.File) error {
		if on, err := quotaOn(f); on || err != nil {
			return err
		}
		enable := [2]uint64{1, 0} // BTRFS_QUOTA_CTL_ENABLE
		return ioctl(f, quotaControl, &enable)
	})
}

func quotaOn(f *os.File) (bool, error) {
	items, err := search(f, quotaTree, key{0, typeQuotaOn, 0}, key{0, typeQuotaOn, 0})
	if err == unix.ENOENT { // there is no such tree
		return false, nil
	}
	return len(items) > 0, err
}

// limitArgs is struct btrfs_ioctl_qgroup_limit_args.
type limitArgs struct {
	_                 uint64 // the group: 0 is that of the open subvolume
	flags, referenced uint64
	_                 [3]uint64
}

// Limit bounds the bytes that a subvolume refers to, those it shares with others
// among them. Quota groups must be enabled.
func Limit(path string, bytes int64) error {
	return at(path, "limit subvolume", func(f *os.File) error {
		a := limitArgs{flags: 1, referenced: uint64(bytes)} // BTRFS_QGROUP_LIMIT_MAX_RFER
		err := ioctl(f, qgroupLimit, &a)
		if err == unix.ENOTCONN {
			return ErrNoQuota
		}
		return err
	})
}

// Usage is what a quota group counts.
type Usage struct {
	Referenced int64 // bytes
	Exclusive  int64 // of these, bytes that no other subvolume refers to: 0 of a snapshot in which nothing was written
}

// Used measures a subvolume by its quota group, as of the last commit of the
// file system (up to 30 s ago). It is ErrNoQuota where there are none.
func Used(path string) (u Usage, err error) {
	err = at(path, "measure subvolume", func(f *os.File) error {
		id, err := idOf(f)
		if err != nil {
			return err
		}
		at := key{0, typeQuotaInfo, id}
		items, err := search(f, quotaTree, at, at)
		if err == unix.ENOENT || err == nil && len(items) == 0 {
			return ErrNoQuota
		}
		if err != nil {
			return err
		}
		d := items[0].data // struct btrfs_qgroup_info_item: generation, referenced, compressed, exclusive
		if len(d) < 32 {
			return fmt.Errorf("a record of %d bytes: %w", len(d), unix.EIO)
		}
		own, err := ownBlocks(f, id)
		if err != nil {
			return err
		}
		u = Usage{int64(binary.LittleEndian.Uint64(d[8:])), max(int64(binary.LittleEndian.Uint64(d[24:]))-own, 0)}
		return nil
	})
	return u, err
}

// ownBlocks are the bytes that a snapshot has of its own when only its root
// directory has been touched: one block of each level of its tree.
func ownBlocks(f *os.File, id uint64) (int64, error) {
	var info [1024]byte // struct btrfs_ioctl_fs_info_args
	if err := ioctl(f, fsInfo, &info); err != nil {
		return 0, err
	}
	items, err := search(f, rootTree, key{id, typeRoot, 0}, key{id, typeRoot, ^uint64(0)})
	if err != nil {
		return 0, err
	}
	const level = 238 // in struct btrfs_root_item
	if len(items) == 0 || len(items[0].data) <= level {
		return 0, fmt.Errorf("the record of subvolume %d: %w", id, unix.EIO)
	}
	return int64(binary.LittleEndian.Uint32(info[32:])) * (1 + int64(items[0].data[level])), nil
}

func at(path, op string, f func(*os.File) error) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := f(dir); err != nil {
		return &os.PathError{Op: op, Path: path, Err: err}
	}
	return nil
}
