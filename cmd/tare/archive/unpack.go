package archive

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// Unpack unpacks a tar stream into a directory of this machine, in which from, the
// name of the archive's top, becomes the name to.
//
// The archive comes from a container and is not trusted: no name and no link in it
// leads out of the directory (os.Root). Files belong to who calls, as with docker.
// A directory is not replaced by something else, nor the other way round.
func Unpack(in io.Reader, dir, from, to string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	u := &unpacker{root: root, dir: dir, from: from, to: to, buffer: make([]byte, 256<<10)}
	defer u.closeParent()
	r := tar.NewReader(bufio.NewReaderSize(in, 256<<10))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := u.entry(h, r); err != nil {
			return err
		}
	}
	return u.setTimes()
}

type unpacker struct {
	root     *os.Root
	dir      string
	from, to string
	buffer   []byte

	// The directory of the last entry: archives list those of a directory together.
	parent *os.Root
	above  string
	dirs   []dirTime
}

// dirTime is set at the end: making files in a directory changes its time.
type dirTime struct {
	path string
	time time.Time
}

// Renamed is the name of an entry when the archive's top, from, is called to; clean
// and relative.
func Renamed(name, from, to string) string {
	p := path.Clean("/" + name)[1:]
	switch {
	case from == to:
	case from == "." || from == "/":
		p = path.Join(to, p)
	case p == from:
		p = to
	case strings.HasPrefix(p, from+"/"):
		p = path.Join(to, p[len(from)+1:])
	}
	if p == "" {
		return "."
	}
	return p
}

// outside reports whether a name leads out of where it is unpacked.
func outside(name string) bool {
	p := path.Clean(name)
	return p == ".." || strings.HasPrefix(p, "../")
}

func (u *unpacker) entry(h *tar.Header, r io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if outside(h.Name) {
		return fmt.Errorf("%q is outside of %q", h.Name, u.dir)
	}
	p := filepath.FromSlash(Renamed(h.Name, u.from, u.to))
	if p == "." {
		return nil
	}
	above, base := filepath.Split(p)
	parent, err := u.open(filepath.Clean(above))
	if err != nil {
		return err
	}
	err = u.make(parent, base, p, h, r)
	if errors.Is(err, fs.ErrExist) {
		if err := u.makeRoom(parent, base, p, h.Typeflag == tar.TypeDir); err != nil {
			return err
		}
		err = u.make(parent, base, p, h, r)
	}
	return inDir(u.dir, err)
}

// inDir names the whole path in an error.
func inDir(dir string, err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok && !filepath.IsAbs(pe.Path) {
		return &fs.PathError{Op: pe.Op, Path: filepath.Join(dir, pe.Path), Err: pe.Err}
	}
	return err
}

// open opens the directory of an entry, made if need be. It stays the unpacker's.
func (u *unpacker) open(above string) (*os.Root, error) {
	if above == "." {
		return u.root, nil
	}
	if u.parent != nil && u.above == above {
		return u.parent, nil
	}
	u.closeParent()
	d, err := u.root.OpenRoot(above)
	if errors.Is(err, fs.ErrNotExist) {
		if err = u.root.MkdirAll(above, 0o755); err == nil {
			d, err = u.root.OpenRoot(above)
		}
	}
	if err != nil {
		return nil, inDir(u.dir, err)
	}
	u.parent, u.above = d, above
	return d, nil
}

func (u *unpacker) closeParent() {
	if u.parent != nil {
		u.parent.Close()
	}
	u.parent = nil
}

// makeRoom takes away what an entry replaces.
func (u *unpacker) makeRoom(parent *os.Root, base, p string, dir bool) error {
	st, err := parent.Lstat(base)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return inDir(u.dir, err)
	case st.IsDir() && !dir:
		return fmt.Errorf("cannot overwrite directory %q with non-directory %q", filepath.Join(u.dir, p), u.dir)
	case !st.IsDir() && dir:
		return fmt.Errorf("cannot overwrite non-directory %q with directory %q", filepath.Join(u.dir, p), u.dir)
	case st.IsDir():
		return nil
	}
	return parent.Remove(base)
}

func (u *unpacker) make(parent *os.Root, base, p string, h *tar.Header, r io.Reader) error {
	switch h.Typeflag {
	case tar.TypeReg:
		return u.makeFile(parent, base, h, r)
	case tar.TypeDir:
		err := parent.Mkdir(base, 0o700)
		if st, serr := parent.Lstat(base); err != nil && (serr != nil || !st.IsDir()) {
			return err
		}
		u.dirs = append(u.dirs, dirTime{p, h.ModTime})
		return parent.Chmod(base, fileMode(h.Mode))
	case tar.TypeSymlink:
		return parent.Symlink(filepath.FromSlash(h.Linkname), base)
	case tar.TypeLink:
		if outside(h.Linkname) {
			return fmt.Errorf("invalid hardlink %q -> %q", filepath.Join(u.dir, p), h.Linkname)
		}
		return u.root.Link(filepath.FromSlash(Renamed(h.Linkname, u.from, u.to)), p)
	case tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
		if err := makeNode(parent, base, h); err != nil {
			return &fs.PathError{Op: "mknod", Path: p, Err: err}
		}
		return parent.Chmod(base, fileMode(h.Mode))
	}
	return fmt.Errorf("unhandled tar header type %q", h.Typeflag)
}

func (u *unpacker) makeFile(parent *os.Root, base string, h *tar.Header, r io.Reader) error {
	f, err := parent.OpenFile(base, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fileMode(h.Mode).Perm())
	if err != nil {
		return err
	}
	defer f.Close()
	if err := u.fill(f, r, h.Size); err != nil {
		return err
	}
	// The umask, or the directory's ACL, may have had a say.
	if st, err := f.Stat(); err != nil || st.Mode() != fileMode(h.Mode) {
		if err := f.Chmod(fileMode(h.Mode)); err != nil {
			return err
		}
	}
	writeAttributes(f, h)
	return setTime(f, parent, base, h.ModTime)
}

// fill writes a file's data, with holes where it is zero for long.
func (u *unpacker) fill(f *os.File, r io.Reader, size int64) error {
	var at, end int64
	for at < size {
		b := u.buffer[:min(size-at, int64(len(u.buffer)))]
		if _, err := io.ReadFull(r, b); err != nil {
			return err
		}
		if len(b) < len(u.buffer) || !isZero(b) {
			if _, err := f.WriteAt(b, at); err != nil {
				return err
			}
			end = at + int64(len(b))
		}
		at += int64(len(b))
	}
	if end < size {
		return f.Truncate(size)
	}
	return nil
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// fileMode turns the mode of an entry into Go's.
func fileMode(m int64) fs.FileMode {
	mode := fs.FileMode(m & 0o777)
	if m&0o4000 != 0 {
		mode |= fs.ModeSetuid
	}
	if m&0o2000 != 0 {
		mode |= fs.ModeSetgid
	}
	if m&0o1000 != 0 {
		mode |= fs.ModeSticky
	}
	return mode
}

func (u *unpacker) setTimes() error {
	for _, d := range u.dirs {
		st, err := u.root.Lstat(d.path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !st.IsDir() { // a later entry took it away
			continue
		}
		if err == nil {
			err = u.root.Chtimes(d.path, d.time, d.time)
		}
		if err != nil {
			return inDir(u.dir, err)
		}
	}
	return nil
}
