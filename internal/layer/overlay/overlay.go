// Package overlay is the storage driver that lets the kernel's overlayfs merge
// the layers of a chain.
package overlay

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/overlay"
)

// Driver keeps each layer in a directory of its own, whiteouts as devices 0:0.
type Driver struct {
	empty   [2]string // directories that stay empty
	scratch string
}

var _ layer.Driver = (*Driver)(nil)

// New returns the driver for a data root, or why it cannot work there.
func New(root string) (*Driver, error) {
	base := filepath.Join(root, "layers", "overlay")
	d := &Driver{
		empty:   [2]string{filepath.Join(base, "empty", "upper"), filepath.Join(base, "empty", "lower")},
		scratch: filepath.Join(base, "staging"),
	}
	for _, dir := range []string{d.empty[0], d.empty[1], d.scratch} {
		if err := os.MkdirAll(dir, 0710); err != nil {
			return nil, err
		}
	}
	if err := overlay.Supported(d.scratch); err != nil {
		return nil, fmt.Errorf("storage driver overlay on %s: %w", root, err)
	}
	return d, nil
}

// Name returns "overlay".
func (d *Driver) Name() string { return "overlay" }

// Form returns layer.Stacked.
func (d *Driver) Form() layer.Form { return layer.Stacked }

// Prepare has nothing to do: an empty upper directory is a container.
func (d *Driver) Prepare(context.Context, layer.Root) error { return nil }

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
	return overlay.Mount(overlay.Options{Lower: lower, Upper: r.Upper, Work: r.Work, Volatile: r.Volatile, UserNS: r.UserNS, Scratch: d.scratch})
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

// MapsIDs tries it: kernels before 5.19 and some file systems cannot.
func (d *Driver) MapsIDs(_ context.Context, ns *os.File) error {
	m, err := d.view(nil, ns)
	if err != nil {
		return err
	}
	return m.Close()
}
