// Package vfs is the storage driver without any mechanism: each layer and each
// container is a whole copy. It works on every file system, and it is what the
// other drivers are compared with.
package vfs

import (
	"context"
	"os"

	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/linux/treecopy"
)

// Driver keeps whole roots.
type Driver struct{ root string }

var _ layer.Driver = (*Driver)(nil)

// New returns the driver for a data root.
func New(root string) *Driver { return &Driver{root} }

// Name returns "vfs".
func (d *Driver) Name() string { return "vfs" }

// Form returns layer.Whole.
func (d *Driver) Form() layer.Form { return layer.Whole }

// Prepare copies the topmost lower directory unless that was done before.
func (d *Driver) Prepare(ctx context.Context, r layer.Root) error {
	if len(r.Lower) == 0 {
		return nil
	}
	entries, err := os.ReadDir(r.Upper)
	if err != nil || len(entries) > 0 {
		return err
	}
	return treecopy.Copy(ctx, r.Lower[0], r.Upper)
}

// Mount binds the copy.
func (d *Driver) Mount(_ context.Context, r layer.Root) (*os.File, error) {
	m, err := mount.Clone(r.Upper, false)
	if err != nil || r.UserNS == nil {
		return m, err
	}
	if err := mount.SetAttr(m, mount.Change{UserNS: r.UserNS, Propagation: mount.Private}); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// MapsIDs tries it: kernels before 5.12 and some file systems cannot.
func (d *Driver) MapsIDs(ctx context.Context, ns *os.File) error {
	m, err := d.Mount(ctx, layer.Root{Upper: d.root, UserNS: ns})
	if err != nil {
		return err
	}
	return m.Close()
}

// View binds the topmost layer, read-only.
func (d *Driver) View(_ context.Context, lower []string) (*os.File, error) {
	m, err := mount.Clone(lower[0], false)
	if err != nil {
		return nil, err
	}
	if err := mount.SetAttr(m, mount.Change{Set: mount.ReadOnly}); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}
