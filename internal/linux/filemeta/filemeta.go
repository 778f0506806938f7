// Package filemeta carries owner, mode, extended attributes and times from one
// file to another.
package filemeta

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Meta is what a file has beside its data.
type Meta struct {
	Mode         uint32 // permissions with set-ID and sticky bits
	UID, GID     int
	Atime, Mtime unix.Timespec
	Xattrs       map[string][]byte // without overlayfs's own
}

// At reads the metadata of p, no part of which may be a link, below root.
func At(root *os.File, p string) (Meta, error) {
	fd, err := open(root, p)
	if err != nil {
		return Meta{}, err
	}
	defer unix.Close(fd)
	return read(fd)
}

// SetAt gives p below root the metadata.
func (m Meta) SetAt(root *os.File, p string) error {
	fd, err := open(root, p)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return m.set(fd)
}

// Of reads the metadata of a directory.
func Of(dir string) (Meta, error) {
	f, err := os.Open(dir)
	if err != nil {
		return Meta{}, err
	}
	defer f.Close()
	return read(int(f.Fd()))
}

// Set gives a directory the metadata.
func (m Meta) Set(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return m.set(int(f.Fd()))
}

func open(root *os.File, p string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	for {
		fd, err := unix.Openat2(int(root.Fd()), p, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

func read(fd int) (Meta, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Meta{}, err
	}
	m := Meta{Mode: st.Mode & 07777, UID: int(st.Uid), GID: int(st.Gid), Atime: st.Atim, Mtime: st.Mtim}
	names, err := list(fd)
	if err != nil {
		return m, err
	}
	for _, n := range names {
		v := make([]byte, 64<<10) // the kernel's limit
		k, err := unix.Fgetxattr(fd, n, v)
		if err != nil {
			return m, err
		}
		if m.Xattrs == nil {
			m.Xattrs = map[string][]byte{}
		}
		m.Xattrs[n] = v[:k:k]
	}
	return m, nil
}

// Attributes lists the names of the extended attributes of what is at a path, a link
// itself, but for those that the kernel or overlayfs keeps for itself.
func Attributes(path string) ([]string, error) {
	return names(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
}

func list(fd int) ([]string, error) {
	return names(func(b []byte) (int, error) { return unix.Flistxattr(fd, b) })
}

func names(call func([]byte) (int, error)) ([]string, error) {
	n, err := call(nil)
	if err == unix.EOPNOTSUPP || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	if n, err = call(b); err != nil {
		return nil, err
	}
	var names []string
	for name := range strings.SplitSeq(string(b[:n]), "\x00") {
		if name != "" && !strings.HasPrefix(name, "trusted.overlay.") && name != "security.selinux" {
			names = append(names, name)
		}
	}
	return names, nil
}

func (m Meta) set(fd int) error {
	if err := unix.Fchown(fd, m.UID, m.GID); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, m.Mode); err != nil {
		return err
	}
	for n, v := range m.Xattrs {
		if err := unix.Fsetxattr(fd, n, v, 0); err != nil && err != unix.EOPNOTSUPP {
			return err
		}
	}
	return unix.UtimesNanoAt(fd, "", []unix.Timespec{m.Atime, m.Mtime}, unix.AT_EMPTY_PATH)
}
