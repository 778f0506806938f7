package untar

import (
	"strings"

	"golang.org/x/sys/unix"
)

const (
	whiteoutPrefix = ".wh."
	metaPrefix     = ".wh..wh." // of aufs: its own files; only the next one concerns us
	opaqueName     = ".wh..wh..opq"
	trustedPrefix  = "trusted."
	opaqueXattr    = "trusted.overlay.opaque"
)

// whiteoutAbove is the first directory of a path that has the name of a whiteout,
// in which nothing can be.
func whiteoutAbove(dir string) string {
	if !strings.HasPrefix(dir, whiteoutPrefix) && !strings.Contains(dir, "/"+whiteoutPrefix) {
		return ""
	}
	for name := range strings.SplitSeq(dir, "/") {
		if strings.HasPrefix(name, whiteoutPrefix) {
			return name
		}
	}
	return ""
}

func (u *unpacker) whiteout(dir, base string) error {
	if base == opaqueName {
		return u.opaque(dir)
	}
	if strings.HasPrefix(base, metaPrefix) {
		return nil
	}
	name := base[len(whiteoutPrefix):]
	if name == "" || name == "." || name == ".." {
		return inputErrorf("whiteout of nothing")
	}
	switch u.options.Whiteouts {
	case Remove:
		return u.removeLower(dir, name)
	case Files:
		return u.whiteoutFile(dir, name)
	}
	parent, err := u.openParent(dir)
	if err != nil {
		return err
	}
	err = unix.Mknodat(parent, name, unix.S_IFCHR, 0)
	if err != unix.EEXIST {
		return err
	}
	// The archive has the name too: the whiteout concerns the layers below, so
	// a directory does not merge with theirs; anything else hides it anyway.
	fd, err := openBeneath(parent, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	return u.setOpaque(fd)
}

func (u *unpacker) opaque(dir string) error {
	parent, err := u.openParent(dir)
	if err != nil {
		return err
	}
	fd, err := openBeneath(parent, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if u.options.Whiteouts != Remove {
		return u.setOpaque(fd)
	}
	u.closeParent() // what it points to may go
	return emptyDir(fd, dir, u.made)
}

// removeLower takes away what the layers below left at name.
func (u *unpacker) removeLower(dir, name string) error {
	fd, err := u.openIn(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil // nothing there
	}
	defer unix.Close(fd)
	p := strings.TrimPrefix(dir+"/"+name, "./")
	var st unix.Stat_t
	if unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return nil
	}
	u.closeParent()
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return removeTree(fd, name, p, u.made)
	}
	if u.made(p) {
		return nil
	}
	return unix.Unlinkat(fd, name, 0)
}

// made reports whether this archive made p.
func (u *unpacker) made(p string) bool {
	_, ok := u.seen[p]
	return ok
}

// see notes that this archive made p, and the directories above it.
func (u *unpacker) see(p string) {
	for p != "." && !u.made(p) {
		u.seen[p] = struct{}{}
		p, _ = split(p)
	}
}

func (u *unpacker) setOpaque(fd int) error {
	if u.options.Whiteouts == Files {
		return markFile(fd, opaqueName)
	}
	return u.options.Raise(func() error { return unix.Fsetxattr(fd, opaqueXattr, []byte("y"), 0) })
}

func isWhiteout(parent int, base string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}
