package untar

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

func ignoreEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

func openat2(dir int, p string, flags, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: resolve | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(dir, p, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// openIn opens p below the root, and follows links as if that were "/"; in a tree
// that is in use, as its owner does.
func (u *unpacker) openIn(p string, flags uint64) (int, error) {
	return openat2(int(u.root.Fd()), p, flags, u.beyond)
}

// openPlain opens p below the root if no part of it is a link.
func (u *unpacker) openPlain(p string, flags uint64) (int, error) {
	return openat2(int(u.root.Fd()), p, flags, u.within|unix.RESOLVE_NO_SYMLINKS)
}

// openChild opens the entry base of dir, not a link.
func (u *unpacker) openChild(dir int, base string, flags uint64) (int, error) {
	return openat2(dir, base, flags|unix.O_NOFOLLOW, u.within|unix.RESOLVE_NO_SYMLINKS)
}

// openBeneath opens the entry base of dir on the same mount, not a link.
func openBeneath(dir int, base string, flags uint64) (int, error) {
	return openat2(dir, base, flags|unix.O_NOFOLLOW, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_XDEV|unix.RESOLVE_NO_SYMLINKS)
}

func (u *unpacker) closeParent() {
	if u.parent >= 0 {
		unix.Close(u.parent)
	}
	u.parent, u.parentPath = -1, ""
}

// openParent returns a descriptor of the directory p, made if need be. It stays
// the unpacker's.
func (u *unpacker) openParent(p string) (int, error) {
	if p == "." {
		return int(u.root.Fd()), nil
	}
	if u.parent >= 0 && u.parentPath == p {
		return u.parent, nil
	}
	fd, err := u.ensureDir(p)
	if err != nil {
		return -1, err
	}
	u.closeParent()
	u.parent, u.parentPath = fd, p
	return fd, nil
}

// ensureDir opens the directory p and makes what is missing of it.
func (u *unpacker) ensureDir(p string) (int, error) {
	fd, err := u.openIn(p, unix.O_PATH|unix.O_DIRECTORY)
	if err == nil || err != unix.ENOENT && err != unix.ENOTDIR {
		return fd, err
	}
	at, done, err := u.deepest(p)
	if err != nil {
		return -1, err
	}
	for rest := strings.TrimPrefix(p[len(done):], "/"); rest != ""; {
		base, more, _ := strings.Cut(rest, "/")
		done, rest = strings.TrimPrefix(done+"/"+base, "/"), more
		next, err := u.implyDir(at, base, done)
		unix.Close(at)
		if err != nil {
			return -1, err
		}
		at = next
	}
	return at, nil
}

// deepest opens the longest beginning of p that exists as a directory.
func (u *unpacker) deepest(p string) (fd int, done string, err error) {
	for {
		p, _ = split(p)
		if p == "." {
			fd, err = u.openIn(".", unix.O_PATH|unix.O_DIRECTORY)
			return fd, "", err
		}
		fd, err = u.openIn(p, unix.O_PATH|unix.O_DIRECTORY)
		if err == nil || err != unix.ENOENT && err != unix.ENOTDIR {
			return fd, p, err
		}
	}
}

// implyDir makes and opens a directory that has no entry of its own (yet).
func (u *unpacker) implyDir(parent int, base, p string) (int, error) {
	opaque, err := u.uncover(parent, base, p)
	if err != nil {
		return -1, err
	}
	err = unix.Mkdirat(parent, base, 0755)
	if err == nil && u.live != nil {
		err = u.ownImplied(parent, base)
	}
	if err == unix.EEXIST {
		if u.live != nil || !isWhiteout(parent, base) {
			return -1, unix.ENOTDIR // a file, or a link that leads nowhere
		}
		if opaque, err = u.clear(parent, base, p); err != nil {
			return -1, err
		}
		err = unix.Mkdirat(parent, base, 0755)
	}
	if err != nil {
		return -1, err
	}
	u.result.Implied = append(u.result.Implied, p)
	fd, err := u.openChild(parent, base, unix.O_PATH|unix.O_DIRECTORY)
	if err == nil && opaque {
		err = u.markOpaque(parent, base)
		if err != nil {
			unix.Close(fd)
		}
	}
	return fd, err
}

// ownImplied gives a directory that has no entry to root.
func (u *unpacker) ownImplied(parent int, base string) error {
	uid, gid, err := u.live.Own(0, 0)
	if err != nil {
		return err
	}
	return unix.Fchownat(parent, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
}

func (u *unpacker) markOpaque(parent int, base string) error {
	fd, err := openBeneath(parent, base, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return u.setOpaque(fd)
}

// clear takes away what is at base and reports whether it was a whiteout.
func (u *unpacker) clear(parent int, base, p string) (whiteout bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, err
	}
	if u.live != nil && u.live.KeepKinds && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return false, &KindError{Path: p, Dir: true}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		whiteout = u.live == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
		if st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink == 1 {
			u.result.Disk -= taken(&st)
		}
		return whiteout, unix.Unlinkat(parent, base, 0)
	}
	if u.parent >= 0 && (u.parentPath == p || strings.HasPrefix(u.parentPath, p+"/")) {
		defer u.closeParent()
	}
	return false, removeTree(parent, base, p, nil)
}

// removeTree removes base of parent and all below, except what keep says, by
// path p from the root, and the directories that hold such.
func removeTree(parent int, base, p string, keep func(p string) bool) error {
	fd, err := openBeneath(parent, base, unix.O_RDONLY|unix.O_DIRECTORY)
	if err == unix.ENOTDIR || err == unix.ELOOP || err == unix.ENXIO {
		return unix.Unlinkat(parent, base, 0)
	}
	if err != nil {
		return err
	}
	err = emptyDir(fd, p, keep)
	unix.Close(fd)
	if err != nil {
		return err
	}
	err = unix.Unlinkat(parent, base, unix.AT_REMOVEDIR)
	if err == unix.ENOTEMPTY && keep != nil {
		return nil
	}
	return err
}

// emptyDir removes what is in the directory fd.
func emptyDir(fd int, p string, keep func(p string) bool) error {
	names, err := list(fd)
	if err != nil {
		return err
	}
	for _, n := range names {
		q := strings.TrimPrefix(p+"/"+n, "./")
		if keep != nil && keep(q) {
			// Directories of the archive itself may still hold lower files.
			if c, err := openBeneath(fd, n, unix.O_RDONLY|unix.O_DIRECTORY); err == nil {
				err = emptyDir(c, q, keep)
				unix.Close(c)
				if err != nil {
					return err
				}
			}
			continue
		}
		if err := removeTree(fd, n, q, keep); err != nil {
			return err
		}
	}
	return nil
}

func list(fd int) ([]string, error) {
	d, err := openBeneathSelf(fd)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// openBeneathSelf opens the directory fd anew, with a position of its own.
func openBeneathSelf(fd int) (*os.File, error) {
	n, err := openBeneath(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(n), "directory"), nil
}
