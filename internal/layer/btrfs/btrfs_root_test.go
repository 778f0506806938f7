//go:build root

package btrfs_test

import (
	"testing"

	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/layer/btrfs"
	"github.com/tare-engine/tare/internal/layer/layertest"
)

func newDriver(t *testing.T, root string) layer.Driver {
	d, err := btrfs.New(root)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestSuite(t *testing.T) { layertest.RunOn(t, layertest.FileSystem{Kind: "btrfs"}, newDriver) }

func TestSuiteWithQuota(t *testing.T) {
	layertest.RunOn(t, layertest.FileSystem{Kind: "btrfs"}, func(t *testing.T, root string) layer.Driver {
		d, err := btrfs.New(root, "btrfs.min_space=1M")
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}
