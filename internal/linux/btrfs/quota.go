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
	_, on, err := quotaStatus(f)
	return on, err
}

// Flags of struct btrfs_qgroup_status_item.
const (
	statusRescan       = 1 << 1
	statusInconsistent = 1 << 2
	statusSimple       = 1 << 3 // "simple quotas", Linux 6.7: what a snapshot shares is not counted
)

// quotaStatus returns the flags, if there are quota groups.
func quotaStatus(f *os.File) (flags uint64, on bool, err error) {
	items, err := search(f, quotaTree, key{0, typeQuotaOn, 0}, key{0, typeQuotaOn, 0})
	if err == unix.ENOENT || err == nil && len(items) == 0 { // there is no such tree
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	d := items[0].data // struct btrfs_qgroup_status_item: version, generation, flags, rescan
	if len(d) < 24 {
		return 0, false, fmt.Errorf("a record of %d bytes: %w", len(d), unix.EIO)
	}
	return binary.LittleEndian.Uint64(d[16:]), true, nil
}

// Counts reports whether quota groups are enabled on the file system that has path, such
// as count all that a subvolume refers to.
func Counts(path string) (counts bool, err error) {
	err = at(path, "look for quota of", func(f *os.File) error {
		flags, on, err := quotaStatus(f)
		counts = on && flags&statusSimple == 0
		return err
	})
	return counts, err
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

// Usage is what quota groups count, without the blocks that an empty subvolume has.
type Usage struct {
	Referenced int64 // bytes
	Exclusive  int64 // of these, bytes that no other subvolume refers to: 0 of a snapshot in which nothing was written
}

// Used measures a subvolume, with those in it, by their quota groups, as of the last
// commit of the file system (up to 30 s ago). It is ErrNoQuota where there are none, and
// where they do not know: while what was there before them is still being counted, or
// as the kernel has given up counting.
func Used(path string) (u Usage, err error) {
	err = at(path, "measure subvolume", func(f *os.File) error {
		flags, on, err := quotaStatus(f)
		if err != nil {
			return err
		}
		if !on || flags&(statusRescan|statusInconsistent|statusSimple) != 0 {
			return ErrNoQuota
		}
		id, err := idOf(f)
		if err != nil {
			return err
		}
		u, err = used(f, id)
		return err
	})
	return u, err
}

func used(f *os.File, id uint64) (u Usage, err error) {
	at := key{0, typeQuotaInfo, id}
	items, err := search(f, quotaTree, at, at)
	if err == unix.ENOENT || err == nil && len(items) == 0 {
		return u, ErrNoQuota
	}
	if err != nil {
		return u, err
	}
	d := items[0].data // struct btrfs_qgroup_info_item: generation, referenced, compressed, exclusive
	if len(d) < 32 {
		return u, fmt.Errorf("a record of %d bytes: %w", len(d), unix.EIO)
	}
	own, err := ownBlocks(f, id)
	if err != nil {
		return u, err
	}
	u.Referenced = max(int64(binary.LittleEndian.Uint64(d[8:]))-own, 0)
	u.Exclusive = max(int64(binary.LittleEndian.Uint64(d[24:]))-own, 0)
	below, err := children(f, id)
	if err != nil {
		return u, err
	}
	for _, child := range below {
		c, err := used(f, child)
		if err != nil {
			return u, err
		}
		u.Referenced, u.Exclusive = u.Referenced+c.Referenced, u.Exclusive+c.Exclusive
	}
	return u, nil
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
