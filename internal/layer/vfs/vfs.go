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
type Driver struct{}

var _ layer.Driver = (*Driver)(nil)

// New returns the driver.
func New() *Driver { return &Driver{} }

// Name returns "vfs".
func (d *Driver) Name() string { return "vfs" }

// Stacked returns false: a layer's directory holds all layers below as well.
func (d *Driver) Stacked() bool { return false }

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
	return mount.Clone(r.Upper, false)
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
