// Package btrfs is the storage driver for a data root on btrfs: each layer and
// each container is a subvolume, made as a snapshot of the one below. Quota
// groups bound and measure containers.
package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/btrfs"
	"github.com/tare-engine/tare/internal/linux/treerm"
)

// Driver keeps whole roots that share what they have in common.
type Driver struct {
	layer.WholeRoots
	minSpace int64 // least limit of a container; 0: none
}

var _ interface {
	layer.Driver
	layer.Deleter
} = (*Driver)(nil)

// New returns the driver for a data root, or why it cannot work there. The
// options are KEY=VALUE; btrfs.min_space is the least limit that a container may
// have, and enables quota groups.
func New(root string, options ...string) (*Driver, error) {
	for _, dir := range []string{root, filepath.Join(root, "layers", "btrfs", "staging"), filepath.Join(root, "containers")} {
		if err := os.MkdirAll(dir, 0o710); err != nil {
			return nil, err
		}
		on, err := btrfs.On(dir)
		if err != nil {
			return nil, err
		}
		if !on {
			return nil, fmt.Errorf("storage driver btrfs needs a data root on btrfs, and %s is not: prerequisites for driver not satisfied (wrong filesystem?)", dir)
		}
	}
	d := &Driver{WholeRoots: layer.WholeRoots{Root: root}}
	for _, o := range options {
		key, value, ok := layer.KeyValue(o)
		var err error
		switch {
		case !ok:
			err = layer.NotKeyValue(o)
		case key == "btrfs.min_space":
			if d.minSpace, err = layer.ParseSize(value); err == nil {
				err = btrfs.EnableQuota(root)
			}
		default:
			//lint:ignore ST1005 dockerd's text
			err = fmt.Errorf("Unknown option %s", key)
		}
		if err != nil {
			return nil, err
		}
	}
	return d, nil
}

// Name returns "btrfs".
func (d *Driver) Name() string { return "btrfs" }

// Form returns layer.Shared.
func (d *Driver) Form() layer.Form { return layer.Shared }

// Status is the line of Docker's driver.
func (d *Driver) Status() [][2]string { return [][2]string{{"Btrfs", ""}} }

// Limit reads size. What the image has counts too, as with Docker.
func (d *Driver) Limit(options map[string]string) (size int64, err error) {
	for key, value := range options {
		if !strings.EqualFold(key, "size") {
			return 0, errdefs.New(errdefs.InvalidArgument, "Unknown option %s", key)
		}
		if size, err = units.RAMInBytes(value); err != nil {
			return 0, errdefs.New(errdefs.InvalidArgument, "%w", err)
		}
		switch {
		case size <= 0:
			return 0, errdefs.New(errdefs.InvalidArgument, "btrfs: invalid storage size: %s", units.HumanSize(float64(size)))
		case size < d.minSpace:
			return 0, errdefs.New(errdefs.InvalidArgument, "btrfs: storage size cannot be less than %s", units.HumanSize(float64(d.minSpace)))
		}
	}
	return size, nil
}

// Prepare makes a subvolume: a snapshot of the topmost lower one if there is any.
func (d *Driver) Prepare(_ context.Context, r layer.Root) (err error) {
	if len(r.Lower) == 0 {
		err = btrfs.Create(r.Upper)
	} else {
		err = btrfs.Snapshot(r.Lower[0], r.Upper)
	}
	failpoint.Hit("create/driver-made")
	if err != nil || r.Size == 0 {
		return err
	}
	if err := btrfs.EnableQuota(d.Root); err != nil {
		return err
	}
	return btrfs.Limit(r.Upper, r.Size)
}

// Usage is what no other subvolume has, where quota groups count that: as of the
// file system's last commit. Elsewhere the root is compared with the image.
func (d *Driver) Usage(ctx context.Context, r layer.Root) (layer.Usage, error) {
	u, err := btrfs.Used(r.Upper)
	if errors.Is(err, btrfs.ErrNoQuota) {
		return d.WholeRoots.Usage(ctx, r)
	}
	if err != nil {
		return layer.Usage{}, err
	}
	return layer.Usage{Bytes: u.Exclusive}, nil
}

// Delete deletes the subvolumes in a directory, or that it is, and what a
// container has made in them, then the rest.
func (d *Driver) Delete(dir string) error {
	is, err := btrfs.IsSubvolume(dir)
	if err != nil {
		return err
	}
	if is {
		return btrfs.Delete(dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if !e.IsDir() {
			continue
		}
		if is, err := btrfs.IsSubvolume(path); err != nil || !is {
			if err != nil {
				return err
			}
			continue
		}
		if err := btrfs.Delete(path); err != nil {
			return err
		}
	}
	return treerm.All(dir)
}
