package model

import (
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/tare-engine/tare/internal/union"
)

// Write makes a directory that is the branch.
func (b *Branch) Write(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	first := map[*File]string{}
	for _, p := range slices.Sorted(maps.Keys(b.Files)) {
		f := b.Files[p]
		var err error
		if old, ok := first[f]; ok {
			err = os.Link(old, dir+p)
		} else {
			first[f] = dir + p
			err = f.write(dir+p, p == "/")
		}
		if err != nil {
			return err
		}
	}
	var marks []string
	for p := range b.White {
		marks = append(marks, path.Join(path.Dir(p), union.WhiteoutPrefix+path.Base(p)))
	}
	for p := range b.Opaque {
		marks = append(marks, path.Join(p, union.Opaque))
	}
	for _, p := range marks {
		if err := os.WriteFile(dir+p, nil, 0o444); err != nil {
			return err
		}
	}
	return nil
}

func (f *File) write(at string, exists bool) error {
	var err error
	switch {
	case f.Kind == syscall.S_IFLNK:
		return os.Symlink(f.Data, at)
	case f.Kind == syscall.S_IFREG:
		err = os.WriteFile(at, []byte(f.Data), 0o644)
	case !exists:
		err = os.Mkdir(at, 0o755)
	}
	if err != nil {
		return err
	}
	return os.Chmod(at, fs.FileMode(f.Mode))
}

// Read returns what a directory that has been used as the branch has now.
func (b *Branch) Read(dir string) (*Branch, error) {
	out := NewBranch(b.RW, b.Honours)
	r := reader{files: out.Files, byIno: map[uint64]*File{}}
	return out, filepath.WalkDir(dir, func(at string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		p := "/" + strings.TrimPrefix(strings.TrimPrefix(at, dir), "/")
		name := path.Base(p)
		switch {
		case name == union.Opaque:
			out.Opaque[path.Dir(p)] = true
			return nil
		case strings.HasPrefix(name, ".wh..wh.") && e.IsDir():
			return filepath.SkipDir
		case strings.HasPrefix(name, ".wh..wh."):
			return nil
		case union.Hidden(name):
			out.White[path.Join(path.Dir(p), strings.TrimPrefix(name, union.WhiteoutPrefix))] = true
			return nil
		}
		return r.add(at, p)
	})
}

// ReadTree returns what is seen in a directory, in the form of View.
func ReadTree(dir string) (map[string]*File, error) {
	r := reader{files: map[string]*File{}, byIno: map[uint64]*File{}}
	return r.files, filepath.WalkDir(dir, func(at string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return r.add(at, "/"+strings.TrimPrefix(strings.TrimPrefix(at, dir), "/"))
	})
}

// reader reads files; names of one file get one File.
type reader struct {
	files map[string]*File
	byIno map[uint64]*File
}

func (r *reader) add(at, p string) error {
	var st syscall.Stat_t
	if err := syscall.Lstat(at, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: at, Err: err}
	}
	if f := r.byIno[st.Ino]; f != nil && f.Kind != syscall.S_IFDIR {
		r.files[p] = f
		return nil
	}
	f := &File{Kind: st.Mode & syscall.S_IFMT, Mode: st.Mode & 0o7777}
	r.byIno[st.Ino], r.files[p] = f, f
	switch f.Kind {
	case syscall.S_IFLNK:
		to, err := os.Readlink(at)
		f.Data = to
		return err
	case syscall.S_IFREG:
		data, err := os.ReadFile(at)
		f.Data = string(data)
		return err
	}
	return nil
}
