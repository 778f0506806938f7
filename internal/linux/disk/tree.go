package disk

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// TreeSize adds up the sizes of the files below a directory, in bytes, a file with several
// names once. Links are not followed, mounts not entered; what disappears
// meanwhile does not count. Of a tree of more than 1024 directories one below the other the
// size is not told, but an error.
func TreeSize(dir string) (int64, error) {
	f, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, err
	}
	w := &treeWalk{dev: st.Dev, seen: map[uint64]struct{}{}}
	err = w.below(f, 0)
	return w.size, err
}

type treeWalk struct {
	dev  uint64
	size int64
	seen map[uint64]struct{} // inodes with several names
}

// entriesAtOnce bounds what is held of a directory.
const entriesAtOnce = 1024

// maxDepth is how many directories are open at once. Archives and images have no deeper
// trees either.
const maxDepth = 1024

var errDeep = fmt.Errorf("more than %d directories deep", maxDepth)

func (w *treeWalk) below(dir *os.File, depth int) error {
	if depth > maxDepth {
		return errDeep
	}
	for {
		names, err := dir.Readdirnames(entriesAtOnce)
		for _, name := range names {
			if err := w.entry(dir, name, depth); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, unix.ENOENT) { // the end; or it has been removed
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (w *treeWalk) entry(dir *os.File, name string, depth int) error {
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if _, again := w.seen[st.Ino]; again {
			return nil
		}
		if st.Nlink > 1 {
			w.seen[st.Ino] = struct{}{}
		}
		w.size += st.Size
		return nil
	}
	if st.Dev != w.dev {
		return nil
	}
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	sub := os.NewFile(uintptr(fd), name)
	defer sub.Close()
	return w.below(sub, depth+1)
}
