//go:build root

package btrfs_test

import (
	"testing"

	"github.com/tare-engine/tare/internal/layer/layertest"
)

func TestMain(m *testing.M) { layertest.Main(m) }
