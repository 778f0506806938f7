package union

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	aufs "github.com/tare-engine/tare/internal/union"
)

// touched tells what of a container's root its own branch has to do with: nothing
// else can differ from the image, and need not be looked at.
type touched struct {
	upper *os.Root
	whole map[string]bool // directories that do not merge with those below
	links bool            // a file changes under names that the branch does not have
}

// openTouched is of the directory of a branch, which may change meanwhile. The
// caller closes it.
func openTouched(dir string) (*touched, error) {
	upper, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	t := &touched{upper: upper, whole: map[string]bool{}}
	links, err := t.list(aufs.LinkDir)
	t.links = len(links) > 0
	if err != nil {
		upper.Close()
		return nil, err
	}
	return t, nil
}

func (t *touched) close() { t.upper.Close() }

// names are those in a directory that may differ; nil: all.
func (t *touched) names(dir string) (map[string]bool, error) {
	if t.links || t.apart(dir) {
		return nil, nil
	}
	list, err := t.list(dir)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, name := range list {
		if name == aufs.Opaque && dir != "." {
			t.whole[dir] = true
			return nil, nil
		}
		names[strings.TrimPrefix(name, aufs.WhiteoutPrefix)] = true
	}
	return names, nil
}

// apart reports whether a directory, or one above it, is known not to merge, or
// has a whiteout beside it and so does not.
func (t *touched) apart(dir string) bool {
	for p := dir; p != "."; p = path.Dir(p) {
		if t.whole[p] {
			return true
		}
	}
	if dir == "." {
		return false
	}
	_, err := t.upper.Lstat(path.Join(path.Dir(dir), aufs.WhiteoutPrefix+path.Base(dir)))
	if err == nil {
		t.whole[dir] = true
	}
	return err == nil
}

func (t *touched) list(dir string) ([]string, error) {
	f, err := t.upper.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := f.Readdirnames(-1)
	if errors.Is(err, fs.ErrNotExist) { // it has just been removed
		return nil, nil
	}
	return list, err
}
