// Package totar writes directories as tar streams: whole trees, and what one
// tree changes against another as a layer (OCI image specification, layer.md).
// It is the reverse of package untar.
//
// The trees are not trusted, and may change meanwhile. Nothing in them is
// followed: each name is opened below the descriptor of its directory, only
// regular files and directories are opened for reading, and only after a look
// at what they are (a device is opened by nobody). What vanishes meanwhile is
// left out, what shrinks is filled up with zeros, what grows is cut off.
//
// The same tree gives the same bytes: names are sorted, and nothing is written
// that depends on the machine. Owners are numbers, times are those of the last
// change in nanoseconds. A socket is left out: it means nothing without the
// process that made it. Attributes are those that package untar takes.
package totar

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Options of an archive.
type Options struct {
	UID, GID func(uint32) uint32 // turn owners of files into those that the archive gets; nil: they stay
	Root     bool                // the root has an entry at all times
	Seconds  bool                // times are whole seconds, as in archives that are not to be stored
	// FDs is the path by which the thread finds the descriptors of the process, with
	// a slash at its end; "": /proc/self/fd/.
	FDs string
	// Inert says that the tree is mounted without devices: whatever is opened by
	// mistake, because somebody has changed it meanwhile, nothing happens.
	Inert bool
	// Merged is, for Upper, the root that overlayfs shows of it. It is needed for
	// one that was changed with metacopy or redirect_dir: data and renamed
	// directories are taken from it. nil: there was neither.
	Merged *os.File
	// Branch says, for Upper, that the directory is a branch of aufs: its whiteouts
	// are files with the names that those of layers have.
	Branch bool
	// Only says, for Changes, which names in a directory may differ, nil if all
	// may. It is asked for a directory before those below. nil: all may.
	Only func(dir string) (map[string]bool, error)
}

// Limits of package untar, which takes no more.
const (
	maxDepth = 1024
	maxName  = 4096
	maxHoles = 64 << 30 // bytes, of a layer: they become zeros, which somebody has to store
)

// TreeError is an error that the tree is to blame for: no archive can hold it.
type TreeError struct {
	Path string
	Err  error
}

func (e *TreeError) Error() string { return fmt.Sprintf("%.300q: %v", e.Path, e.Err) }

// Unwrap returns the cause.
func (e *TreeError) Unwrap() error { return e.Err }

// Tree writes all that is below root. The root itself has an entry if its mode,
// owner or attributes are not those that a new directory has anyway.
func Tree(ctx context.Context, root *os.File, out io.Writer, o Options) error {
	w := newWriter(ctx, out, o)
	n, err := w.open(int(root.Fd()), ".")
	if err != nil {
		return err
	}
	defer n.close()
	h, err := w.header(n, ".")
	if err != nil {
		return err
	}
	if o.Root || h.Mode != 0o755 || h.Uid != 0 || h.Gid != 0 || len(h.PAXRecords) > 0 {
		if err := w.write(n, h); err != nil {
			return err
		}
	}
	if err := w.all(n, ".", 0); err != nil {
		return err
	}
	return w.tar.Close()
}

// Entry writes the entry base of a directory under another name, and below that
// all that is in it. base "." is the directory itself. The name may be "/" or
// "."; entries below have it in front.
func Entry(ctx context.Context, dir *os.File, base, name string, out io.Writer, o Options) error {
	w := newWriter(ctx, out, o)
	w.name = name
	n, err := w.open(int(dir.Fd()), base)
	if err != nil {
		return &os.PathError{Op: "open", Path: base, Err: err}
	}
	defer n.close()
	if err := w.entry(n, "."); err != nil {
		return err
	}
	if n.dir() {
		if err := w.all(n, ".", 0); err != nil {
			return err
		}
	}
	return w.tar.Close()
}

// named is the name that an entry gets, whose path is p.
func (w *writer) named(p string) string {
	switch {
	case w.name == "":
		return p
	case p == ".":
		return w.name
	case w.name == "/":
		return "/" + p
	}
	return w.name + "/" + p
}

// all writes what is in the directory n, which is depth directories deep. A layer
// cannot have the names of whiteouts.
func (w *writer) all(n *node, p string, depth int) error {
	return w.each(n, p, depth, func(child *node, q string) error {
		if w.layer && strings.HasPrefix(path.Base(q), whiteoutPrefix) {
			return nil
		}
		if err := w.entry(child, q); err != nil || !child.dir() {
			return err
		}
		return w.all(child, q, depth+1)
	})
}

// each calls f for each entry of the directory n.
func (w *writer) each(n *node, p string, depth int, f func(child *node, q string) error) error {
	if err := w.check(p, depth); err != nil {
		return err
	}
	only, err := w.only(p)
	if err != nil {
		return err
	}
	entries, err := n.entries()
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if only != nil && !only[name] {
			continue
		}
		child, err := w.openEntry(n.fd, e)
		if vanished(err) {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "open", Path: path.Join(p, name), Err: err}
		}
		err = f(child, path.Join(p, name))
		child.close()
		if err != nil {
			return err
		}
	}
	return nil
}

// only is Options.Only.
func (w *writer) only(dir string) (map[string]bool, error) {
	if w.o.Only == nil {
		return nil, nil
	}
	return w.o.Only(dir)
}

func (w *writer) check(p string, depth int) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if depth > maxDepth {
		return &TreeError{p, fmt.Errorf("more than %d directories deep", maxDepth)}
	}
	return nil
}

// vanished reports whether an error says that somebody else was faster.
func vanished(err error) bool {
	return err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP || err == unix.ESTALE
}

// writer writes one archive.
type writer struct {
	ctx    context.Context // of one archive
	tar    *tar.Writer
	o      Options
	linked map[inode]string // first names of files that have several
	buffer []byte
	layer  bool   // it is to be stored
	holes  int64  // bytes, of a layer
	name   string // of the whole; "": entries have their paths as names
}

type inode struct{ dev, ino uint64 }

func newWriter(ctx context.Context, out io.Writer, o Options) *writer {
	same := func(id uint32) uint32 { return id }
	if o.UID == nil {
		o.UID = same
	}
	if o.GID == nil {
		o.GID = same
	}
	if o.FDs == "" {
		o.FDs = "/proc/self/fd/"
	}
	return &writer{ctx: ctx, tar: tar.NewWriter(out), o: o, linked: map[inode]string{}, buffer: make([]byte, 512<<10)}
}

// entry writes what is at p.
func (w *writer) entry(n *node, p string) error {
	h, err := w.header(n, p)
	if vanished(err) || h == nil && err == nil {
		return nil
	}
	if err != nil {
		return err
	}
	return w.write(n, h)
}

func (w *writer) write(n *node, h *tar.Header) error {
	if len(h.Name) >= maxName {
		return &TreeError{h.Name, fmt.Errorf("name of %d bytes", len(h.Name))}
	}
	if w.layer && h.Size > 0 {
		const unit = 512 // of st_blocks, whatever the file system's is
		if w.holes += max(h.Size-n.st.Blocks*unit, 0); w.holes > maxHoles {
			return &TreeError{h.Name, fmt.Errorf("holes of more than %d bytes", int64(maxHoles))}
		}
	}
	if err := w.tar.WriteHeader(h); err != nil {
		return w.wrap(h.Name, err)
	}
	if h.Size == 0 {
		return nil
	}
	return w.wrap(h.Name, w.data(n.fd, h.Size))
}

// wrap tells errors of the tree from those of the stream.
func (w *writer) wrap(p string, err error) error {
	if err == nil {
		return nil
	}
	if err == tar.ErrFieldTooLong || strings.HasPrefix(err.Error(), "archive/tar: cannot encode header") {
		return &TreeError{p, err}
	}
	return fmt.Errorf("%.300q: %w", p, err)
}

// data writes exactly size bytes, whatever happens to the file.
func (w *writer) data(fd int, size int64) error {
	for left := size; left > 0; {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		b := w.buffer[:min(left, int64(len(w.buffer)))]
		n, err := unix.Read(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "read", Path: "data", Err: err}
		}
		if n == 0 { // it was cut off meanwhile
			clear(b)
			n = len(b)
		}
		if _, err := w.tar.Write(b[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

// header describes what is at p; nil if no archive has such. A file whose data
// is in the archive already becomes a hard link.
func (w *writer) header(n *node, p string) (*tar.Header, error) {
	st := &n.st
	p = w.named(p)
	h := &tar.Header{
		Name: p, Mode: int64(st.Mode & 07777), Uid: int(w.o.UID(st.Uid)), Gid: int(w.o.GID(st.Gid)),
		ModTime: time.Unix(st.Mtim.Unix()), Format: tar.FormatPAX,
	}
	if w.o.Seconds {
		h.ModTime = time.Unix(st.Mtim.Sec, 0)
	}
	if !n.dir() && st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := w.linked[id]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return h, nil
		}
		if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
			w.linked[id] = p
		}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, strings.TrimSuffix(p, "/")+"/"
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFLNK:
		to, err := n.readlink()
		if err != nil {
			w.forget(n, p)
			return nil, err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, to
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeBlock
		if st.Mode&unix.S_IFMT == unix.S_IFCHR {
			h.Typeflag = tar.TypeChar
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	default:
		return nil, nil
	}
	attrs, err := n.xattrs()
	if err != nil {
		w.forget(n, p)
		return nil, err
	}
	for name, value := range attrs {
		if value = w.o.inAttr(name, value); value == nil {
			continue
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+name] = string(value)
	}
	return h, nil
}

// forget takes back that p is the first name of a file.
func (w *writer) forget(n *node, p string) {
	if id := (inode{n.st.Dev, n.st.Ino}); w.linked[id] == p {
		delete(w.linked, id)
	}
}

// node is an entry of a directory, opened.
type node struct {
	fd   int // for reading if it is a regular file or a directory, else O_PATH
	st   unix.Stat_t
	attr string // a path of it for calls that take no O_PATH descriptor
}

// open opens name below a directory, without following anything. The caller
// closes the result.
func (w *writer) open(dir int, name string) (*node, error) {
	if w.o.Inert {
		n, err := openInert(dir, name)
		if n != nil || err != nil {
			return n, err
		}
	}
	return openNode(dir, name, w.o.FDs)
}

// openEntry is open for an entry of a directory, which tells what it is.
func (w *writer) openEntry(dir int, e os.DirEntry) (*node, error) {
	if w.o.Inert && (e.Type().IsRegular() || e.IsDir()) {
		n, err := openReadable(dir, e.Name())
		if n != nil || err != nil && err != unix.ENXIO && err != unix.ELOOP {
			return n, err
		}
	}
	return w.open(dir, e.Name())
}

// openInert is openNode for what may be opened without harm; nil: it is neither
// a regular file nor a directory.
func openInert(dir int, name string) (*node, error) {
	n := &node{}
	if err := unix.Fstatat(dir, name, &n.st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, err
	}
	if !n.readable() {
		return nil, nil
	}
	return openReadable(dir, name)
}

// openReadable opens what was a regular file or a directory when it was looked at;
// nil: it is something else by now.
func openReadable(dir int, name string) (*node, error) {
	n := &node{}
	var err error
	if n.fd, err = openReading(dir, name, unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY); err != nil {
		return nil, err
	}
	if err := unix.Fstat(n.fd, &n.st); err != nil || !n.readable() { // it was changed meanwhile
		unix.Close(n.fd)
		return nil, err
	}
	return n, nil
}

// readable reports whether a node is of a kind that is opened for reading.
func (n *node) readable() bool {
	return n.st.Mode&unix.S_IFMT == unix.S_IFREG || n.dir()
}

// openReading leaves the time of the last access alone, where it may.
func openReading(dir int, name string, flags int) (int, error) {
	fd, err := openat(dir, name, unix.O_RDONLY|unix.O_NOATIME|flags)
	if err == unix.EPERM {
		return openat(dir, name, unix.O_RDONLY|flags)
	}
	return fd, err
}

// openNode opens name below a directory; fds is as in Options.
func openNode(dir int, name, fds string) (*node, error) {
	at, err := openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	n := &node{fd: at}
	if err := unix.Fstat(at, &n.st); err != nil {
		unix.Close(at)
		return nil, err
	}
	if !n.readable() {
		n.attr = fds + strconv.Itoa(dir) + "/" + name
		return n, nil
	}
	// The very file that was looked at.
	n.fd, err = openReading(unix.AT_FDCWD, fds+strconv.Itoa(at), 0)
	unix.Close(at)
	if err != nil {
		return nil, err
	}
	return n, nil
}

func openat(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func (n *node) close() {
	if n != nil {
		unix.Close(n.fd)
	}
}

func (n *node) dir() bool { return n.st.Mode&unix.S_IFMT == unix.S_IFDIR }

// names lists a directory, sorted.
func (n *node) names() ([]string, error) {
	entries, err := n.entries()
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

// entries lists a directory, sorted by name.
func (n *node) entries() ([]os.DirEntry, error) {
	again, err := openat(n.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if vanished(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(again), "directory")
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if errors.Is(err, unix.ENOENT) { // of a directory that was removed
		return nil, nil
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, err
}

func (n *node) readlink() (string, error) {
	var b [unix.PathMax]byte
	k, err := unix.Readlinkat(n.fd, "", b[:])
	return string(b[:max(k, 0)]), err
}
