// Package treecmp tells in what two directory trees differ: names, types,
// owners, modes, data, links, devices, extended attributes, hard links, and the
// times at which files were changed. Times of directories and of overlayfs's
// whiteouts do not count, nor does security.selinux, which is the host's.
package treecmp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Compare calls report with the path, relative to the roots, of each thing in
// which got differs from want, and says how. What is below a directory that is
// missing, too much or no directory is not reported. It stops when report
// returns false. Links are not followed and mounts not entered.
func Compare(ctx context.Context, want, got *os.File, report func(p, problem string) bool) error {
	c := &comparison{
		ctx: ctx, report: report, twin: map[uint64]uint64{}, of: map[uint64]uint64{},
		a: make([]byte, 256<<10), b: make([]byte, 256<<10),
	}
	err := c.dir(int(want.Fd()), int(got.Fd()), ".")
	if err == errEnough {
		return nil
	}
	return err
}

var errEnough = errors.New("enough differences")

type comparison struct {
	ctx      context.Context // of one comparison
	report   func(p, problem string) bool
	twin, of map[uint64]uint64 // inodes with several names, in both directions
	a, b     []byte
}

func (c *comparison) say(p, format string, args ...any) error {
	if !c.report(p, fmt.Sprintf(format, args...)) {
		return errEnough
	}
	return nil
}

// dir compares two directories: themselves, then what is in them.
func (c *comparison) dir(want, got int, p string) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if err := c.attributes(want, got, p); err != nil {
		return err
	}
	wants, err := names(want)
	if err != nil {
		return err
	}
	gots, err := names(got)
	if err != nil {
		return c.say(p, "cannot be read: %v", err)
	}
	for _, n := range gots {
		if _, found := slices.BinarySearch(wants, n); !found {
			if err := c.say(path.Join(p, n), "does not belong here"); err != nil {
				return err
			}
		}
	}
	for _, n := range wants {
		q := path.Join(p, n)
		if _, found := slices.BinarySearch(gots, n); !found {
			err = c.say(q, "is missing")
		} else {
			err = c.entry(want, got, n, q)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// entry compares the entry n of two directories.
func (c *comparison) entry(want, got int, n, p string) error {
	var a, b unix.Stat_t
	if err := unix.Fstatat(want, n, &a, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	if err := unix.Fstatat(got, n, &b, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return c.say(p, "cannot be read: %v", err)
	}
	if a.Mode&unix.S_IFMT != b.Mode&unix.S_IFMT {
		return c.say(p, "is a %s instead of a %s", kind(b.Mode), kind(a.Mode))
	}
	flags := unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOATIME
	switch a.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		flags |= unix.O_DIRECTORY
	case unix.S_IFREG:
	default: // must not be opened
		flags = unix.O_PATH
	}
	x, err := open(want, n, flags)
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	defer unix.Close(x)
	y, err := open(got, n, flags)
	if err != nil {
		return c.say(p, "cannot be read: %v", err)
	}
	defer unix.Close(y)
	if a.Mode&unix.S_IFMT == unix.S_IFDIR {
		return c.dir(x, y, p)
	}
	if err := c.attributes(x, y, p); err != nil {
		return err
	}
	return c.file(x, y, &a, &b, p)
}

// file compares what no directory has.
func (c *comparison) file(x, y int, a, b *unix.Stat_t, p string) error {
	whiteout := a.Mode&unix.S_IFMT == unix.S_IFCHR && a.Rdev == 0 // of overlayfs
	if a.Mtim != b.Mtim && !whiteout {
		if err := c.say(p, "was changed at another time"); err != nil {
			return err
		}
	}
	if err := c.links(a, b, p); err != nil {
		return err
	}
	switch a.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if a.Size != b.Size {
			return c.say(p, "has %d bytes instead of %d", b.Size, a.Size)
		}
		return c.data(x, y, a.Size, p)
	case unix.S_IFLNK:
		to, err := readlink(x)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		if other, err := readlink(y); err != nil || other != to {
			return c.say(p, "leads elsewhere")
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		if a.Rdev != b.Rdev {
			return c.say(p, "is device %d:%d instead of %d:%d", unix.Major(b.Rdev), unix.Minor(b.Rdev), unix.Major(a.Rdev), unix.Minor(a.Rdev))
		}
	}
	return nil
}

// links makes sure that the names of one file are the names of one file.
func (c *comparison) links(a, b *unix.Stat_t, p string) error {
	if a.Nlink == 1 && b.Nlink == 1 {
		return nil
	}
	twin, seen := c.twin[a.Ino]
	of, taken := c.of[b.Ino]
	if a.Nlink != b.Nlink || seen && twin != b.Ino || taken && of != a.Ino {
		return c.say(p, "has other hard links")
	}
	c.twin[a.Ino], c.of[b.Ino] = b.Ino, a.Ino
	return nil
}

func (c *comparison) data(x, y int, size int64, p string) error {
	for at := int64(0); at < size; {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		n, err := read(x, c.a, at)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		m, err := read(y, c.b, at)
		if err != nil {
			return c.say(p, "cannot be read: %v", err)
		}
		if n == 0 || !bytes.Equal(c.a[:n], c.b[:m]) {
			return c.say(p, "has other data")
		}
		at += int64(n)
	}
	return nil
}

// read fills b from an offset on, unless the file ends.
func read(fd int, b []byte, at int64) (n int, err error) {
	for n < len(b) {
		k, err := unix.Pread(fd, b[n:], at+int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil || k == 0 {
			return n, err
		}
		n += k
	}
	return n, nil
}

// attributes compares owner, mode and extended attributes.
func (c *comparison) attributes(x, y int, p string) error {
	var a, b unix.Stat_t
	if err := fstat(x, &a); err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	if err := fstat(y, &b); err != nil {
		return c.say(p, "cannot be read: %v", err)
	}
	if a.Uid != b.Uid || a.Gid != b.Gid {
		if err := c.say(p, "has owner %d:%d instead of %d:%d", b.Uid, b.Gid, a.Uid, a.Gid); err != nil {
			return err
		}
	}
	if a.Mode != b.Mode {
		if err := c.say(p, "has mode %#o instead of %#o", b.Mode&07777, a.Mode&07777); err != nil {
			return err
		}
	}
	want, err := xattrs(x)
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	got, err := xattrs(y)
	if err != nil {
		return c.say(p, "cannot be read: %v", err)
	}
	if !slices.Equal(want, got) {
		return c.say(p, "has other extended attributes")
	}
	return nil
}

// xattrs lists the attributes of a descriptor, each as "NAME=VALUE", sorted. It
// goes by procfs: descriptors of O_PATH have no fgetxattr.
func xattrs(fd int) ([]string, error) {
	p := fmt.Sprintf("/proc/self/fd/%d", fd)
	n, err := unix.Listxattr(p, nil)
	if err == unix.EOPNOTSUPP || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list := make([]byte, n)
	if n, err = unix.Listxattr(p, list); err != nil {
		return nil, err
	}
	var all []string
	for name := range strings.SplitSeq(string(list[:n]), "\x00") {
		if name == "" || name == "security.selinux" {
			continue
		}
		v := make([]byte, 64<<10) // the kernel's limit
		k, err := unix.Getxattr(p, name, v)
		if err != nil {
			return nil, err
		}
		all = append(all, name+"="+string(v[:k]))
	}
	slices.Sort(all)
	return all, nil
}

func names(fd int) ([]string, error) {
	again, err := open(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(again), "directory")
	defer f.Close()
	list, err := f.Readdirnames(-1)
	slices.Sort(list)
	return list, err
}

func open(dir int, n string, flags int) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_NOFOLLOW | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	for {
		fd, err := unix.Openat2(dir, n, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

func fstat(fd int, st *unix.Stat_t) error {
	return unix.Fstatat(fd, "", st, unix.AT_EMPTY_PATH)
}

func readlink(fd int) (string, error) {
	b := make([]byte, 64<<10)
	n, err := unix.Readlinkat(fd, "", b)
	return string(b[:max(n, 0)]), err
}

func kind(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFREG:
		return "file"
	case unix.S_IFLNK:
		return "symbolic link"
	case unix.S_IFCHR:
		return "character device"
	case unix.S_IFBLK:
		return "block device"
	case unix.S_IFIFO:
		return "FIFO"
	}
	return "socket"
}
