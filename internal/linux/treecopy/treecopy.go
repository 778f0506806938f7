// Package treecopy copies directory trees with everything that a file system
// keeps of them: owners, modes, times, extended attributes, hard links, holes,
// devices. Data is shared where the file system can (reflink).
package treecopy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Copy copies what is in the directory from, and from's own metadata, into the
// existing directory to. Nobody else changes either meanwhile. Mounts inside
// are not entered.
func Copy(ctx context.Context, from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Open(to)
	if err != nil {
		return err
	}
	defer dst.Close()
	return CopyFiles(ctx, src, dst, Options{})
}

// Options of a copy.
type Options struct {
	// Owner gives the owner that a file of uid and gid gets; nil: the same.
	Owner func(uid, gid int) (int, int)
	// Fill leaves what is there already, but for directories, which are gone into. A
	// file appears when it is whole.
	Fill bool
}

// CopyFiles is Copy of one open directory into another. Nobody else may change to,
// unless Fill is set.
func CopyFiles(ctx context.Context, from, to *os.File, o Options) error {
	c := &copier{ctx: ctx, o: o, linked: map[inode]link{}}
	defer c.close()
	err := c.dir(int(from.Fd()), int(to.Fd()))
	runtime.KeepAlive(from)
	runtime.KeepAlive(to)
	if err != nil {
		return fmt.Errorf("copy %s: %w", from.Name(), err)
	}
	return nil
}

// CopyFile copies a file or link that is no directory to a name that is free, with all
// that the file system keeps of it.
func CopyFile(from, to string) error {
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: from, Err: err}
	}
	src, err := os.Open(filepath.Dir(from))
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	defer dst.Close()
	err = new(copier).leaf(int(src.Fd()), int(dst.Fd()), filepath.Base(from), filepath.Base(to), &st)
	runtime.KeepAlive(src)
	runtime.KeepAlive(dst)
	if err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return nil
}

type inode struct{ dev, ino uint64 }

// link is where the first name of a file with several was copied to.
type link struct {
	dir  int // descriptor of our own
	name string
}

// maxDepth is how many directories of a tree are open at once. Archives and images have no
// deeper trees either.
const maxDepth = 1024

// ErrDeep is the error about a tree that is deeper than can be copied.
var ErrDeep = fmt.Errorf("more than %d directories deep", maxDepth)

type copier struct {
	ctx    context.Context // of one copy
	depth  int
	o      Options
	linked map[inode]link
	dirs   []int
}

func (c *copier) close() {
	for _, fd := range c.dirs {
		unix.Close(fd)
	}
}

func open(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// dir copies the entries, then the directory's own metadata.
func (c *copier) dir(src, dst int) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	again, err := open(src, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(again), "directory")
	names, err := f.Readdirnames(-1)
	f.Close()
	if err != nil {
		return err
	}
	for _, n := range names {
		err := c.entry(src, dst, n)
		if errors.Is(err, ErrDeep) { // its path would be long
			return err
		}
		if err != nil {
			return fmt.Errorf("%s: %w", n, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	return c.setMeta(src, dst, &st)
}

func (c *copier) entry(src, dst int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(src, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	if c.o.Fill && kind != unix.S_IFDIR {
		return c.fill(src, dst, name, &st)
	}
	if kind == unix.S_IFDIR {
		return c.subdir(src, dst, name)
	}
	if first, ok := c.linked[inode{st.Dev, st.Ino}]; ok {
		return unix.Linkat(first.dir, first.name, dst, name, 0)
	}
	return errors.Join(c.leaf(src, dst, name, name, &st), c.remember(dst, name, &st))
}

// remember notes where the first of a file's names was copied to.
func (c *copier) remember(dst int, name string, st *unix.Stat_t) error {
	if st.Nlink < 2 {
		return nil
	}
	own, err := unix.FcntlInt(uintptr(dst), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return err
	}
	c.dirs = append(c.dirs, own)
	c.linked[inode{st.Dev, st.Ino}] = link{own, name}
	return nil
}

// leaf copies what is no directory, as another name.
func (c *copier) leaf(src, dst int, name, as string, st *unix.Stat_t) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return c.file(src, dst, name, as, st)
	case unix.S_IFLNK:
		return c.symlink(src, dst, name, as, st)
	}
	if err := unix.Mknodat(dst, as, st.Mode, int(st.Rdev)); err != nil {
		return err
	}
	return c.setMetaAt(src, dst, name, as, st)
}

// fillName is what a file is called until it is whole.
const fillName = ".tare-fill-"

// fill copies what is no directory, unless its name is taken.
func (c *copier) fill(src, dst int, name string, st *unix.Stat_t) error {
	var have unix.Stat_t
	if err := unix.Fstatat(dst, name, &have, unix.AT_SYMLINK_NOFOLLOW); err != unix.ENOENT {
		return err
	}
	if first, ok := c.linked[inode{st.Dev, st.Ino}]; ok {
		if err := unix.Linkat(first.dir, first.name, dst, name, 0); err != unix.ENOENT { // else somebody has removed it
			return ignore(err, unix.EEXIST)
		}
	}
	as := fillName + strconv.FormatUint(st.Ino, 36)
	if err := unix.Unlinkat(dst, as, 0); err != nil && err != unix.ENOENT { // of a copy that was cut off
		return err
	}
	if err := c.leaf(src, dst, name, as, st); err != nil {
		return err
	}
	err := unix.Renameat2(dst, as, dst, name, unix.RENAME_NOREPLACE)
	if err == unix.EEXIST { // somebody was faster
		return unix.Unlinkat(dst, as, 0)
	}
	return errors.Join(err, c.remember(dst, name, st))
}

func ignore(err, what error) error {
	if err == what {
		return nil
	}
	return err
}

func (c *copier) subdir(src, dst int, name string) error {
	if c.depth == maxDepth {
		return ErrDeep
	}
	c.depth++
	defer func() { c.depth-- }()
	if err := unix.Mkdirat(dst, name, 0700); err != nil && err != unix.EEXIST {
		return err
	}
	from, err := open(src, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := open(dst, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	return c.dir(from, to)
}

func (c *copier) file(src, dst int, name, as string, st *unix.Stat_t) error {
	from, err := open(src, name, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := unix.Openat(dst, as, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0600)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	if err := data(from, to, st.Size); err != nil {
		return err
	}
	return c.setMeta(from, to, st)
}

// data copies by reflink, else the pieces between holes.
func data(from, to int, size int64) error {
	if size == 0 || unix.IoctlFileClone(to, from) == nil {
		return nil
	}
	for at := int64(0); at < size; {
		start, err := unix.Seek(from, at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break // a hole up to the end
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(from, start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if err := piece(from, to, start, end); err != nil {
			return err
		}
		at = end
	}
	return unix.Ftruncate(to, size)
}

func piece(from, to int, at, end int64) error {
	in, out := at, at
	for in < end {
		n, err := unix.CopyFileRange(from, &in, to, &out, int(min(end-in, 1<<30)), 0)
		if err == unix.EINTR {
			continue
		}
		if err == unix.EXDEV || err == unix.EOPNOTSUPP || err == unix.EINVAL { // file systems of two types
			return pieceByHand(from, to, in, end)
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}

// pieceByHand reads and writes.
func pieceByHand(from, to int, at, end int64) error {
	b := make([]byte, min(end-at, 1<<20))
	for at < end {
		n, err := unix.Pread(from, b[:min(end-at, int64(len(b)))], at)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		for done := 0; done < n; {
			k, err := unix.Pwrite(to, b[done:n], at+int64(done))
			if err != nil && err != unix.EINTR {
				return err
			}
			done += max(k, 0)
		}
		at += int64(n)
	}
	return nil
}

func (c *copier) symlink(src, dst int, name, as string, st *unix.Stat_t) error {
	b := make([]byte, 4096)
	n, err := unix.Readlinkat(src, name, b)
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(string(b[:n]), dst, as); err != nil {
		return err
	}
	return c.setMetaAt(src, dst, name, as, st)
}

func times(st *unix.Stat_t) []unix.Timespec { return []unix.Timespec{st.Atim, st.Mtim} }

// owner is whose a copy becomes.
func (c *copier) owner(st *unix.Stat_t) (uid, gid int) {
	if c.o.Owner == nil {
		return int(st.Uid), int(st.Gid)
	}
	return c.o.Owner(int(st.Uid), int(st.Gid))
}

func (c *copier) setMeta(src, dst int, st *unix.Stat_t) error {
	uid, gid := c.owner(st)
	if err := unix.Fchown(dst, uid, gid); err != nil {
		return err
	}
	if err := unix.Fchmod(dst, st.Mode&07777); err != nil {
		return err
	}
	if err := xattrs("/proc/self/fd/"+strconv.Itoa(src), "/proc/self/fd/"+strconv.Itoa(dst), unix.Listxattr, unix.Getxattr, unix.Setxattr); err != nil {
		return err
	}
	return unix.UtimesNanoAt(dst, "", times(st), unix.AT_EMPTY_PATH)
}

// setMetaAt is setMeta for what cannot be opened to read: a link, device, pipe or socket.
// In a directory that others change meanwhile the name may lead elsewhere by now; the
// place is held by descriptor, and a link there is not followed.
func (c *copier) setMetaAt(src, dst int, name, as string, st *unix.Stat_t) error {
	fd, err := open(dst, as, unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var made unix.Stat_t
	if err := unix.Fstat(fd, &made); err != nil {
		return err
	}
	if (made.Mode^st.Mode)&unix.S_IFMT != 0 || made.Rdev != st.Rdev {
		return errReplaced
	}
	uid, gid := c.owner(st)
	if err := unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return c.setLinkMeta(src, dst, name, as, st)
	}
	place := "/proc/self/fd/" + strconv.Itoa(fd)
	if err := unix.Chmod(place, st.Mode&07777); err != nil {
		return err
	}
	if err := xattrs(entryPath(src, name), place, unix.Llistxattr, unix.Lgetxattr, unix.Setxattr); err != nil {
		return err
	}
	return unix.UtimesNanoAt(fd, "", times(st), unix.AT_EMPTY_PATH)
}

// errReplaced is an error about a file that has come between.
var errReplaced = errors.New("somebody has replaced the copy meanwhile")

// setLinkMeta sets what a link has beside its owner, of which nothing can be used.
func (c *copier) setLinkMeta(src, dst int, name, as string, st *unix.Stat_t) error {
	if err := xattrs(entryPath(src, name), entryPath(dst, as), unix.Llistxattr, unix.Lgetxattr, unix.Lsetxattr); err != nil {
		return err
	}
	return unix.UtimesNanoAt(dst, as, times(st), unix.AT_SYMLINK_NOFOLLOW)
}

func entryPath(dir int, name string) string {
	return "/proc/self/fd/" + strconv.Itoa(dir) + "/" + name
}

func xattrs(src, dst string, list func(string, []byte) (int, error), get func(string, string, []byte) (int, error), set func(string, string, []byte, int) error) error {
	n, err := list(src, nil)
	if errors.Is(err, unix.EOPNOTSUPP) || err == nil && n == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	b := make([]byte, n)
	if n, err = list(src, b); err != nil {
		return err
	}
	value := make([]byte, 64<<10)
	for name := range strings.SplitSeq(string(b[:n]), "\x00") {
		if name == "" || strings.HasPrefix(name, "trusted.overlay.") {
			continue
		}
		k, err := get(src, name, value)
		if err != nil {
			return err
		}
		if err := set(dst, name, value[:k], 0); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
	}
	return nil
}
