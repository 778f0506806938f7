// Package untar unpacks tar streams into a directory, by descriptors only.
//
// The archive is not trusted. Every name in it is resolved by openat2 from the
// descriptor of the target directory (RESOLVE_IN_ROOT: absolute names, ".." and
// symbolic links stay inside), and what is made there is changed through
// descriptors. Nothing outside the directory can be read, made or changed,
// whatever the archive says.
//
// A layer's whiteouts (OCI image specification, layer.md) say which names of
// the layers below are gone:
//
//	.wh.NAME       NAME is removed
//	.wh..wh..opq   all of this directory's lower content is removed
//
// [Options.Whiteouts] chooses between the form that overlayfs reads and taking
// the files away at once.
package untar

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Whiteouts says what becomes of whiteouts.
type Whiteouts int

const (
	// Overlay leaves what overlayfs reads: devices 0:0 and the opaque attribute.
	Overlay Whiteouts = iota
	// Remove takes lower files away: the directory holds a copy of the layers below.
	Remove
	// Literal: there are no layers, and no whiteouts. The names are names.
	Literal
	// Files leaves what aufs reads: files .wh.NAME and .wh..wh..opq, as in the archive.
	Files
)

// Options of an unpacking. Limits that are zero take the defaults.
type Options struct {
	Whiteouts Whiteouts
	Bytes     int64 // data of all files together, for which there is room: more is ENOSPC
	Entries   int
	Depth     int // directories above an entry

	// Raise calls f with the right to set attributes trusted.*, which takes
	// CAP_SYS_ADMIN. nil: the caller's thread has it.
	Raise func(f func() error) error

	// Live is for a directory in somebody's tree that is in use.
	Live *Live
}

// Live says how to unpack into a directory that belongs to a tree which is in
// use. The thread has that tree as its root (package mount, View): links and mounts
// lead where they lead there. What the archive has no name for stays. What is
// mounted on is not replaced but written anew.
type Live struct {
	// Own turns the owner of an entry into that of the file.
	Own func(uid, gid int) (int, int, error)
	// KeepKinds refuses to replace a directory by something else, or something else
	// by a directory, with a KindError.
	KeepKinds bool
	// FDs is the path by which the thread finds the descriptors of the process, with
	// a slash at its end.
	FDs string
	// UID and GID are who the thread's new files belong to, and its umask is 0.
	UID, GID int
	// Attr turns the value of an attribute into what the file gets; nil: nothing.
	Attr func(name string, value []byte) ([]byte, error)
}

// KindError says that an entry is of another kind than what it would replace.
type KindError struct {
	Path string // from the directory
	Dir  bool   // what is there is a directory
}

func (e *KindError) Error() string {
	if e.Dir {
		return fmt.Sprintf("cannot overwrite directory %q with non-directory", e.Path)
	}
	return fmt.Sprintf("cannot overwrite non-directory %q with directory", e.Path)
}

// Defaults of the limits. Real images stay far below: the largest layers seen
// have some 500,000 files.
const (
	maxEntries = 4 << 20
	maxDepth   = 1024
	maxHoles   = 64 << 30 // bytes of holes: reading them costs time, not space
	maxBytes   = 1 << 50
)

// Result of an unpacking.
type Result struct {
	Size    int64 // bytes of data of regular files
	Disk    int64 // bytes that the tree takes on its file system, as du(1) counts them
	Entries int
	// Implied are the directories that the archive uses without an entry of
	// their own, "." for the root: their owner and mode are still to be set.
	Implied []string
}

// InputError is an error that the archive is to blame for.
type InputError struct{ Err error }

func (e *InputError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *InputError) Unwrap() error { return e.Err }

func inputErrorf(format string, args ...any) error {
	return &InputError{fmt.Errorf(format, args...)}
}

// Unpack unpacks the tar stream r into the directory root, which the caller
// keeps for itself meanwhile. After an error the directory holds rubbish.
// r is not read behind the end of the archive by more than a buffer.
func Unpack(ctx context.Context, root *os.File, r io.Reader, o Options) (Result, error) {
	u := newUnpacker(root, o)
	defer u.closeParent()
	if err := u.entries(ctx, tar.NewReader(bufio.NewReaderSize(r, 256<<10))); err != nil {
		return u.result, err
	}
	if !u.rootSeen && u.live == nil {
		u.result.Implied = append(u.result.Implied, ".")
	}
	if err := u.setDirTimes(); err != nil {
		return u.result, err
	}
	u.measureDirs()
	return u.result, nil
}

// entries makes all that the archive has.
func (u *unpacker) entries(ctx context.Context, tr *tar.Reader) (err error) {
	if u.live != nil {
		u.finisher = newFinisher(u.setFile)
		defer func() {
			if e := u.finisher.close(); err == nil {
				err = e
			}
		}()
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return archiveError(err)
		}
		if err := u.entry(h, tr); err != nil {
			return blame(h.Name, err)
		}
	}
}

// archiveError tells a broken archive from a stream that failed.
func archiveError(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrFieldTooLong) {
		return inputErrorf("archive/tar: %w", err)
	}
	return err
}

// blame names the entry and decides whose fault an error is: the machine's for
// the few errors below, else the archive's.
func blame(name string, err error) error {
	var in *InputError
	if errors.As(err, &in) {
		return inputErrorf("entry %.300q: %w", name, err)
	}
	if kind := (*KindError)(nil); errors.As(err, &kind) {
		return kind
	}
	for _, e := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EMFILE, syscall.ENFILE,
		syscall.ENOMEM, syscall.EROFS, syscall.EACCES, syscall.ENOSYS} {
		if errors.Is(err, e) {
			return fmt.Errorf("entry %.300q: %w", name, err)
		}
	}
	var errno syscall.Errno
	if errors.As(err, &errno) || errors.Is(err, io.ErrUnexpectedEOF) {
		return inputErrorf("entry %.300q: %w", name, err)
	}
	return fmt.Errorf("entry %.300q: %w", name, err)
}

type unpacker struct {
	root    *os.File
	options Options
	live    *Live  // nil: the directory is the unpacker's alone
	beyond  uint64 // flags of openat2 that keep paths inside the root
	within  uint64 // and inside a directory
	fds     string // path of our descriptors
	result  Result

	finisher *finisher // of a tree in use, where files are many small ones most of the time

	// The directory of the last entry: archives list a directory's files together.
	parentPath string
	parent     int // descriptor, -1 if none

	dirs     []dirTimes
	seen     map[string]struct{} // with Remove: what this archive made, which its whiteouts do not concern
	whited   map[string]struct{} // with Files: names whose whiteouts this archive has made
	rootSeen bool
	holes    int64
	buffer   []byte
}

// dirTimes are set at the end: making files in a directory changes its time.
type dirTimes struct {
	path         string
	atime, mtime time.Time
}

func newUnpacker(root *os.File, o Options) *unpacker {
	if o.Bytes <= 0 {
		o.Bytes = maxBytes
	}
	if o.Entries <= 0 {
		o.Entries = maxEntries
	}
	if o.Depth <= 0 {
		o.Depth = maxDepth
	}
	if o.Raise == nil {
		o.Raise = func(f func() error) error { return f() }
	}
	u := &unpacker{root: root, options: o, live: o.Live, parent: -1, buffer: make([]byte, 512<<10)}
	u.beyond, u.within, u.fds = unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_XDEV, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_XDEV, "/proc/self/fd/"
	if o.Live != nil {
		u.beyond, u.within, u.fds = 0, unix.RESOLVE_BENEATH, o.Live.FDs
	}
	switch o.Whiteouts {
	case Remove:
		u.seen = map[string]struct{}{}
	case Files:
		u.whited = map[string]struct{}{}
	}
	return u
}

// clean makes a name relative to the root and takes "." and ".." out of it.
func clean(name string) string {
	if p := path.Clean("/" + name); p != "/" {
		return p[1:]
	}
	return "."
}

// split is path.Split without the slash; the parent of "a" is ".".
func split(p string) (dir, base string) {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i], p[i+1:]
	}
	return ".", p
}

func (u *unpacker) checkName(p string) error {
	switch {
	case len(p) >= 4096:
		return inputErrorf("name of %d bytes", len(p))
	case strings.Count(p, "/") >= u.options.Depth:
		return inputErrorf("more than %d directories deep", u.options.Depth)
	case strings.IndexByte(p, 0) >= 0:
		return inputErrorf("name holds a zero byte")
	}
	return nil
}

func (u *unpacker) entry(h *tar.Header, r io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if u.result.Entries++; u.result.Entries > u.options.Entries {
		return inputErrorf("more than %d entries", u.options.Entries)
	}
	p := clean(h.Name)
	if err := u.checkName(p); err != nil {
		return err
	}
	if u.live != nil {
		return u.liveEntry(p, h, r)
	}
	if p == "." {
		if h.Typeflag != tar.TypeDir {
			return inputErrorf("the root is not a directory")
		}
		u.rootSeen = true
		return u.setDir(int(u.root.Fd()), p, h)
	}
	dir, base := split(p)
	if u.options.Whiteouts != Literal {
		switch in := whiteoutAbove(dir); {
		case strings.HasPrefix(in, metaPrefix): // of aufs
			return nil
		case in != "":
			return inputErrorf("is in the whiteout %.300q", in)
		}
		if strings.HasPrefix(base, whiteoutPrefix) {
			return u.whiteout(dir, base)
		}
	}
	parent, err := u.openParent(dir)
	if err != nil {
		return err
	}
	if u.seen != nil {
		u.see(p)
	}
	if u.options.Whiteouts == Files {
		return u.makeBesideFiles(parent, base, p, h, r)
	}
	return u.make(parent, base, p, h, r)
}

// liveEntry is entry for a tree in use. The directory itself stays as it is.
func (u *unpacker) liveEntry(p string, h *tar.Header, r io.Reader) error {
	if leadsOut(h.Name) {
		return inputErrorf("%q is outside of the directory", h.Name)
	}
	if h.Typeflag == tar.TypeLink && leadsOut(h.Linkname) {
		return inputErrorf("hard link to %.300q, which is outside of the directory", h.Linkname)
	}
	if p == "." {
		return nil
	}
	dir, base := split(p)
	parent, err := u.openParent(dir)
	if err != nil {
		return err
	}
	return u.make(parent, base, p, h, r)
}

// leadsOut reports whether a name goes above where it begins.
func leadsOut(name string) bool {
	q := path.Clean(name)
	return q == ".." || strings.HasPrefix(q, "../")
}

// make makes the entry at base in the directory parent.
func (u *unpacker) make(parent int, base, p string, h *tar.Header, r io.Reader) error {
	if err := checkIDs(h); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.makeDir(parent, base, p, h)
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return u.makeFile(parent, base, p, h, r)
	case tar.TypeLink:
		return u.makeLink(parent, base, p, h)
	case tar.TypeSymlink:
		return u.makeSymlink(parent, base, p, h)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return u.makeNode(parent, base, p, h)
	}
	return inputErrorf("unhandled tar header type %q", h.Typeflag)
}

func checkIDs(h *tar.Header) error {
	const top = 1<<32 - 1 // (uid_t)-1 means "leave as it is"
	if h.Uid < 0 || h.Uid >= top || h.Gid < 0 || h.Gid >= top {
		return inputErrorf("owner %d:%d", h.Uid, h.Gid)
	}
	return nil
}
