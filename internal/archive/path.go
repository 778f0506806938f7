// Package archive describes, packs and unpacks what is at a path of the files of a
// container or volume, as `docker cp` has it.
//
// Its functions are called on a thread whose root is the container's or the volume
// (package linux/mount). Paths and archives come from clients, the files belong to
// containers, which may change them meanwhile.
//
//	/a/link      the link itself
//	/a/link/     the directory that it leads to, under the name link
//	/a/link/.    what is in that directory
package archive

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/inroot"
)

// place is where a path leads: the entry base of the directory dir, which for a
// path that means a directory is "." of the directory itself.
type place struct {
	dir  *os.File // O_PATH
	base string
	name string // under which it goes into an archive
	full string // the path, clean and absolute
}

// find finds where p leads. The caller closes dir.
func find(root *os.File, p string) (place, error) {
	at := place{base: ".", full: path.Clean("/" + p)}
	inside := at.full
	switch {
	case path.Base(p) == ".":
		at.name = "."
	case at.full == "/" || strings.HasSuffix(p, "/"):
		at.name = path.Base(at.full)
	default:
		inside, at.base = path.Split(at.full)
		at.name = at.base
	}
	var err error
	at.dir, err = inroot.Open(root, inside, inroot.OPath|inroot.ODirectory, 0)
	return at, at.fault(err)
}

// fault names the path that a client has asked for, in an error about it.
func (at place) fault(err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err
	}
	if errno == syscall.ENOENT {
		return &fs.PathError{Op: "lstat", Path: at.full, Err: errno}
	}
	return errdefs.New(errdefs.InvalidArgument, "lstat %s: %w", at.full, errno)
}

// Stat describes what is at p. Nothing there is fs.ErrNotExist.
func Stat(root *os.File, p string) (container.PathStat, error) {
	at, err := find(root, p)
	if err != nil {
		return container.PathStat{}, err
	}
	defer at.dir.Close()
	return at.stat(root)
}

func (at place) stat(root *os.File) (container.PathStat, error) {
	f, err := inroot.Open(at.dir, at.base, inroot.OPath|inroot.ONoFollow, 0)
	if err != nil {
		return container.PathStat{}, at.fault(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return container.PathStat{}, err
	}
	out := container.PathStat{Name: at.name, Size: st.Size(), Mode: st.Mode(), Mtime: st.ModTime()}
	if st.Mode()&fs.ModeSymlink != 0 {
		out.LinkTarget = target(root, at.full)
	}
	return out, nil
}

// maxLinks is the kernel's limit.
const maxLinks = 40

// target is where the link at p leads in the end. What is missing on the way is
// taken as it stands.
func target(root *os.File, p string) string {
	for range maxLinks {
		t, err := inroot.Resolve(root, p, inroot.Options{})
		if err == nil {
			t.File.Close()
			return t.Path
		}
		next, ok := follow(root, p)
		if !ok {
			return p
		}
		p = next
	}
	return p
}

// follow goes one link further.
func follow(root *os.File, p string) (next string, ok bool) {
	above, err := inroot.Resolve(root, path.Dir(p), inroot.Options{})
	if err != nil {
		return "", false
	}
	defer above.File.Close()
	to, err := inroot.Readlink(above.File, path.Base(p))
	if err != nil {
		return "", false
	}
	if path.IsAbs(to) {
		return path.Clean(to), true
	}
	return path.Join(above.Path, to), true
}
