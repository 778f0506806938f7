package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	mounttypes "github.com/moby/moby/api/types/mount"

	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/inroot"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/volume"
)

// Parts of volumes, and images, have no path of their own, and those that plugins say may
// lead elsewhere a moment later: while a container starts such are mounted below
// EXECROOT/mounts, where its process takes them from.

func (vs *volumes) partPath(id string, n int) string {
	return filepath.Join(vs.records.parts(), id+"-"+strconv.Itoa(n))
}

// source is where a container's process is to take a volume from, or the part of it: where
// its files are, or, if they have to be, where they are mounted for it.
func (vs *volumes) source(ctx context.Context, v *View, m spec.Mount, at *volume.Place, part string) (string, error) {
	if err := vs.fillMounted(ctx, v, m, at); err != nil {
		return "", err
	}
	if m.Subpath == "" {
		if at.Dir == nil {
			return at.Path, nil
		}
		return part, vs.attachCopy(at.Dir, part, true)
	}
	whole, err := at.Open()
	if err != nil {
		return "", err
	}
	defer whole.Close()
	if err := vs.fillPart(ctx, v, m, whole); err != nil {
		return "", err
	}
	return part, vs.part(whole, at.Path, m, part)
}

// part mounts a part of root, which is found by descriptor, at a place that its
// container's process is to take it from. what is what root is called in errors.
func (vs *volumes) part(root *os.File, what string, m spec.Mount, at string) error {
	f, err := inroot.OpenBeneath(root, m.Subpath, inroot.OPath)
	switch {
	case errors.Is(err, syscall.EXDEV):
		return errdefs.New(errdefs.InvalidArgument, "path concatenation escapes the base directory, base: %s, subpath: %s", what, m.Subpath)
	case err != nil:
		return errdefs.New(errdefs.InvalidArgument, "cannot access path %s: %w", filepath.Join(what, m.Subpath), err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return vs.attachCopy(f, at, info.IsDir())
}

// attachCopy attaches a copy of what is mounted at an open file among the parts.
func (vs *volumes) attachCopy(f *os.File, at string, dir bool) error {
	tree, err := mount.CloneOf(f, true)
	if err != nil {
		return err
	}
	defer tree.Close()
	return vs.attach(tree, at, dir)
}

// fillPart gives an empty part of a volume what the image has at its target, once, before
// its container's first start.
func (vs *volumes) fillPart(ctx context.Context, v *View, m spec.Mount, whole *os.File) error {
	if m.NoCopy || !v.Last.StartedAt.IsZero() {
		return nil
	}
	part, err := inroot.OpenBeneath(whole, m.Subpath, os.O_RDONLY|syscall.O_DIRECTORY)
	if err != nil {
		return nil // a file, or nothing, which is said when it is mounted
	}
	defer part.Close()
	root, err := vs.image(ctx, v.Record)
	if err != nil || root == nil {
		return err
	}
	defer root.Close()
	from, err := inroot.Open(root, m.Target, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil // the image has no such directory
	}
	defer from.Close()
	return vs.service.FillPart(ctx, m.Name, part, from, v.IDs)
}

// attach attaches a detached tree among the parts.
func (vs *volumes) attach(tree *os.File, at string, dir bool) error {
	if err := os.MkdirAll(vs.records.parts(), 0o700); err != nil {
		return err
	}
	var err error
	if dir {
		err = os.Mkdir(at, 0o700)
	} else {
		err = os.WriteFile(at, nil, 0o600)
	}
	if err != nil {
		return err
	}
	return mount.MoveTo(tree, at)
}

// wholeMark is at the end of the place of a whole image of which a part is mounted.
const wholeMark = "-whole"

// mountImage mounts the files of an image, or a part of them, read-only.
func (vs *volumes) mountImage(ctx context.Context, m spec.Mount, at string) (string, error) {
	tree, err := vs.layers.View(ctx, m.Chain)
	if err != nil {
		return "", fmt.Errorf("image %s: %w", m.Name, err)
	}
	defer tree.Close()
	if err := mount.SetAttr(tree, mount.Change{Set: mount.ReadOnly}); err != nil {
		return "", err
	}
	if m.Subpath == "" {
		return at, vs.attach(tree, at, true)
	}
	m.Source = at + wholeMark
	if err := vs.attach(tree, m.Source, true); err != nil {
		return "", err
	}
	whole, err := os.Open(m.Source)
	if err != nil {
		return "", err
	}
	defer whole.Close()
	return at, vs.part(whole, "image "+m.Name+":", m, at)
}

// endParts takes the parts away after a start: the container has its own by then.
func (vs *volumes) endParts(v *View) {
	for i, m := range v.Mounts {
		if vs.hasPart(m) {
			path := vs.partPath(v.ID, i)
			if err := errors.Join(dropPart(path), dropPart(path+wholeMark)); err != nil {
				slog.Warn("unmount a part of a volume or image", "container", v.ID, "err", err)
			}
		}
	}
}

// hasPart reports whether source, or mountImage, has mounted something for a mount.
func (vs *volumes) hasPart(m spec.Mount) bool {
	if m.Subpath != "" || m.Type == mounttypes.TypeImage {
		return true
	}
	if m.Type != mounttypes.TypeVolume {
		return false
	}
	of, err := vs.service.Get(m.Name)
	return err != nil || !vs.service.Ours(of)
}

func dropPart(path string) error { return errors.Join(mount.Detach(path), removeFile(path)) }

// dropParts takes away what starts have left that were cut off.
func (r *records) dropParts() error {
	list, err := os.ReadDir(r.parts())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, f := range list {
		err = errors.Join(err, dropPart(filepath.Join(r.parts(), f.Name())))
	}
	return err
}

// UnmountParts does so for an engine that does not run any more, of that exec root.
func UnmountParts(execRoot string) error { return (&records{execRoot: execRoot}).dropParts() }
