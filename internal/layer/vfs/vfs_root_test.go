//go:build root

package vfs_test

import (
	"testing"

	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/layer/layertest"
	"github.com/tare-engine/tare/internal/layer/vfs"
)

func TestSuite(t *testing.T) {
	layertest.Run(t, func(t *testing.T, root string) layer.Driver {
		d, err := vfs.New(root)
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}
