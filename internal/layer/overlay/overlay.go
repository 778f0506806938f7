// Package overlay is the storage driver that lets the kernel's overlayfs merge
// the layers of a chain.
package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/overlay"
	"github.com/tare-engine/tare/internal/linux/projquota"
	"github.com/tare-engine/tare/internal/linux/treerm"
)

// Driver keeps each layer in a directory of its own, whiteouts as devices 0:0.
type Driver struct {
	root     string
	empty    [2]string // directories that stay empty
	scratch  string
	metacopy bool
	quota    bool  // the file system has project quota
	size     int64 // of containers that name none; 0: no limit
}

var _ interface {
	layer.Driver
	layer.Deleter
} = (*Driver)(nil)

// New returns the driver for a data root, or why it cannot work there. For the
// options see option.go.
func New(root string, options ...string) (*Driver, error) {
	base := filepath.Join(root, "layers", "overlay")
	d := &Driver{
		root:    root,
		empty:   [2]string{filepath.Join(base, "empty", "upper"), filepath.Join(base, "empty", "lower")},
		scratch: filepath.Join(base, "staging"),
	}
	for _, dir := range []string{d.empty[0], d.empty[1], d.scratch} {
		if err := os.MkdirAll(dir, 0710); err != nil {
			return nil, err
		}
	}
	d.quota = projquota.Enabled(root)
	if err := d.set(options); err != nil {
		return nil, err
	}
	if err := overlay.Supported(d.scratch, d.metacopy); err != nil {
		return nil, fmt.Errorf("storage driver overlay on %s: %w", root, err)
	}
	return d, nil
}

// Name returns "overlay".
func (d *Driver) Name() string { return "overlay" }

// Form returns layer.Stacked.
func (d *Driver) Form() layer.Form { return layer.Stacked }

// Prepare makes an empty upper directory. Where the file system counts projects
// it begins one, with the work directory, from which files are renamed.
func (d *Driver) Prepare(_ context.Context, r layer.Root) error {
	if err := os.Mkdir(r.Upper, 0o710); err != nil || r.Work == "" {
		return err
	}
	failpoint.Hit("create/driver-made")
	if d.metacopy {
		if err := syscall.Setxattr(r.Work, metacopyMark, []byte("y"), 0); err != nil {
			return &os.PathError{Op: "setxattr", Path: r.Work, Err: err}
		}
	}
	if !d.quota {
		return nil
	}
	return projquota.Begin(r.Size, r.Upper, r.Work)
}

// metacopyMark is an attribute of the work directories of containers that are
// mounted with metacopy as long as they live: without it overlayfs refuses what
// was changed with it.
const metacopyMark = "trusted.tare.metacopy"

// metacopied reports whether r is a container that is mounted with metacopy.
func metacopied(r layer.Root) bool {
	if r.Work == "" {
		return false
	}
	n, err := syscall.Getxattr(r.Work, metacopyMark, nil)
	return err == nil && n > 0
}

// Delete takes the limit of a tree away with it.
func (d *Driver) Delete(dir string) error {
	if d.quota {
		if err := projquota.End(dir); err != nil {
			return err
		}
	}
	return treerm.All(dir)
}

// Mount mounts a container's root.
func (d *Driver) Mount(_ context.Context, r layer.Root) (*os.File, error) {
	if r.Volatile {
		// The kernel refuses a volatile upper directory a second time, as it
		// may be incomplete after a crash. Ours did not outlive a reboot.
		if err := os.RemoveAll(filepath.Join(r.Work, "work", "incompat")); err != nil {
			return nil, err
		}
	}
	lower := r.Lower
	if len(lower) == 0 {
		lower = d.empty[:1]
	}
	return overlay.Mount(overlay.Options{Lower: lower, Upper: r.Upper, Work: r.Work, Volatile: r.Volatile, Metacopy: metacopied(r), UserNS: r.UserNS, Scratch: d.scratch})
}

// View mounts lower directories read-only. The empty ones below them are there
// because overlayfs wants two.
func (d *Driver) View(_ context.Context, lower []string) (*os.File, error) {
	return d.view(lower, nil)
}

func (d *Driver) view(lower []string, ns *os.File) (*os.File, error) {
	dirs := append(append([]string{}, lower...), d.empty[:]...)
	return overlay.Mount(overlay.Options{Lower: dirs, UserNS: ns, Scratch: d.scratch})
}

// Whole puts the upper directory on top of the lower ones. It is not touched by
// a mount that reads only, and the kernel allows that another one writes to it.
func (d *Driver) Whole(_ context.Context, r layer.Root) (*os.File, error) {
	dirs := append(append([]string{r.Upper}, r.Lower...), d.empty[:]...)
	return overlay.Mount(overlay.Options{Lower: dirs, Metacopy: metacopied(r), UserNS: r.UserNS, Unmapped: 1, Scratch: d.scratch})
}

// MapsIDs tries it: kernels before 5.19 and some file systems cannot.
func (d *Driver) MapsIDs(_ context.Context, ns *os.File) error {
	m, err := d.view(nil, ns)
	if err != nil {
		return err
	}
	return m.Close()
}

// Usage is what the project of the container counts, without its directories of
// ours. Elsewhere the upper directory is walked.
func (d *Driver) Usage(ctx context.Context, r layer.Root) (layer.Usage, error) {
	if !d.quota {
		return layer.UsageOf(ctx, r.Upper)
	}
	bytes, inodes, err := projquota.Used(r.Upper)
	if errors.Is(err, projquota.ErrNone) { // made when the file system did not count
		return layer.UsageOf(ctx, r.Upper)
	}
	if err != nil {
		return layer.Usage{}, err
	}
	for _, dir := range []string{r.Upper, r.Work, filepath.Join(r.Work, "work")} {
		bytes, inodes = bytes-layer.Blocks(dir), inodes-1
	}
	return layer.Usage{Bytes: max(bytes, 0), Inodes: max(inodes, 0)}, nil
}
