// Package union is the storage driver that has layers in the form of aufs, and
// merges them in user space: a container's root is a FUSE file system, which a
// process of its own serves (package internal/union). So it works where the
// kernel has no overlayfs or the data root lies on one, and branches come and go
// while a container runs.
package union

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/linux/disk"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/linux/totar"
	aufs "github.com/tare-engine/tare/internal/union"
	"github.com/tare-engine/tare/internal/union/mnt"
	"github.com/tare-engine/tare/internal/union/tree"
)

// Driver keeps each layer in a directory of its own, whiteouts as files.
type Driver struct {
	root    string
	program string // tare-union
}

var _ interface {
	layer.Driver
	layer.Changer
} = (*Driver)(nil)

// New returns the driver for a data root, or why it cannot work there. Program is
// tare-union. There are no options.
func New(program, root string, options ...string) (*Driver, error) {
	if len(options) > 0 {
		key, _, ok := layer.KeyValue(options[0])
		if !ok {
			return nil, layer.NotKeyValue(options[0])
		}
		return nil, fmt.Errorf("unknown option %s: storage driver union has none", key)
	}
	if program == "" {
		return nil, errors.New("storage driver union: the program tare-union is missing; it belongs beside tared")
	}
	d := &Driver{root: root, program: program}
	scratch := filepath.Join(root, "layers", d.Name())
	if err := os.MkdirAll(scratch, 0o710); err != nil {
		return nil, err
	}
	var err error
	if d.root, err = filepath.EvalSymlinks(root); err != nil {
		return nil, err
	}
	if strings.ContainsAny(d.root, ":,\n") {
		return nil, fmt.Errorf("storage driver union: a data root whose path has a colon, a comma or a line break cannot hold branches: %q", d.root)
	}
	mnt.Sweep()
	// Whatever a mount needs is needed for this one.
	m, err := d.View(context.Background(), []string{scratch})
	if err != nil {
		return nil, fmt.Errorf("storage driver union on %s: %w", root, err)
	}
	return d, m.Close()
}

// Name returns "union".
func (d *Driver) Name() string { return "union" }

// Form returns layer.Branches.
func (d *Driver) Form() layer.Form { return layer.Branches }

// Status is what Docker's driver aufs says.
func (d *Driver) Status() [][2]string {
	dirs := 0
	for _, pattern := range []string{"layers/union/*/diff", "layers/union/*/init", "containers/*/rw"} {
		found, _ := filepath.Glob(filepath.Join(d.root, pattern)) // the patterns are right
		dirs += len(found)
	}
	return [][2]string{
		{"Root Dir", filepath.Join(d.root, "layers", d.Name())},
		{"Backing Filesystem", disk.Kind(d.root)},
		{"Dirs", strconv.Itoa(dirs)},
		{"Dirperm1 Supported", "true"},
	}
}

// Limit refuses all options with dockerd's text.
func (d *Driver) Limit(options map[string]string) (int64, error) {
	if len(options) > 0 {
		return 0, errdefs.New(errdefs.InvalidArgument, "--storage-opt is not supported for aufs")
	}
	return 0, nil
}

// Prepare makes an empty directory. One that is to be mounted gets what the union
// keeps in it: so a container starts on a full disk too.
func (d *Driver) Prepare(_ context.Context, r layer.Root) error {
	if err := os.Mkdir(r.Upper, 0o710); err != nil || r.Work == "" {
		return err
	}
	failpoint.Hit("create/driver-made")
	dir, err := dirat.Open(r.Upper)
	if err != nil {
		return &os.PathError{Op: "open", Path: r.Upper, Err: err}
	}
	defer dir.Close()
	if err := tree.Furnish(dir); err != nil {
		return fmt.Errorf("prepare %s: %w", r.Upper, err)
	}
	return nil
}

// Mount mounts a container's root, whose server ends with the last mount of it. If
// somebody has kept that of the run before, it ends now.
func (d *Driver) Mount(ctx context.Context, r layer.Root) (*os.File, error) {
	if old, err := d.UnionID(r); err == nil {
		if err := mnt.End(old); err != nil {
			return nil, fmt.Errorf("end the union that is left of the run before: %w", err)
		}
	}
	o := aufs.Defaults()
	o.Revalidate, o.Volatile = false, r.Volatile
	m, id, err := d.open(ctx, aufs.Branch{Dir: r.Upper, Perm: aufs.RW}, r, o)
	if err != nil {
		return nil, err
	}
	if err := syscall.Setxattr(r.Work, idMark, []byte(id), 0); err != nil { // takes no space, unlike a file
		m.Close()
		return nil, &os.PathError{Op: "setxattr", Path: r.Work, Err: err}
	}
	return m, nil
}

// idMark is the attribute of a container's work directory that has the ID of its
// union.
const idMark = "trusted.tare.union"

// UnionID reads what Mount has noted.
func (d *Driver) UnionID(r layer.Root) (string, error) {
	var b [64]byte
	n, err := syscall.Getxattr(r.Work, idMark, b[:])
	if err != nil {
		return "", &os.PathError{Op: "getxattr " + idMark, Path: r.Work, Err: err}
	}
	return string(b[:n]), nil
}

// Whole is the container's own directory, read-only, on top of the others. It may
// change meanwhile.
func (d *Driver) Whole(ctx context.Context, r layer.Root) (*os.File, error) {
	o := aufs.Defaults()
	o.Flags.ReadOnly = true
	m, _, err := d.open(ctx, aufs.Branch{Dir: r.Upper, Perm: aufs.RO, WH: true}, r, o)
	return m, err
}

// open mounts, with the ID of the union, a container's own branch on those of its image.
func (d *Driver) open(ctx context.Context, top aufs.Branch, r layer.Root, o aufs.Options) (m *os.File, id string, err error) {
	if _, err := os.Lstat(r.Upper); err != nil {
		return nil, "", err // one that is being removed
	}
	c := aufs.Config{Branches: append([]aufs.Branch{top}, lowerBranches(r.Lower)...), Options: o}
	return mnt.Open(ctx, d.program, c, mnt.IDs{NS: r.UserNS, From: 1})
}

// lowerBranches are layers: nobody changes them, and their whiteouts count.
func lowerBranches(dirs []string) []aufs.Branch {
	list := make([]aufs.Branch, len(dirs))
	for i, dir := range dirs {
		list[i] = aufs.Branch{Dir: dir, Perm: aufs.RR, WH: true}
	}
	return list
}

// View mounts lower directories read-only.
func (d *Driver) View(ctx context.Context, lower []string) (*os.File, error) {
	return d.view(ctx, lower, nil)
}

func (d *Driver) view(ctx context.Context, lower []string, ns *os.File) (*os.File, error) {
	o := aufs.Defaults()
	o.Revalidate, o.Flags.ReadOnly = false, true
	m, _, err := mnt.Open(ctx, d.program, aufs.Config{Branches: lowerBranches(lower), Options: o}, mnt.IDs{NS: ns})
	return m, err
}

// MapsIDs tries it: kernels before 5.12 and some file systems cannot.
func (d *Driver) MapsIDs(_ context.Context, ns *os.File) error {
	m, err := mount.Clone(d.root, false)
	if err != nil {
		return err
	}
	defer m.Close()
	return mount.SetAttr(m, mount.Change{UserNS: ns, Propagation: mount.Private})
}

// Changes compares what a container sees with what its image has, where its own
// directory has to do with it.
func (d *Driver) Changes(ctx context.Context, r layer.Root) (list []layer.Change, err error) {
	if len(r.Lower) == 0 {
		return nil, nil
	}
	err = d.both(ctx, r, func(now, before *os.File, t *touched) (err error) {
		list, err = layer.CompareMounts(ctx, now, before, t.names)
		return err
	})
	return list, err
}

// Diff writes what the container's own directory holds, which is what has changed and
// nothing else, unless files there have further names below: then as Changes.
func (d *Driver) Diff(ctx context.Context, r layer.Root, out io.Writer, o totar.Options) error {
	t, err := openTouched(r.Upper)
	if err != nil {
		return err
	}
	defer t.close()
	if !t.links {
		o.Branch = true
		return layer.DiffUpper(ctx, r, out, o)
	}
	return d.both(ctx, r, func(now, before *os.File, t *touched) error {
		o.Only = t.names
		return totar.Changes(ctx, now, before, out, o)
	})
}

// both calls f with what r shows and what is below it, nil if that is nothing.
func (d *Driver) both(ctx context.Context, r layer.Root, f func(now, before *os.File, t *touched) error) error {
	t, err := openTouched(r.Upper)
	if err != nil {
		return err
	}
	defer t.close()
	now, err := d.Whole(ctx, r)
	if err != nil {
		return err
	}
	defer now.Close()
	if len(r.Lower) == 0 {
		return f(now, nil, t)
	}
	before, err := d.view(ctx, r.Lower, r.UserNS)
	if err != nil {
		return err
	}
	defer before.Close()
	return f(now, before, t)
}

// Usage walks the container's own directory, without what the union keeps there
// for itself.
func (d *Driver) Usage(ctx context.Context, r layer.Root) (layer.Usage, error) {
	u, err := layer.UsageOf(ctx, r.Upper)
	if err != nil {
		return u, err
	}
	for _, name := range []string{aufs.WhiteoutBase, aufs.WorkDir, aufs.InodeFile} {
		own, err := layer.UsageOf(ctx, filepath.Join(r.Upper, name))
		if err != nil {
			return u, err
		}
		u.Bytes, u.Inodes = u.Bytes-own.Bytes, u.Inodes-own.Inodes
	}
	own, err := linksUsage(filepath.Join(r.Upper, aufs.LinkDir))
	u.Bytes, u.Inodes = u.Bytes-own.Bytes, u.Inodes-own.Inodes
	return u, err
}

// linksUsage is that of the link directory: most of its files have a name in the
// container too, and are the container's.
func linksUsage(dir string) (u layer.Usage, err error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return u, nil
	}
	u.Inodes = 1
	for _, e := range list {
		info, e := e.Info()
		if e != nil || info.Sys().(*syscall.Stat_t).Nlink > 1 {
			continue
		}
		u.Inodes++
		u.Bytes += min(info.Size(), disk.Taken(info))
	}
	return u, err
}
