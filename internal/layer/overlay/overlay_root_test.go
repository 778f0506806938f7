//go:build root

package overlay_test

import (
	"testing"

	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/layer/layertest"
	"github.com/tare-engine/tare/internal/layer/overlay"
)

func newDriver(t *testing.T, root string) layer.Driver {
	d, err := overlay.New(root)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestSuite(t *testing.T) { layertest.Run(t, newDriver) }

func TestSuiteOnOldKernels(t *testing.T) {
	t.Setenv("TARE_PROBE", "5.10")
	layertest.Run(t, newDriver)
}

// Kernels before 6.13 take mapped layers only where they are attached.
func TestSuiteOnMiddleKernels(t *testing.T) {
	t.Setenv("TARE_PROBE", "6.1")
	layertest.Run(t, newDriver)
}
