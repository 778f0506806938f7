package untar

import (
	"archive/tar"
	"io"

	"golang.org/x/sys/unix"
)

// maxAufsName is the longest name of which there can be a whiteout.
const maxAufsName = 255 - len(whiteoutPrefix)

// whiteoutFile makes the file that takes name away from the layers below, unless
// the archive has the name too: then it concerns those below only.
func (u *unpacker) whiteoutFile(dir, name string) error {
	if len(name) > maxAufsName {
		return aufsNameError(name)
	}
	parent, err := u.openParent(dir)
	if err != nil {
		return err
	}
	fd, err := openBeneath(parent, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err == nil {
		defer unix.Close(fd)
		return u.setOpaque(fd)
	}
	var st unix.Stat_t
	if unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
		return nil // whatever is no directory hides what is below
	}
	u.whited[join(dir, name)] = struct{}{}
	return markFile(parent, whiteoutPrefix+name)
}

func aufsNameError(name string) error {
	return inputErrorf("name of %d bytes; a layer whose whiteouts are files has names of at most %d", len(name), maxAufsName)
}

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

// markFile makes an empty file without time or rights, if it is not there.
func markFile(dir int, name string) error {
	fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.EEXIST {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fchmod(fd, 0o444); err != nil {
		return err
	}
	return unix.UtimesNanoAt(dir, name, make([]unix.Timespec, 2), unix.AT_SYMLINK_NOFOLLOW)
}

// makeBesideFiles is make where whiteouts are files.
func (u *unpacker) makeBesideFiles(parent int, base, p string, h *tar.Header, r io.Reader) error {
	if len(base) > maxAufsName {
		return aufsNameError(base)
	}
	opaque, err := u.uncover(parent, base, p)
	if err != nil {
		return err
	}
	if err := u.make(parent, base, p, h, r); err != nil || !opaque || h.Typeflag != tar.TypeDir {
		return err
	}
	return u.markOpaque(parent, base)
}

// uncover takes away the whiteout that this archive has made of what it now
// makes itself, and reports whether there was one: a directory does not merge
// with those below then.
func (u *unpacker) uncover(parent int, base, p string) (was bool, err error) {
	if _, was = u.whited[p]; !was {
		return false, nil
	}
	delete(u.whited, p)
	return true, unix.Unlinkat(parent, whiteoutPrefix+base, 0)
}
