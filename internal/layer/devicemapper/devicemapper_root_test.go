//go:build root

package devicemapper

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/layer/layertest"
	"github.com/tare-engine/tare/internal/linux/dm"
)

// small are options for pools that cost little.
var small = []string{"dm.basesize=256M", "dm.loopdatasize=8G", "dm.loopmetadatasize=32M", "dm.min_free_space=1%"}

// need skips where the kernel has no device mapper, which is refused with that reason.
// When the test ends there must be nothing of device mapper's in the kernel.
func need(t *testing.T) *dm.Conn {
	t.Helper()
	c, err := dm.Open(dm.Options{Udev: dm.UdevOff})
	if errors.Is(err, syscall.ENODEV) {
		_, err := New(t.TempDir())
		if err == nil || !strings.Contains(err.Error(), "storage driver devicemapper: ") || !strings.Contains(err.Error(), "the kernel has no device mapper (module dm-mod)") {
			t.Errorf("without device mapper: %v", err)
		}
		t.Skip("this kernel has no device mapper")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if os.Getenv("TARE_LAYERTEST_OPERATION") == "" { // those of the parent are there, too
			nothing(t, c)
		}
		c.Close()
	})
	return c
}

// nothing waits until no mapped device is there.
func nothing(t *testing.T, c *dm.Conn) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		all, err := c.List()
		if err == nil && len(all) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Errorf("left in the kernel: %+v, %v", all, err)
			return
		}
	}
}

// newDriver is open; where engines are killed at each step, pool and records agree.
func newDriver(t *testing.T, root string) layer.Driver {
	t.Helper()
	d := open(t, root)
	if failpoint.Enabled {
		agreeing(t, d)
	}
	return d
}

func open(t *testing.T, root string, options ...string) *Driver {
	t.Helper()
	d, err := New(root, append(small[:len(small):len(small)], options...)...)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestSuite(t *testing.T) {
	need(t)
	layertest.Run(t, newDriver)
}
