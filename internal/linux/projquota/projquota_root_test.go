//go:build root

package projquota_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/layer/layertest"
	"github.com/tare-engine/tare/internal/linux/projquota"
	"github.com/tare-engine/tare/internal/linux/syncfs"
)

func TestMain(m *testing.M) { layertest.Main(m) }

func TestWithoutQuota(t *testing.T) {
	dir := t.TempDir()
	if projquota.Enabled(dir) || projquota.Enabled(dir+"/none") {
		t.Error("enabled")
	}
	if err := projquota.Begin(1<<20, dir); err == nil {
		t.Error("a limit on a file system that has none")
	}
}

func TestLimit(t *testing.T) {
	for _, f := range []layertest.FileSystem{
		{Kind: "xfs", Mount: "pquota"},
		{Kind: "ext4", Make: []string{"-O", "project,quota"}, Mount: "prjquota"},
	} {
		t.Run(f.Kind, func(t *testing.T) { testLimit(t, f.MountQuota(t)) })
	}
}

func testLimit(t *testing.T, root string) {
	a, b, other := root+"/a", root+"/b", root+"/other"
	err := errors.Join(os.Mkdir(a, 0o700), os.Mkdir(b, 0o700), os.Mkdir(other, 0o700), projquota.Begin(4<<20, a, b), projquota.Begin(0, other))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := projquota.Used(root); !errors.Is(err, projquota.ErrNone) {
		t.Errorf("of the root: %v", err)
	}
	if err := os.WriteFile(a+"/f", make([]byte, 3<<20), 0o600); err != nil {
		t.Error(err)
	}
	// ext4 does not bind who has CAP_SYS_RESOURCE, which containers have not.
	out, err := exec.Command("setpriv", "--bounding-set=-sys_resource", "dd", "if=/dev/zero", "of="+b+"/f", "bs=1M", "count=3", "conv=fsync").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "No space left on device") && !strings.Contains(string(out), "Disk quota exceeded") {
		t.Errorf("6 MB of 4 in two directories: %v: %s", err, out)
	}
	if err := os.Rename(a+"/f", b+"/g"); err != nil {
		t.Errorf("rename in the project: %v", err)
	}
	if err := os.WriteFile(other+"/f", make([]byte, 6<<20), 0o600); err != nil {
		t.Errorf("without limit: %v", err)
	}
	if err := syncfs.All(root); err != nil {
		t.Fatal(err)
	}
	if bytes, inodes, err := projquota.Used(other); err != nil || bytes < 6<<20 || bytes > 7<<20 || inodes != 2 {
		t.Errorf("used: %d bytes, %d inodes, %v", bytes, inodes, err)
	}
	if err := errors.Join(projquota.End(a), projquota.End(root)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b+"/f", make([]byte, 3<<20), 0o600); err != nil {
		t.Errorf("after the end of the limit: %v", err)
	}
	if err := os.Remove(other + "/f"); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		bytes, _, err := projquota.Used(other)
		if err == nil && bytes < 1<<20 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after the removal: %d bytes, %v", bytes, err)
		}
	}
}
