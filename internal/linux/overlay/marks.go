package overlay

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrPartial says that an upper directory alone does not say what its mount showed:
// it refers to files of lower ones.
var ErrPartial = errors.New("it refers to files of lower layers (redirect_dir or metacopy)")

// maxMarkDepth bounds how deep directories lie in each other.
const maxMarkDepth = 4000

// CopyMarks marks the directories in a copy of an upper directory that hide lower ones,
// as they are marked in the original. Nobody else changes either meanwhile.
func CopyMarks(from, to *os.File) error { return copyMarks(from, to, "/", 0) }

func copyMarks(from, to *os.File, at string, depth int) error {
	if depth > maxMarkDepth {
		return fmt.Errorf("%s: directories lie in each other too deep", at)
	}
	if has(from, ".", "trusted.overlay.redirect") {
		return fmt.Errorf("%s: %w", at, ErrPartial)
	}
	if Opaque(from) {
		if err := unix.Fsetxattr(int(to.Fd()), "trusted.overlay.opaque", []byte("y"), 0); err != nil {
			return fmt.Errorf("mark %s: %w", at, err)
		}
	}
	entries, err := from.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		where := path.Join(at, e.Name())
		switch {
		case e.Type().IsRegular() && has(from, e.Name(), "trusted.overlay.metacopy"):
			return fmt.Errorf("%s: %w", where, ErrPartial)
		case e.Type() != fs.ModeDir:
			continue
		}
		if err := markSub(from, to, e.Name(), where, depth); err != nil {
			return err
		}
	}
	return nil
}

func markSub(from, to *os.File, name, at string, depth int) error {
	var subs [2]*os.File
	for i, dir := range []*os.File{from, to} {
		fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		subs[i] = os.NewFile(uintptr(fd), at)
		defer subs[i].Close()
	}
	return copyMarks(subs[0], subs[1], at, depth+1)
}

// has reports whether a file in a directory has an attribute.
func has(dir *os.File, name, attribute string) bool {
	_, err := unix.Lgetxattr("/proc/self/fd/"+strconv.Itoa(int(dir.Fd()))+"/"+name, attribute, nil)
	return err == nil
}
