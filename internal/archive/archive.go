package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/inroot"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/linux/totar"
	"github.com/tare-engine/tare/internal/linux/untar"
)

// PackOptions say how files appear in an archive.
type PackOptions struct {
	UID, GID func(uint32) uint32 // owners of the host's become those of the container's; nil: they are
}

// Pack writes what is at p as a tar stream, after it has told what that is.
// Nothing there is fs.ErrNotExist.
//
// The stream is whole whatever happens to the files meanwhile: of what vanishes
// there is no entry, what shrinks is filled up with zeros, what grows is cut off.
func Pack(ctx context.Context, root *os.File, p string, o PackOptions, told func(container.PathStat) (io.Writer, error)) error {
	at, err := find(root, p)
	if err != nil {
		return err
	}
	defer at.dir.Close()
	st, err := at.stat(root)
	if err != nil {
		return err
	}
	out, err := told(st)
	if err != nil {
		return err
	}
	err = totar.Entry(ctx, at.dir, at.base, at.name, out, totar.Options{UID: o.UID, GID: o.GID, Seconds: true, FDs: mount.FDs, Inert: true})
	if _, ok := errors.AsType[*totar.TreeError](err); ok {
		return errdefs.New(errdefs.InvalidArgument, "no archive can hold these files: %w", err)
	}
	return err
}

// UnpackOptions say what becomes of an archive's files.
type UnpackOptions struct {
	// Own turns the owner of an entry into that of the file.
	Own          func(uid, gid int) (int, int, error)
	RootUID      int  // of the container, on the host; the host's own for a volume
	UID, GID     int  // of the thread's new files
	KeepKinds    bool // refuse to replace a directory by something else, and the reverse
	ReadOnlyRoot bool // the container must not change its root
	Volume       bool // the root is a volume, not a container's
}

// Unpack unpacks a tar stream into the directory at p, links followed. Nothing
// there is fs.ErrNotExist. What the archive does not name stays. After an error
// what came before it is there, as after tar(1).
func Unpack(ctx context.Context, root *os.File, p string, in io.Reader, o UnpackOptions) error {
	at := place{full: path.Clean("/" + p)}
	dir, err := inroot.Open(root, at.full, inroot.OPath, 0)
	if err != nil {
		return at.fault(err)
	}
	defer dir.Close()
	st, err := dir.Stat()
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return errdefs.New(errdefs.InvalidArgument, "extraction point is not a directory")
	}
	if err := o.writable(root, dir); err != nil {
		return err
	}
	live := untar.Live{Own: o.Own, KeepKinds: o.KeepKinds, FDs: mount.FDs, Attr: o.attribute, UID: o.UID, GID: o.GID}
	_, err = untar.Unpack(ctx, dir, in, untar.Options{Whiteouts: untar.Literal, Live: &live})
	return explain(at.full, err)
}

// writable finds out whether the mount that a directory is on may be changed.
func (o UnpackOptions) writable(root, dir *os.File) error {
	inRoot, err := mount.Same(root, dir)
	if err != nil {
		return err
	}
	a, err := mount.AttrOf(dir)
	switch {
	case err != nil:
		return err
	case inRoot && !o.Volume && (o.ReadOnlyRoot || a&mount.ReadOnly != 0):
		return errdefs.New(errdefs.InvalidArgument, "container rootfs is marked read-only")
	case a&mount.ReadOnly != 0:
		return errdefs.New(errdefs.InvalidArgument, "mounted volume is marked read-only")
	}
	return nil
}

// explain tells the client's errors from ours, in Docker's words where it has
// some.
func explain(full string, err error) error {
	if kind, ok := errors.AsType[*untar.KindError](err); ok {
		if kind.Dir {
			return errdefs.New(errdefs.InvalidArgument, "cannot overwrite directory %q with non-directory %q", path.Join(full, kind.Path), full)
		}
		return errdefs.New(errdefs.InvalidArgument, "cannot overwrite non-directory %q with directory %q", path.Join(full, kind.Path), full)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errdefs.New(errdefs.InvalidArgument, "Error processing tar file: %w", io.ErrUnexpectedEOF)
	}
	if _, ok := errors.AsType[*untar.InputError](err); ok {
		return errdefs.New(errdefs.InvalidArgument, "Error processing tar file: %w", err)
	}
	if err != nil {
		return fmt.Errorf("unpack into %s: %w", full, err)
	}
	return nil
}
