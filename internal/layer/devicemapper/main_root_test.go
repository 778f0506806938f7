//go:build root

package devicemapper

import (
	"testing"

	"github.com/tare-engine/tare/internal/layer/layertest"
)

func TestMain(m *testing.M) { layertest.Main(m) }
