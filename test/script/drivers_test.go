//go:build root

package script

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tare-engine/tare/internal/linux/dm"
)

// storageSessions are those that ask most of a storage driver.
var storageSessions = []string{
	"changes", "commit", "entrypoint", "export", "failedstart", "hello", "imagediff", "imagemount", "images", "inspect", "layer", "layers127",
	"lifecycle", "load", "mounts", "parallel", "prune", "ps", "pull", "replace", "save", "storage-opt", "usage", "userns", "users", "verify",
}

// TestStorageDrivers runs the sessions that touch storage once for each driver
// that is not the default; with TARE_STORAGE=all, all sessions.
func TestStorageDrivers(t *testing.T) {
	var files []string
	for _, name := range storageSessions {
		files = append(files, filepath.Join("testdata", name+".txtar"))
	}
	if os.Getenv("TARE_STORAGE") == "all" {
		files = nil
	}
	for name, options := range map[string][]string{
		"btrfs":    {"--storage-driver", "btrfs"},
		"vfs":      {"--storage-driver", "vfs"},
		"union":    {"--storage-driver", "union"},
		"metacopy": {"--storage-driver", "overlay", "--storage-opt", "overlay.metacopy=on"},
		"devicemapper": {
			"--storage-driver", "devicemapper", "--storage-opt", "dm.basesize=256M", "--storage-opt", "dm.loopdatasize=8G", "--storage-opt", "dm.min_free_space=1%",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := workdir(t)
			if name == "devicemapper" {
				needDeviceMapper(t, dir, options)
			}
			if name == "btrfs" {
				dir += "/d"
				diskOf(t, dir, "6G", "mkfs.btrfs", "-q")
			}
			run(t, startTaredIn(t, dir, options...), filepath.Join(programs(t), "tare"), files)
		})
	}
}

// needDeviceMapper skips where the kernel has no device mapper, which the engine says.
func needDeviceMapper(t *testing.T, dir string, options []string) {
	t.Helper()
	c, err := dm.Open(dm.Options{Udev: dm.UdevOff})
	if err == nil {
		c.Close()
		return
	}
	args := append([]string{"--data-root", dir + "/d", "--exec-root", dir + "/e", "-H", "unix://" + dir + "/s"}, options...)
	out, err := exec.Command(filepath.Join(programs(t), "tared"), args...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "error initializing graphdriver: storage driver devicemapper: ") || !strings.Contains(string(out), "the kernel has no device mapper (module dm-mod)") {
		t.Errorf("an engine without device mapper: %v: %s", err, out)
	}
	t.Skip("this kernel has no device mapper")
}
