// Package treerm removes directory trees of any depth with few descriptors open: who
// could make a tree cannot make it impossible to remove.
package treerm

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// maxDepth is how many directories are open at once. What lies deeper is moved up to
	// the top first, and removed from there.
	maxDepth = 64
	// entriesAtOnce bounds what is held of a directory.
	entriesAtOnce = 1024
	// movedName begins the names of what has been moved up.
	movedName = ".tare-deep-"
)

// All removes what is at a path with all below it, as os.RemoveAll does. Links are not
// followed. Nobody else changes the tree meanwhile. What cannot be removed stays, and all
// else goes; the first reason is returned. What is not there is no error.
func All(path string) error {
	err := unlink(unix.AT_FDCWD, path)
	if err != errIsDir {
		return wrap("remove", path, err)
	}
	top, err := open(unix.AT_FDCWD, path)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return wrap("open", path, err)
	}
	defer top.Close()
	r := remover{top: top}
	if err := r.below(top, path, 1); err != nil {
		return err
	}
	return wrap("remove", path, ignore(unix.Rmdir(path), unix.ENOENT))
}

type remover struct {
	top   *os.File
	moved int // directories that were moved up
}

var errIsDir = errors.New("is a directory")

// unlink removes what is no directory.
func unlink(dir int, name string) error {
	err := unix.Unlinkat(dir, name, 0)
	switch err {
	case nil, unix.ENOENT:
		return nil
	case unix.EISDIR, unix.EPERM: // EPERM also: it may not be changed
		var st unix.Stat_t
		if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return errIsDir
		}
	}
	return err
}

func open(dir int, name string) (*os.File, error) {
	for {
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == nil {
			return os.NewFile(uintptr(fd), name), nil
		}
		if err != unix.EINTR {
			return nil, err
		}
	}
}

// below removes what is in a directory, and comes back for what has been moved there, or
// was passed over as the directory shrank.
func (r *remover) below(dir *os.File, path string, depth int) error {
	for {
		seen, err := r.pass(dir, path, depth)
		if err != nil || seen == 0 {
			return err
		}
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
}

// pass reads a directory once, and says how many entries it has seen.
func (r *remover) pass(dir *os.File, path string, depth int) (seen int, first error) {
	for {
		names, err := dir.Readdirnames(entriesAtOnce)
		seen += len(names)
		for _, name := range names {
			if err := r.entry(int(dir.Fd()), name, filepath.Join(path, name), depth); err != nil && first == nil {
				first = err
			}
		}
		if errors.Is(err, io.EOF) {
			return seen, first
		}
		if err != nil {
			return seen, errors.Join(first, err)
		}
	}
}

func (r *remover) entry(dir int, name, path string, depth int) error {
	err := unlink(dir, name)
	if err != errIsDir {
		return wrap("remove", path, err)
	}
	if depth >= maxDepth {
		return r.moveUp(dir, name, path)
	}
	sub, err := open(dir, name)
	if err != nil {
		return wrap("open", path, err)
	}
	err = r.below(sub, path, depth+1)
	sub.Close()
	if err != nil {
		return err
	}
	return wrap("remove", path, ignore(unix.Unlinkat(dir, name, unix.AT_REMOVEDIR), unix.ENOENT))
}

// moveUp moves a directory to the top.
func (r *remover) moveUp(dir int, name, path string) error {
	for {
		r.moved++
		err := unix.Renameat2(dir, name, int(r.top.Fd()), movedName+strconv.Itoa(r.moved), unix.RENAME_NOREPLACE)
		if err != unix.EEXIST { // a name of the tree's, or of a removal that was cut off
			return wrap("move", path, err)
		}
	}
}

func wrap(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: path, Err: err}
}

func ignore(err, what error) error {
	if err == what {
		return nil
	}
	return err
}
