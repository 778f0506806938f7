//go:build root

package script

import (
	"os"
	"path/filepath"
	"testing"
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
	} {
		t.Run(name, func(t *testing.T) {
			dir := workdir(t)
			if name == "btrfs" {
				dir += "/d"
				diskOf(t, dir, "6G", "mkfs.btrfs", "-q")
			}
			run(t, startTaredIn(t, dir, options...), filepath.Join(programs(t), "tare"), files)
		})
	}
}
