package untar

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// again runs f, which makes the entry base, and once more after taking away
// what is in the way: in an archive the later entry counts.
func (u *unpacker) again(parent int, base, p string, f func() error) (replaced bool, err error) {
	err = ignoreEINTR(f)
	if err != unix.EEXIST {
		return false, err
	}
	whiteout, err := u.clear(parent, base, p)
	if err != nil {
		return false, err
	}
	return whiteout, ignoreEINTR(f)
}

func (u *unpacker) makeFile(parent int, base, p string, h *tar.Header, r io.Reader) error {
	mode, err := u.firstMode(h)
	if err != nil {
		return err
	}
	var fd int
	_, err = u.again(parent, base, p, func() (err error) {
		fd, err = unix.Openat(parent, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		return err
	})
	if err == unix.EBUSY && u.live != nil { // a file is mounted there
		fd, err = u.openMounted(parent, base)
	}
	if err != nil {
		return err
	}
	if err := u.copyData(fd, h.Size, r); err != nil {
		unix.Close(fd)
		return err
	}
	if u.live != nil {
		return u.finisher.add(fd, h)
	}
	defer unix.Close(fd)
	if err := u.setFile(fd, h); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	u.result.Disk += taken(&st)
	return nil
}

// firstMode is what a new file has until its data is there: nothing for others,
// unless it is its last mode anyway.
func (u *unpacker) firstMode(h *tar.Header) (uint32, error) {
	if u.live == nil {
		return 0600, nil
	}
	uid, gid, err := u.ownerOf(h)
	if err != nil || uid != u.live.UID || gid != u.live.GID || h.Mode&^0777 != 0 {
		return 0600, err
	}
	return uint32(h.Mode), nil
}

// asMade reports whether a file has the owner and the mode of its entry from its
// making. It may have others: of a directory with a default ACL, or with set-group-ID.
func (u *unpacker) asMade(fd int, h *tar.Header) bool {
	if u.live == nil {
		return false
	}
	uid, gid, err := u.ownerOf(h)
	var st unix.Stat_t
	return err == nil && unix.Fstat(fd, &st) == nil && int(st.Uid) == uid && int(st.Gid) == gid && int64(st.Mode&07777) == h.Mode&07777
}

// openMounted opens a regular file that is mounted somewhere, to be written anew.
// Devices are not opened: the mounts of the tree are without.
func (u *unpacker) openMounted(parent int, base string) (int, error) {
	fd, err := u.openChild(parent, base, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = unix.EBUSY
	}
	if err == nil {
		err = unix.Ftruncate(fd, 0)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// zeroRun is the size of blocks that become holes when they are all zero.
const zeroRun = 64 << 10

var zeros [zeroRun]byte

// copyData writes size bytes of r to fd and leaves holes for zeros. Sparse
// entries come out of archive/tar with their holes filled.
func (u *unpacker) copyData(fd int, size int64, r io.Reader) error {
	var offset, end int64 // end of what was written
	for offset < size {
		n := min(size-offset, int64(len(u.buffer)))
		b := u.buffer[:n]
		if _, err := io.ReadFull(r, b); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		for len(b) > 0 {
			k := min(len(b), zeroRun)
			if k == zeroRun && b[0] == 0 && bytes.Equal(b[:k], zeros[:]) {
				if u.holes += int64(k); u.holes > maxHoles && u.live == nil {
					return inputErrorf("holes of more than %d bytes", int64(maxHoles))
				}
				b, offset = b[k:], offset+int64(k)
				continue
			}
			if k == zeroRun {
				k = dataRun(b)
			}
			if err := u.writeAt(fd, b[:k], offset); err != nil {
				return err
			}
			b, offset = b[k:], offset+int64(k)
			end = offset
		}
	}
	if end < size {
		return ignoreEINTR(func() error { return unix.Ftruncate(fd, size) })
	}
	return nil
}

// dataRun returns how many bytes of b to write at once: whole blocks up to the
// next one that is all zero.
func dataRun(b []byte) int {
	k := zeroRun
	for k+zeroRun <= len(b) && (b[k] != 0 || !bytes.Equal(b[k:k+zeroRun], zeros[:])) {
		k += zeroRun
	}
	if len(b)-k < zeroRun {
		return len(b)
	}
	return k
}

func (u *unpacker) writeAt(fd int, b []byte, offset int64) error {
	if u.result.Size += int64(len(b)); u.result.Size > u.options.Bytes {
		if u.options.Bytes == maxBytes { // nobody has said how much room there is
			return inputErrorf("more than %d bytes", int64(maxBytes))
		}
		return fmt.Errorf("the files have more than %d bytes: %w", u.options.Bytes, unix.ENOSPC)
	}
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, offset)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b, offset = b[n:], offset+int64(n)
	}
	return nil
}

func (u *unpacker) makeDir(parent int, base, p string, h *tar.Header) error {
	err := unix.Mkdirat(parent, base, 0700)
	opaque := false
	if err == unix.EEXIST {
		var st unix.Stat_t
		if err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if u.live != nil && u.live.KeepKinds {
				return &KindError{Path: p}
			}
			if opaque, err = u.clear(parent, base, p); err != nil {
				return err
			}
			err = unix.Mkdirat(parent, base, 0700)
		} else {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	fd, err := u.openChild(parent, base, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if opaque { // it replaces what the archive itself whited out
		if err := u.setOpaque(fd); err != nil {
			return err
		}
	}
	return u.setDir(fd, p, h)
}

func (u *unpacker) makeLink(parent int, base, p string, h *tar.Header) error {
	target := clean(h.Linkname)
	if target == p {
		return nil
	}
	if err := u.checkName(target); err != nil {
		return err
	}
	dir, name := split(target)
	from, err := u.openIn(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return inputErrorf("hard link to %.300q: %w", h.Linkname, err)
	}
	defer unix.Close(from)
	_, err = u.again(parent, base, p, func() error { return unix.Linkat(from, name, parent, base, 0) })
	if err != nil {
		return inputErrorf("hard link to %.300q: %w", h.Linkname, err)
	}
	return nil
}

func (u *unpacker) makeSymlink(parent int, base, p string, h *tar.Header) error {
	_, err := u.again(parent, base, p, func() error { return unix.Symlinkat(h.Linkname, parent, base) })
	if err != nil {
		return err
	}
	return u.setNode(parent, base, h)
}

func (u *unpacker) makeNode(parent int, base, p string, h *tar.Header) error {
	mode := uint32(h.Mode & 07777)
	switch h.Typeflag {
	case tar.TypeChar:
		mode |= unix.S_IFCHR
	case tar.TypeBlock:
		mode |= unix.S_IFBLK
	default:
		mode |= unix.S_IFIFO
	}
	if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
		return inputErrorf("device %d:%d", h.Devmajor, h.Devminor)
	}
	dev := unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	if h.Typeflag == tar.TypeChar && dev == 0 {
		return nil // overlayfs would take it for a whiteout, and no driver answers to it
	}
	_, err := u.again(parent, base, p, func() error { return unix.Mknodat(parent, base, mode, int(dev)) })
	if err != nil {
		return err
	}
	if err := unix.Fchmodat(parent, base, uint32(h.Mode&07777), 0); err != nil {
		return err
	}
	return u.setNode(parent, base, h)
}

// setFile sets owner, mode, attributes and times through a descriptor. The
// order counts: chown clears set-user-ID bits and file capabilities.
func (u *unpacker) setFile(fd int, h *tar.Header) error {
	if err := u.setOwner(fd, h); err != nil {
		return err
	}
	return unix.UtimesNanoAt(fd, "", times(h), unix.AT_EMPTY_PATH)
}

func (u *unpacker) setOwner(fd int, h *tar.Header) error {
	if !u.asMade(fd, h) {
		uid, gid, err := u.ownerOf(h)
		if err != nil {
			return err
		}
		if err := unix.Fchown(fd, uid, gid); err != nil {
			return err
		}
		if err := unix.Fchmod(fd, uint32(h.Mode&07777)); err != nil {
			return err
		}
	}
	return u.eachXattr(h, func(name string, value []byte) error {
		return unix.Fsetxattr(fd, name, value, 0)
	})
}

// ownerOf is who a file belongs to.
func (u *unpacker) ownerOf(h *tar.Header) (uid, gid int, err error) {
	if u.live == nil {
		return h.Uid, h.Gid, nil
	}
	return u.live.Own(h.Uid, h.Gid)
}

func (u *unpacker) setDir(fd int, p string, h *tar.Header) error {
	if err := u.setOwner(fd, h); err != nil {
		return err
	}
	ts := times(h)
	u.dirs = append(u.dirs, dirTimes{p, time.Unix(ts[0].Unix()), time.Unix(ts[1].Unix())})
	return nil
}

// setDirTimes runs at the end, the last entry of a directory counts.
func (u *unpacker) setDirTimes() error {
	for _, d := range u.dirs {
		fd, err := u.openPlain(d.path, unix.O_PATH|unix.O_DIRECTORY)
		if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
			continue // removed or replaced by a later entry
		}
		if err != nil {
			return err
		}
		ts := []unix.Timespec{timespec(d.atime), timespec(d.mtime)}
		err = unix.UtimesNanoAt(fd, "", ts, unix.AT_EMPTY_PATH)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// taken is the space that a file takes, as du(1) counts it: the unit of st_blocks
// is the same on all file systems.
func taken(st *unix.Stat_t) int64 { return st.Blocks * 512 }

// measureDirs adds up what the directories take, when they have all their
// entries.
func (u *unpacker) measureDirs() {
	paths := map[string]struct{}{}
	for _, d := range u.dirs {
		paths[d.path] = struct{}{}
	}
	for _, p := range u.result.Implied {
		paths[p] = struct{}{}
	}
	for p := range paths {
		fd, err := u.openPlain(p, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil { // removed or replaced by a later entry
			continue
		}
		var st unix.Stat_t
		if unix.Fstatat(fd, "", &st, unix.AT_EMPTY_PATH) == nil {
			u.result.Disk += taken(&st)
		}
		unix.Close(fd)
	}
}

// setNode is setFile for what must not be opened: links, devices, FIFOs.
func (u *unpacker) setNode(parent int, base string, h *tar.Header) error {
	uid, gid, err := u.ownerOf(h)
	if err != nil {
		return err
	}
	if err := unix.Fchownat(parent, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeSymlink { // chown took set-user-ID bits
		if err := unix.Fchmodat(parent, base, uint32(h.Mode&07777), 0); err != nil {
			return err
		}
	}
	err = u.eachXattr(h, func(name string, value []byte) error {
		err := unix.Lsetxattr(u.fds+strconv.Itoa(parent)+"/"+base, name, value, 0)
		if err == unix.EPERM { // user.* exists on files and directories only
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(parent, base, times(h), unix.AT_SYMLINK_NOFOLLOW)
}

func times(h *tar.Header) []unix.Timespec {
	atime := h.AccessTime
	if atime.IsZero() {
		atime = h.ModTime
	}
	return []unix.Timespec{timespec(atime), timespec(h.ModTime)}
}

func timespec(t time.Time) unix.Timespec {
	if t.IsZero() {
		t = time.Unix(0, 0)
	}
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

// eachXattr calls set for the attributes that a layer may bring along.
func (u *unpacker) eachXattr(h *tar.Header, set func(name string, value []byte) error) error {
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok || !xattrAllowed(name) {
			continue
		}
		call := func() error { return set(name, []byte(value)) }
		if u.live != nil {
			v, err := u.live.Attr(name, []byte(value))
			if err != nil {
				return err
			}
			if v == nil {
				continue
			}
			call = func() error { return set(name, v) }
		} else if strings.HasPrefix(name, trustedPrefix) {
			call = func() error { return u.options.Raise(func() error { return set(name, []byte(value)) }) }
		}
		if err := call(); err != nil && err != unix.EOPNOTSUPP {
			return inputErrorf("attribute %.300q: %w", name, err)
		}
	}
	return nil
}

// xattrAllowed keeps attributes out that would steer overlayfs or a security
// module: of security.* only file capabilities are the image's business.
func xattrAllowed(name string) bool {
	for _, p := range []string{"trusted.overlay.", "user.overlay.", "user.fuseoverlayfs."} {
		if strings.HasPrefix(name, p) {
			return false
		}
	}
	switch name {
	case "security.capability", "system.posix_acl_access", "system.posix_acl_default":
		return true
	}
	return strings.HasPrefix(name, "user.") || strings.HasPrefix(name, trustedPrefix)
}
