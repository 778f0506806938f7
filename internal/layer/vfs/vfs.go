// Package vfs is the storage driver without any mechanism: each layer and each
// container is a whole copy. It works on every file system, and it is what the
// other drivers are compared with.
package vfs

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/projquota"
	"github.com/tare-engine/tare/internal/linux/treecopy"
	"github.com/tare-engine/tare/internal/linux/treerm"
)

// Driver keeps whole roots. Their data is shared with what they are copies of
// where the file system can (reflink).
type Driver struct {
	layer.WholeRoots
	quota bool  // the file system has project quota
	size  int64 // of containers that name none; 0: no limit
}

var _ interface {
	layer.Driver
	layer.Deleter
} = (*Driver)(nil)

// errNoQuota has dockerd's text.
var errNoQuota = errors.New("Filesystem does not support, or has not enabled quotas") //lint:ignore ST1005 dockerd's text

// New returns the driver for a data root. The options are KEY=VALUE; size is
// the one that dockerd has.
func New(root string, options ...string) (*Driver, error) {
	d := &Driver{WholeRoots: layer.WholeRoots{Root: root}, quota: projquota.Enabled(root)}
	for _, o := range options {
		key, value, ok := layer.KeyValue(o)
		var err error
		switch {
		case !ok:
			err = layer.NotKeyValue(o)
		case key == "size" || key == "vfs.size":
			d.size, err = layer.ParseSize(value)
			if err == nil && !d.quota {
				err = errNoQuota
			}
		default:
			err = errors.New("unknown option " + key + " for vfs")
		}
		if err != nil {
			return nil, err
		}
	}
	return d, nil
}

// Name returns "vfs".
func (d *Driver) Name() string { return "vfs" }

// Form returns layer.Whole.
func (d *Driver) Form() layer.Form { return layer.Whole }

// Status says nothing, as Docker's driver.
func (d *Driver) Status() [][2]string { return nil }

// Limit reads size.
func (d *Driver) Limit(options map[string]string) (size int64, err error) {
	size = d.size
	for key, value := range options {
		switch {
		case !strings.EqualFold(key, "size"):
			return 0, errdefs.New(errdefs.InvalidArgument, "Storage opt %s not supported", key)
		case !d.quota:
			return 0, errdefs.New(errdefs.InvalidArgument, "%w", errNoQuota)
		}
		if size, err = layer.ParseSize(value); err != nil {
			return 0, err
		}
	}
	return size, nil
}

// Prepare copies the topmost lower directory.
func (d *Driver) Prepare(ctx context.Context, r layer.Root) error {
	if err := os.Mkdir(r.Upper, 0o710); err != nil {
		return err
	}
	failpoint.Hit("create/driver-made")
	if r.Size > 0 {
		if err := projquota.Begin(r.Size, r.Upper); err != nil {
			return err
		}
	}
	if len(r.Lower) == 0 {
		return nil
	}
	return treecopy.Copy(ctx, r.Lower[0], r.Upper)
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
