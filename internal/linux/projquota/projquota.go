// Package projquota bounds and measures directories by project quota, which xfs
// (mounted with pquota) and ext4 (feature project, mounted with prjquota) have:
// all that is made in a directory belongs to its project. It needs CAP_SYS_ADMIN
// and Linux 5.14 (quotactl_fd). See quotactl(2), ioctl_xfs_fsgetxattr(2).
package projquota

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	sysQuotactlFD = 443

	project   = 2          // PRJQUOTA
	getQuota  = 'X'<<8 + 3 // Q_XGETQUOTA
	setLimits = 'X'<<8 + 4 // Q_XSETQLIM
	getState  = 'X'<<8 + 5 // Q_XGETQSTAT

	counted  = 1 << 4 // FS_QUOTA_PDQ_ACCT
	enforced = 1 << 5 // FS_QUOTA_PDQ_ENFD

	unit = 512 // bytes of the blocks that quota counts

	getAttr = 2<<30 | 28<<16 | 'X'<<8 | 31 // FS_IOC_FSGETXATTR
	setAttr = 1<<30 | 28<<16 | 'X'<<8 | 32 // FS_IOC_FSSETXATTR
	inherit = 0x200                        // FS_XFLAG_PROJINHERIT

	// Projects of ours are above those that people write into /etc/projid.
	firstID = 1 << 24
	tries   = 20
)

// attributes is struct fsxattr.
type attributes struct {
	flags, extent, extents, project, cow uint32
	_                                    [8]byte
}

// diskQuota is struct fs_disk_quota.
type diskQuota struct {
	version, flags                           int8
	fields                                   uint16
	id                                       uint32
	hardBlocks, softBlocks, hardInos, softIn uint64
	blocks, inodes                           uint64
	_                                        [48]byte
}

// state is the beginning of struct fs_quota_stat, with room for all of it.
type state struct {
	version int8
	flags   uint16
	_       [100]byte
}

func quotactl(f *os.File, command uintptr, id uint32, addr unsafe.Pointer) error {
	_, _, e := unix.Syscall6(sysQuotactlFD, f.Fd(), command<<8|project, uintptr(id), uintptr(addr), 0, 0)
	runtime.KeepAlive(f)
	if e != 0 {
		return e
	}
	return nil
}

func ioctl(f *os.File, request uintptr, a *attributes) error {
	_, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(a)))
	runtime.KeepAlive(f)
	if e != 0 {
		return e
	}
	return nil
}

// Enabled reports whether the file system that has dir counts projects and keeps
// them within their limits.
func Enabled(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	var s state
	err = quotactl(f, getState, 0, unsafe.Pointer(&s))
	return err == nil && s.flags&counted != 0 && s.flags&enforced != 0
}

// Begin puts empty directories of one file system into a new project, which may
// take so many bytes; 0: as many as there are.
func Begin(bytes int64, dirs ...string) (err error) {
	id := uint32(0)
	for _, dir := range dirs {
		f, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer f.Close()
		if id == 0 {
			if id, err = unused(f); err != nil {
				return fmt.Errorf("project of %s: %w", dir, err)
			}
			if err := limit(f, id, bytes); err != nil {
				return fmt.Errorf("quota of %s: %w", dir, err)
			}
		}
		var a attributes
		if err := ioctl(f, getAttr, &a); err != nil {
			return fmt.Errorf("project of %s: %w", dir, err)
		}
		a.project, a.flags = id, a.flags|inherit
		if err := ioctl(f, setAttr, &a); err != nil {
			return fmt.Errorf("project of %s: %w", dir, err)
		}
	}
	return nil
}

// unused chooses a project that nobody has files or a limit of. Two may choose
// the same one at once: one in two thousand million times.
func unused(f *os.File) (uint32, error) {
	for range tries {
		id := firstID + rand.Uint32N(1<<31)
		var q diskQuota
		err := quotactl(f, getQuota, id, unsafe.Pointer(&q))
		if errors.Is(err, unix.ENOENT) || err == nil && q.inodes == 0 && q.hardBlocks == 0 {
			return id, nil
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, errors.New("no project is free")
}

func limit(f *os.File, id uint32, bytes int64) error {
	q := diskQuota{version: 1, flags: project, fields: 1<<2 | 1<<3, id: id} // FS_DQ_BSOFT | FS_DQ_BHARD
	q.hardBlocks = uint64((bytes + unit - 1) / unit)
	q.softBlocks = q.hardBlocks
	return quotactl(f, setLimits, id, unsafe.Pointer(&q))
}

// ErrNone says that a directory is in no project of Begin.
var ErrNone = errors.New("in no project")

// Used measures the project of a directory that Begin was called for: disk
// space, and inodes. It is ErrNone for other directories.
func Used(dir string) (bytes, inodes int64, err error) {
	f, id, err := projectOf(dir)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	if id < firstID {
		return 0, 0, fmt.Errorf("%s: %w", dir, ErrNone)
	}
	var q diskQuota
	if err := quotactl(f, getQuota, id, unsafe.Pointer(&q)); err != nil {
		return 0, 0, fmt.Errorf("quota of %s: %w", dir, err)
	}
	return int64(q.blocks) * unit, int64(q.inodes), nil
}

// End takes the limit of a directory's project away: what is in it goes now. A
// directory that is in no project of Begin is no error.
func End(dir string) error {
	f, id, err := projectOf(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if id < firstID {
		return nil
	}
	return limit(f, id, 0)
}

// Free reports whether a directory is in no project, nor what will be made in it.
func Free(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	var a attributes
	err = ioctl(f, getAttr, &a)
	return err == nil && a.project == 0 && a.flags&inherit == 0
}

func projectOf(dir string) (*os.File, uint32, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, 0, err
	}
	var a attributes
	if err := ioctl(f, getAttr, &a); err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("project of %s: %w", dir, err)
	}
	return f, a.project, nil
}
