// Package inroot opens paths inside a root directory that somebody else
// controls: the file system of a container, an image layer, a volume.
//
// The root is a descriptor. The kernel resolves the path as if that directory
// were "/": absolute symbolic links and ".." cannot lead out of it, and links
// of procfs that jump to open files are refused (openat2 with RESOLVE_IN_ROOT
// and RESOLVE_NO_MAGICLINKS). Whoever swaps a directory for a link while we
// work gains nothing, because after the resolution only the descriptor is used.
//
//	f, err := inroot.ReadFile(root, "/etc/passwd", 1<<20)
//	t, err := inroot.Resolve(root, "/var/run/app.sock", inroot.Options{Make: inroot.File})
package inroot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Flags of the raw openat2 call, for those who put it into a list of calls.
// How is its structure: flags, mode and resolve, eight bytes each.
const (
	OPath             = unix.O_PATH
	ODirectory        = unix.O_DIRECTORY
	ONoFollow         = unix.O_NOFOLLOW
	OCloexec          = unix.O_CLOEXEC
	ResolveInRoot     = unix.RESOLVE_IN_ROOT
	ResolveBeneath    = unix.RESOLVE_BENEATH
	ResolveNoSymlinks = unix.RESOLVE_NO_SYMLINKS
	ResolveNoMagic    = unix.RESOLVE_NO_MAGICLINKS
	ResolveNoXDev     = unix.RESOLVE_NO_XDEV
	HowSize           = unix.SizeofOpenHow
)

// Open opens path inside root. Flags and mode are those of openat; the
// descriptor is closed on exec. It follows symbolic links inside the root
// unless flags has O_NOFOLLOW.
func Open(root *os.File, path string, flags int, mode fs.FileMode) (*os.File, error) {
	f, err := open(root, path, flags, uint64(mode.Perm()), ResolveInRoot|ResolveNoMagic)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return f, nil
}

// OpenBeneath is Open for a path that must not lead out of root: where a symbolic link of
// it is absolute, or goes up beyond root, it fails with EXDEV.
func OpenBeneath(root *os.File, path string, flags int) (*os.File, error) {
	f, err := open(root, path, flags, 0, unix.RESOLVE_BENEATH|ResolveNoMagic)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return f, nil
}

// OpenExact opens path inside root without following any symbolic link.
func OpenExact(root *os.File, path string, flags int) (*os.File, error) {
	f, err := open(root, path, flags, 0, ResolveInRoot|ResolveNoSymlinks)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return f, nil
}

// open makes the call. The kernel answers EAGAIN if something was renamed or
// mounted while it went through "..": then it is to be asked again.
func open(root *os.File, path string, flags int, mode, resolve uint64) (*os.File, error) {
	if path == "" {
		path = "."
	}
	how := unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC, Mode: mode, Resolve: resolve}
	for range 128 {
		fd, err := unix.Openat2(int(root.Fd()), path, &how)
		if err == unix.EAGAIN || err == unix.EINTR {
			continue
		}
		runtime.KeepAlive(root)
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), path), nil
	}
	return nil, unix.EAGAIN
}

// Stat describes what is at path inside root.
func Stat(root *os.File, path string) (fs.FileInfo, error) {
	f, err := Open(root, path, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Stat()
}

// Errors of ReadFile about the file itself.
var (
	ErrNotRegular = errors.New("not a regular file")
	ErrTooLarge   = errors.New("file too large")
)

// ReadFile reads the regular file at path inside root. Anything else that may
// be there (a FIFO, a device) is not even opened, and a file of more than limit
// bytes is an error.
func ReadFile(root *os.File, path string, limit int64) ([]byte, error) {
	f, err := openRegular(root, path, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = &fs.PathError{Op: "read", Path: path, Err: ErrTooLarge}
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// OpenRegular opens the regular file at path inside root for reading. Anything
// else in its place, a link too, is not opened.
func OpenRegular(root *os.File, path string) (*os.File, error) {
	return openRegular(root, path, unix.O_NOFOLLOW)
}

func openRegular(root *os.File, path string, flags int) (*os.File, error) {
	f, err := Open(root, path, unix.O_PATH|flags, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: ErrNotRegular}
	}
	// The very file that was looked at, by its descriptor.
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	runtime.KeepAlive(f)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// makeAt makes a directory or an empty file in the directory dir. That it is
// there already is no error: the caller opens it and sees what it is.
func makeAt(dir *os.File, name string, k Kind, owner *Owner) error {
	make := func() error {
		switch k {
		case Dir:
			return unix.Mkdirat(int(dir.Fd()), name, 0755)
		case File:
			return unix.Mknodat(int(dir.Fd()), name, unix.S_IFREG|0755, 0)
		}
		return unix.ENOENT
	}
	defer runtime.KeepAlive(dir)
	err := make()
	switch {
	case err == unix.EEXIST:
		return nil
	case owner == nil:
		return err
	case err == unix.EOVERFLOW: // the mount maps ids, and does not know ours
		return owner.do(make)
	case err != nil:
		return err
	}
	return unix.Fchownat(int(dir.Fd()), name, owner.UID, owner.GID, unix.AT_SYMLINK_NOFOLLOW)
}

// do calls f on a thread that has the owner's ids for files.
func (o *Owner) do(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	gid, err := unix.SetfsgidRetGid(o.GID)
	if err != nil {
		return err
	}
	uid, err := unix.SetfsuidRetUid(o.UID)
	if err == nil {
		err = f()
		err = errors.Join(err, unix.Setfsuid(uid))
	}
	return errors.Join(err, unix.Setfsgid(gid))
}

// readlinkAt returns the target of the link that f (O_PATH|O_NOFOLLOW) is.
func readlinkAt(f *os.File) (string, error) {
	var b [unix.PathMax]byte
	n, err := unix.Readlinkat(int(f.Fd()), "", b[:])
	runtime.KeepAlive(f)
	if err != nil {
		return "", err
	}
	if n == len(b) {
		return "", unix.ENAMETOOLONG
	}
	return string(b[:n]), nil
}

// Readlink returns the target of the link name in the directory dir. name is one
// component.
func Readlink(dir *os.File, name string) (string, error) {
	f, err := open(dir, name, unix.O_PATH|unix.O_NOFOLLOW, 0, ResolveBeneath)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	defer f.Close()
	return readlinkAt(f)
}

func isMissing(err error) bool { return errors.Is(err, unix.ENOENT) }

// check refuses what no path can be.
func check(path string) error {
	if len(path) >= unix.PathMax {
		return &fs.PathError{Op: "resolve", Path: path[:100] + "…", Err: unix.ENAMETOOLONG}
	}
	if strings.IndexByte(path, 0) >= 0 {
		return &fs.PathError{Op: "resolve", Path: fmt.Sprintf("%q", path), Err: unix.EINVAL}
	}
	return nil
}
